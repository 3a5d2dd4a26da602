"""For plugin authors: checks of losses, and of evaluators that look at predictions. Their door is :mod:`agentft.testing`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentft.contracts import LossContext
from agentft.errors import AgentftError, DataError
from agentft.labelled import Labelled, Prediction
from agentft.records import Example, Message, Response, Sample

if TYPE_CHECKING:
    from torch import Tensor

# Kind of label -> rows ``(inputs, true label, predicted label, probabilities)``.
_TEXT = "我的卡在哪里？"
_KINDS: dict[str, list[tuple[dict[str, Any], Any, Any, dict[str, float]]]] = {
    "a class": [
        ({"text": "Where is my card?"}, "card", "card", {"card": 0.7, "refund": 0.3}),
        ({"text": _TEXT}, "card", "refund", {"card": 0.4, "refund": 0.6}),
        ({"text": "My money!"}, "refund", "refund", {"card": 0.1, "refund": 0.9}),
    ],
    "several classes": [
        ({"text": "Card and money"}, ["card", "refund"], ["card"], {"card": 0.8, "refund": 0.4}),
        ({"text": _TEXT}, ["card"], ["card", "refund"], {"card": 0.9, "refund": 0.6}),
        ({"text": "Hello"}, ["refund"], [], {"card": 0.2, "refund": 0.3}),
    ],
    "a number": [
        ({"text": "Good"}, 4.5, 4.0, {"value": 4.0}),
        ({"text": "好"}, 3.0, 3.5, {"value": 3.5}),
        ({"text": "Bad"}, 1.0, 2.0, {"value": 2.0}),
    ],
    "tags": [
        ({"tokens": ["Ann", "Lee", "left"]}, ["B-PER", "I-PER", "O"], ["B-PER", "O", "O"], {}),
        ({"tokens": ["去", "上", "海"]}, ["O", "B-LOC", "I-LOC"], ["O", "B-LOC", "I-LOC"], {}),
    ],
    "spans": [
        ({"question": "Who?", "context": "It is Ann."}, [{"text": "Ann", "start": 6}], [{"text": "Ann", "start": 6}], {}),
        ({"question": "谁？", "context": "是安娜。"}, [{"text": "安娜", "start": 1}], [], {}),
    ],
}


def fake_predictions(rows: Iterable[tuple[Any, ...]]) -> list[Prediction]:
    """Predictions ``p1``, ``p2`` ... from ``(text or inputs, true label, predicted label)`` or these and class -> probability.

    A predicted label of None is a row that could not be predicted.
    """
    found = []
    for number, (given, true, predicted, *rest) in enumerate(rows, 1):
        row = Labelled(f"p{number}", {"text": given} if isinstance(given, str) else dict(given), true)
        scores = dict(rest[0]) if rest else {}
        found.append(Prediction(row, predicted, scores, "" if predicted is not None else "out of memory"))
    return found


def prediction_problems(problems_of: Callable[[Sequence[Any]], list[str]], call: Callable[[Sequence[Any]], Any]) -> list[str]:
    """How an evaluator with ``consumes="prediction"`` breaks its contract.

    It is called with predictions of each kind of label, one of them failed and one without probabilities, and for classes and numbers
    with the same from a chat model (samples whose prompts have ``meta.label``). Of kinds that it is not made for it says so in a
    :class:`~agentft.errors.DataError`; one kind it has to take.

    Args:
        problems_of: the checks that every evaluator gets. call: the evaluator, with everything but its samples bound.
    """
    problems: list[str] = []
    kinds_taken = 0
    for kind, rows in _KINDS.items():
        predictions = fake_predictions(rows)
        failed = replace(predictions[-1], row=replace(predictions[-1].row, id="failed"), label=None, scores={}, error="out of memory")
        bare = replace(predictions[0], row=replace(predictions[0].row, id="bare"), scores={})
        given: dict[str, Sequence[Any]] = {kind: [*predictions, bare, failed]}
        if kind in ("a class", "a number"):
            given[f"{kind}, from a chat model"] = [*map(_said, predictions), _said(failed)]
        took = False
        for name, samples in given.items():
            try:
                call(samples)
            except DataError as error:
                if not took:
                    break  # not made for this kind, and it says so
                problems.append(f"{name}: {error}; read samples with agentft.evaluate.predictions.of_kind")
            except Exception as error:
                problems.append(f"{name}: raises {type(error).__name__}: {error}")
            else:
                took = True
                problems += [f"{name}: {problem}" for problem in problems_of(samples)]
        kinds_taken += took
    return problems if kinds_taken or problems else [f"takes no kind of label ({', '.join(_KINDS)})"]


def _said(one: Prediction) -> Sample:
    """The same row as a chat model would answer it."""
    names = ["card", "refund"] if isinstance(one.row.label, str) else None
    meta = {"label": one.row.label} | ({"labels": names, "choices": names} if names else {})
    prompt = Example(one.id, (Message("user", one.row.text),), meta=meta)
    if one.label is None:
        return Sample(prompt, Response(one.id, "", "error", error=one.error))
    return Sample(prompt, Response(one.id, str(one.label)), choices=one.scores if names else {})


def check_loss(loss: Callable[..., Any], consumes: str = "any", config: Any = None) -> None:
    """Check a loss's contract on a few rows, as trainers with heads call it (:data:`agentft.contracts.Loss`).

    It gives one finite number per row, none for no row, whatever else is in the batch; a right answer costs less than a wrong one,
    also where logits are far apart; gradients are finite; inputs stay as they are; twice the same. A loss that is not made for
    several classes a row may say so in a :class:`~agentft.errors.TrainingError`.

    Args:
        consumes: ``class``, ``number`` or ``any``, as in the :class:`~agentft.components.LossSpec`.
    """
    if problems := loss_problems(loss, consumes, config):
        raise AssertionError("\n".join([f"{len(problems)} problems:", *problems]))


def loss_problems(loss: Callable[..., Any], consumes: str, config: Any) -> list[str]:
    """What :func:`check_loss` finds."""
    import torch

    one_hot = torch.eye(3)
    cases: dict[str, tuple[Tensor, Tensor, LossContext]] = {}
    if consumes in ("class", "any"):
        right = torch.tensor([0, 2, 1, 0])
        cases["one class"] = 2 * one_hot[right] - 1, right, LossContext("classify", ("a", "b", "c"), (2, 1, 1))
        cases["tags"] = cases["one class"][0], right, LossContext("tag", ("O", "B-X", "I-X"), (2, 1, 1))
        several = torch.tensor([[1.0, 1, 0], [0, 0, 1], [0, 1, 1], [1, 0, 0]])
        cases["several classes"] = 2 * several - 1, several, LossContext("classify", ("a", "b", "c"), (2, 2, 2), multi=True)
    if consumes in ("number", "any"):
        numbers = torch.tensor([-1.0, 0.5, 2.0, 0.0])
        cases["numbers"] = numbers[:, None], numbers, LossContext("regress")
    problems: list[str] = []
    for name, (best, targets, ctx) in cases.items():
        try:
            found = _on_rows(loss, best, targets, config, ctx)
        except AgentftError as error:
            found = [] if ctx.multi else [f"refuses: {error}"]
        except Exception as error:
            found = [f"raises {type(error).__name__}: {error}"]
        problems += [f"{name}: {problem}" for problem in found]
    return problems


def _on_rows(loss: Callable[..., Any], best: Tensor, targets: Tensor, config: Any, ctx: LossContext) -> list[str]:
    """Problems of one kind of target. ``best``: logits that answer rightly, about 1 away from 0; worse ones are made of them."""
    import torch

    def call(logits: Tensor, targets: Tensor = targets) -> Any:
        return loss(logits, targets, config, ctx)

    regress = ctx.task == "regress"
    near, far = (best + 0.1, best + 3) if regress else (2 * best, -2 * best)
    # Hardly decided, so that a loss with a margin has something to say too.
    logits = (0.2 * best + torch.linspace(-0.1, 0.1, best.numel()).view_as(best)).requires_grad_()
    before, aims = logits.detach().clone(), targets.clone()
    losses = call(logits)
    if not isinstance(losses, torch.Tensor) or losses.shape != (len(targets),):
        shape = tuple(losses.shape) if isinstance(losses, torch.Tensor) else type(losses).__name__
        return [f"gives {shape} for {len(targets)} rows; a loss gives one number per row, not averaged"]
    problems = []
    if not torch.equal(logits.detach(), before) or not torch.equal(targets, aims):
        problems.append("changes its inputs")
    if not torch.equal(losses.detach(), call(logits).detach()):
        problems.append("gives other numbers when it is called again")
    alone = torch.cat([call(logits[i : i + 1], targets[i : i + 1]).reshape(-1) for i in range(len(targets))])
    if alone.shape != losses.shape or not torch.allclose(alone, losses, rtol=1e-4, atol=1e-6):
        problems.append("a row's loss depends on the other rows; means and weights over rows are the trainer's")
    nothing = call(logits[:0], targets[:0])
    if tuple(nothing.shape) != (0,):
        problems.append(f"gives {tuple(nothing.shape)} for no row, not (0,): a batch may have no tag to learn")
    if not losses.requires_grad:
        return [*problems, "has no gradient: do not detach, and use no argmax"]
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    if not bool(gradient.any()) or not bool(gradient.isfinite().all()):
        problems.append("its gradient is zero or not finite")
    if not bool((call(near) < call(far)).all()):
        problems.append("a right answer does not cost less than a wrong one")
    extreme = (60 * best).requires_grad_()
    for what, wild in (("right", extreme), ("wrong", -extreme)):
        values = call(wild)
        (slope,) = torch.autograd.grad(values.sum(), extreme, allow_unused=True)
        if not bool(values.isfinite().all()) or (slope is not None and not bool(slope.isfinite().all())):
            problems.append(f"is not finite where logits are {what} and far apart (60 and -60); use log_softmax or logsigmoid")
            break
    return problems
