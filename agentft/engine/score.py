"""Log-probabilities of the supervised tokens of a batch; the one forward pass of training and of scoring.

The output layer is applied only where a label is. For a 135M model with 49,152 tokens it is a fifth of all arithmetic, and
its logits are by far the largest tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from agentft.engine.tree import Tree, grow, refuse, why_not
from agentft.engine.tree_attention import NotShared, attending, no_longer
from agentft.engine.virtual import in_hidden_states

T = TypeVar("T")
# A tree is used where it has at most this share of the padded rows' tokens.
SAVED = 0.95
# Logits of one pass when scoring: 2 ** 27 are half a gigabyte in float32.
LOGITS = 1 << 27


def pad(rows: Sequence[Sequence[int]], value: int) -> Any:
    """``rows`` as one int64 tensor of shape (rows, longest), padded on the right with ``value``."""
    import torch

    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])


def token_losses(
    model: Any, input_ids: Any, attention_mask: Any, labels: Any, *, share_prefix: bool = True, smoothing: float = 0.0
) -> tuple[Any, Any]:
    """Negative log-likelihood (natural logarithm) of each supervised token.

    Args:
        model: a causal language model of transformers, a PEFT model around one, or a wrapper for several processes around it.
        input_ids: (B, T), padded on the right.
        attention_mask: (B, T), 0 on padding.
        labels: (B, T), -100 where nothing is learned. ``labels[:, t]`` is predicted at position ``t - 1``.
        share_prefix: run what rows have in common once (see :mod:`agentft.engine.tree`). Not done where
            :func:`agentft.engine.tree.why_not` has a reason.
        smoothing: label smoothing (Szegedy et al. 2016): with e, the loss is ``(1 - e) * nll + e * mean over the vocabulary of -log p``.

    Returns:
        losses: (N,) float32, N = number of supervised tokens, row by row.
        rows: (N,) int64, the row that each of them belongs to.
    """
    import torch.nn.functional as F

    mask = F.pad(labels[:, 1:], (0, 1), value=-100) != -100
    targets = labels[:, 1:][mask[:, :-1]]
    logits = _tree_logits(model, input_ids, attention_mask, mask) if share_prefix else None
    if logits is None:
        logits = _row_logits(model, input_ids, attention_mask, mask)
    losses = F.cross_entropy(logits.float(), targets.to(logits.device), reduction="none", label_smoothing=smoothing)
    return losses, mask.nonzero()[:, 0]


def summed(
    model: Any,
    rows: Sequence[tuple[int, Sequence[int], Sequence[int]]],
    count: int,
    *,
    size: int,
    pad_token_id: int,
    share_prefix: bool = True,
) -> list[tuple[float, int]]:
    """Sum of the log-probabilities (natural logarithm) of the supervised tokens, and their number, per owner.

    Args:
        rows: owner below ``count``, token ids, labels; run in this order, up to ``size`` at a time, fewer where their logits would be
            more than ``LOGITS``. What follows one another and begins alike is run once.
    """
    import torch

    sums, counts = [0.0] * count, [0] * count
    room = LOGITS // model.config.get_text_config().vocab_size
    for batch in _batches(rows, size, room):
        tensors = (
            pad([ids for _, ids, _ in batch], pad_token_id),
            pad([[1] * len(ids) for _, ids, _ in batch], 0),
            pad([labels for _, _, labels in batch], -100),
        )
        with torch.inference_mode():
            losses, owner = token_losses(model, *(tensor.to(model.device) for tensor in tensors), share_prefix=share_prefix)
        for loss, row in zip(losses.tolist(), owner.tolist(), strict=True):
            sums[batch[row][0]] -= loss
            counts[batch[row][0]] += 1
    return list(zip(sums, counts, strict=True))


def _batches(rows: Sequence[tuple[int, Sequence[int], Sequence[int]]], size: int, room: int) -> Iterator[list[Any]]:
    """Up to ``size`` rows with up to ``room`` labels, or a single one with more."""
    batch: list[Any] = []
    labels = 0
    for row in rows:
        more = sum(label != -100 for label in row[2])
        if batch and (len(batch) == size or labels + more > room):
            yield batch
            batch, labels = [], 0
        batch.append(row)
        labels += more
    if batch:
        yield batch


def on_tree(model: Any, input_ids: Any, attention_mask: Any, run: Callable[[Tree], T]) -> T | None:
    """``run`` with the rows as a tree, inside of which ``model`` runs over it (:func:`tree_inputs`).

    Returns: what ``run`` returned, or None where a tree saves nothing or the model must see ordinary rows.
    """
    inner = unwrapped(model)
    if len(input_ids) < 2 or why_not(inner):
        return None
    rows = [row[:length] for row, length in zip(input_ids.tolist(), attention_mask.sum(1).tolist(), strict=True)]
    tree = grow(rows, input_ids.device)
    if len(tree) > SAVED * input_ids.numel():
        return None
    try:
        with attending(inner):
            return run(tree)
    except NotShared as error:
        refuse(inner, str(error))
        return None


def unwrapped(model: Any) -> Any:
    """The model below what torch and accelerate put around it for several processes."""
    if not hasattr(model, "module"):
        return model
    from accelerate.utils import extract_model_from_parallel

    return extract_model_from_parallel(model)


def bare(model: Any) -> Any:
    """The model of transformers inside of what PEFT and accelerate put around it; adapters are in its layers."""
    model = unwrapped(model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _row_logits(model: Any, input_ids: Any, attention_mask: Any, mask: Any) -> Any:
    """(N, V): logits at the positions of ``mask`` (B, T)."""
    import torch.nn.functional as F

    inner = unwrapped(model)
    no_longer(inner)
    seen = F.pad(mask, (in_hidden_states(inner), 0), value=False)
    with only_where(inner, seen):
        logits = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
    # (1, N, V), or (B, T, V) for a model whose output layer could not be found
    return logits[0] if logits.shape[0] == 1 and logits.shape[1] == int(mask.sum()) else logits[seen]


def _tree_logits(model: Any, input_ids: Any, attention_mask: Any, mask: Any) -> Any:
    """As :func:`_row_logits`, or None where rows cannot or need not be a tree."""
    import torch

    def run(tree: Tree) -> Any:
        where = torch.cat([place[wanted[: len(place)]] for place, wanted in zip(tree.places, mask, strict=True)])
        # Labels in what rows share: one forward pass, one row of logits, several losses.
        once, again = where.unique(return_inverse=True)
        chosen = torch.zeros(1, len(tree), dtype=torch.bool, device=where.device)
        chosen[0, once] = True
        with only_where(unwrapped(model), chosen):
            logits = model(**tree_inputs(tree), use_cache=False).logits[0]
        if len(logits) != len(once):
            return logits[where]
        return logits if torch.equal(once, where) else logits[again]

    return on_tree(model, input_ids, attention_mask, run)


def tree_inputs(tree: Tree) -> dict[str, Any]:
    """Arguments of a forward pass over ``tree``, within :func:`~agentft.engine.tree_attention.attending`."""
    return {"input_ids": tree.input_ids[None], "position_ids": tree.positions[None], "tree": tree}


class only_where:
    """Inside the block, the output layer of ``model`` sees only the positions where ``mask`` (B, T) is true, as (1, N, hidden).

    A hook on the layer's input instead of a forward pass of our own: what a model does with its logits afterwards
    (soft capping, scaling) still happens.
    """

    def __init__(self, model: Any, mask: Any):
        self.head, self.mask = model.get_output_embeddings(), mask

    def __enter__(self) -> None:
        def select(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return args[0][self.mask.to(args[0].device)][None], *args[1:]

        self.handle = self.head.register_forward_pre_hook(select) if self.head is not None else None

    def __exit__(self, *_: Any) -> None:
        if self.handle is not None:
            self.handle.remove()
