"""What several critics say about one answer, as one judgement: combined item by item."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agentft.records import Feedback, Verdict

DECIDED = ("pass", "fail")


@dataclass(frozen=True)
class Judgement:
    """All feedback on one response taken together.

    Attributes:
        verdicts: one per item, in the order in which critics named them.
        scores: critic -> scalar, for critics that give one.
        errors: critics that could not judge, with the reason.
        feedback_ids: what it was made from.
        critique: the critics' words, one after the other.
        edit: a person's version of the answer; empty if nobody wrote one.
    """

    response: str
    verdicts: tuple[Verdict, ...]
    scores: dict[str, float]
    errors: dict[str, str]
    feedback_ids: tuple[str, ...]
    critique: str = ""
    edit: str = ""

    @property
    def broken(self) -> tuple[str, ...]:
        """Hard items that fail. A response with any of them may be rejected, never chosen."""
        return tuple(v.item for v in self.verdicts if v.verdict == "fail" and v.severity == "hard")

    @property
    def failed(self) -> tuple[str, ...]:
        return tuple(v.item for v in self.verdicts if v.verdict == "fail")

    @property
    def passed(self) -> int:
        """Number of items passed."""
        return sum(v.verdict == "pass" for v in self.verdicts)

    @property
    def share(self) -> float:
        """Passed share of the decided items, NaN if none is decided."""
        decided = sum(v.verdict in DECIDED for v in self.verdicts)
        return self.passed / decided if decided else math.nan

    @property
    def score(self) -> float:
        """Mean of the critics' scalars, NaN where none gives one."""
        return math.fsum(self.scores.values()) / len(self.scores) if self.scores else math.nan


def combine(feedback: Iterable[Feedback]) -> dict[str, Judgement]:
    """Response id -> judgement.

    An item fails where any critic fails it, passes where one passes it and none fails it; a critic that did not
    decide it (``unscored``, ``n.a.``) has no vote. Severity is the strictest that was given.
    """
    by_response: dict[str, list[Feedback]] = {}
    for one in feedback:
        by_response.setdefault(one.response, []).append(one)
    return {response: _combine_one(response, given) for response, given in by_response.items()}


def _combine_one(response: str, given: Sequence[Feedback]) -> Judgement:
    judged = [one for one in given if not one.error]
    items: dict[str, list[Verdict]] = {}
    for one in judged:
        for verdict in one.verdicts:
            items.setdefault(verdict.item, []).append(verdict)
    return Judgement(
        response,
        tuple(_strictest(found) for found in items.values()),
        {one.critic: one.score for one in judged if not math.isnan(one.score)},
        {one.critic: one.error for one in given if one.error},
        tuple(one.id for one in given),
        "\n".join(one.critique for one in judged if one.critique),
        next((one.edit for one in judged if one.edit), ""),
    )


def _strictest(verdicts: Sequence[Verdict]) -> Verdict:
    order = ("fail", "pass", "unscored", "n.a.")
    first = min(verdicts, key=lambda verdict: order.index(verdict.verdict))
    hard = any(verdict.severity == "hard" for verdict in verdicts)
    return Verdict(first.item, first.verdict, first.evidence, "hard" if hard else "soft", first.kind)
