"""``persona-adherence``: does the answer do what the persona's checklist says? Exact: decided by the persona's rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentft.contracts import EvalContext, Generate
from agentft.evaluate.common import NAN, failed, groups_of, score_from
from agentft.records import Sample, Score, Verdict

DECIDED = ("pass", "fail")


def persona_adherence(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """Share of checklist items that an answer passes, per item, and the share of answers that break a hard item.

    Returns:
        ``persona-adherence``: mean over samples of passed / (passed + failed) items; ``details``: sample id -> verdicts.
        ``persona-adherence/ITEM``: share of answers that pass the item, among those it applies to.
        ``hard-violations``: share of answers that break at least one hard item (lower is better); left out when the
        persona has no hard items.

    An item without a rule is ``unscored``: it is NaN in its own score and left out of the overall one, which says how many
    there are. A failed generation is NaN for every item that its prompt is subject to. An answer that calls a tool is left out where
    the checklist has nothing to say about it yet.
    """
    groups = groups_of(samples)
    verdicts = {sample.id: _check(sample, ctx) for sample in samples}
    items = list(dict.fromkeys(verdict.item for of_sample in verdicts.values() for verdict in of_sample))
    without_rule = [policy.id for policy in ctx.persona.policies if policy.rule is None]
    left_out = f"; not decided by rules and left out: {', '.join(without_rule)}" if without_rule else ""
    scores = [
        score_from(
            "persona-adherence",
            _present({key: _share(of_sample) for key, of_sample in verdicts.items()}),
            groups,
            seed=ctx.seed,
            summary=f"share of the persona's checklist items that an answer passes{left_out}",
            details={key: [verdict.to_dict() for verdict in of_sample] for key, of_sample in verdicts.items()},
        )
    ]
    hard = {key: [v for v in of_sample if v.severity == "hard"] for key, of_sample in verdicts.items()}
    if any(hard.values()):
        scores.append(
            score_from(
                "hard-violations",
                _present({key: _breaks(of_sample) for key, of_sample in hard.items()}),
                groups,
                seed=ctx.seed,
                direction="lower",
                summary="share of answers that break at least one hard item",
            )
        )
    return scores + [_item_score(item, verdicts, groups, ctx) for item in items]


def _check(sample: Sample, ctx: EvalContext) -> list[Verdict]:
    if not failed(sample):
        return ctx.persona.check_message(sample.response.message, sample.prompt)
    # Whether an item applies depends on the prompt alone, so an empty answer tells which items could not be judged.
    asked = ctx.persona.check("", sample.prompt)
    reason = f"generation failed: {sample.response.error}"
    return [v if v.verdict == "n.a." else Verdict(v.item, "unscored", reason, v.severity, v.kind) for v in asked]


def _share(verdicts: Sequence[Verdict]) -> float | None:
    """Passed share of the decided items; NaN if none is decided though some apply; None if none applies."""
    decided = [v for v in verdicts if v.verdict in DECIDED]
    if decided:
        return sum(v.verdict == "pass" for v in decided) / len(decided)
    return NAN if any(v.verdict == "unscored" for v in verdicts) else None


def _breaks(hard: Sequence[Verdict]) -> float | None:
    share = _share(hard)
    return share if share is None or share != share else float(share < 1)


def _item_score(item: str, verdicts: Mapping[str, Sequence[Verdict]], groups: Mapping[str, str], ctx: EvalContext) -> Score:
    of_item = {key: [v for v in of_sample if v.item == item] for key, of_sample in verdicts.items()}
    first = next(found[0] for found in of_item.values() if found)
    text = next((policy.text for policy in ctx.persona.policies if policy.id == item), item)
    values = _present({key: _share(found) for key, found in of_item.items()})
    return score_from(f"persona-adherence/{item}", values, groups, seed=ctx.seed, summary=f"{text} ({first.severity}, {first.kind})")


def _present(values: Mapping[str, float | None]) -> dict[str, float]:
    return {key: value for key, value in values.items() if value is not None}
