"""``policy`` and ``resolution``: what an answer does for the customer, decided by the persona's own rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentft.contracts import EvalContext, Generate
from agentft.evaluate.common import NAN, fact_groups, sample_score
from agentft.records import Sample, Score, Verdict
from agentft.rules import fact_share

NEXT_STEP = "next-step"  # the id that the personas of this plugin give to "names one concrete next step"


def policy(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """The items of the checklist that matter beyond form: those of kind ``substance`` and all hard ones.

    Returns:
        ``policy``: share of these items that an answer passes.
        ``policy/kept``: share of answers that pass all of them. Look at this one: a friendly sentence without content
            passes most prohibitions and so half of ``policy``, but hardly ever all.
    """
    details: dict[str, Any] = {}

    def share(sample: Sample) -> float | None:
        verdicts = _verdicts(sample, ctx)
        details[sample.id] = [verdict.to_dict() for verdict in verdicts]
        decided = [verdict.verdict == "pass" for verdict in verdicts if verdict.verdict in ("pass", "fail")]
        if decided:
            return sum(decided) / len(decided)
        return NAN if any(verdict.verdict == "unscored" for verdict in verdicts) else None

    def kept(sample: Sample) -> float | None:
        passed = share(sample)
        return passed if passed is None or passed != passed else float(passed == 1)

    what = "substance and hard checklist items"
    return [
        sample_score("policy", samples, share, ctx, summary=f"share of the {what} that an answer passes", details=details),
        sample_score("policy/kept", samples, kept, ctx, summary=f"answers that pass all {what}"),
    ]


def resolution(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """One number for "does this answer help": share of facts told x next step named x no hard item broken.

    For prompts with ``meta.facts``. The facts are exact strings and the next step is the persona's item ``next-step`` (a
    persona without one is not asked for it), so this says that the right things are named, not that the case is
    solved or that nothing wrong is said beside them.
    """
    asked = [sample for sample in samples if fact_groups(sample.prompt)]

    def helped(sample: Sample) -> float:
        verdicts = ctx.persona.check(sample.text, sample.prompt)
        blocked = any(v.verdict == "fail" and (v.severity == "hard" or v.item == NEXT_STEP) for v in verdicts)
        return 0.0 if blocked else fact_share(sample.text, fact_groups(sample.prompt))[0]

    return [sample_score("resolution", asked, helped, ctx, summary="facts told x next step named x no hard item broken")]


def _verdicts(sample: Sample, ctx: EvalContext) -> list[Verdict]:
    verdicts = ctx.persona.check(sample.text, sample.prompt)
    return [verdict for verdict in verdicts if verdict.kind == "substance" or verdict.severity == "hard"]
