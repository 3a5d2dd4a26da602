"""Base against tuned: every score paired sample by sample, with an interval, a test and a verdict."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from agentft.errors import PluginError
from agentft.evaluate.statistics import Interval, mean_ci, paired_difference
from agentft.evaluate.statistics import holm as holm_adjusted
from agentft.records import Direction, Score

Verdict = Literal["better", "worse", "inconclusive", "info"]
ALPHA = 0.05


@dataclass(frozen=True)
class Comparison:
    """One score of two agents.

    Attributes:
        base, tuned: means over the samples that were scored for *both*, so that ``difference = tuned - base`` holds. For
            corpus-level scores (BLEU, chrF, distinct-2) these are means of the per-sample values, whereas
            ``base_value`` and ``tuned_value`` are the corpus figures, each over everything its own agent was scored on.
        ci: 95 % interval of the difference, clusters resampled; base_ci, tuned_ci: of the two means, or of the corpus figures.
        p: two-sided, see ``test``.
        adjusted_p: Holm over the score's family (see :func:`compare`); None where nothing is tested.
        n: number of pairs. unscored_base, unscored_tuned: samples that ought to have been scored and were not.
        smallest_detectable: true difference that this many prompts would show with 80 % power (absolute; NaN if unknown).
        verdict: ``better`` or ``worse`` in the score's own direction, ``inconclusive``, or ``info`` for scores that
            are only to be looked at (no direction, or one figure for the corpus without per-sample values).
    """

    name: str
    base: float
    tuned: float
    difference: float
    ci: Interval | None
    p: float | None
    adjusted_p: float | None
    n: int
    unscored_base: int
    unscored_tuned: int
    smallest_detectable: float
    verdict: Verdict
    direction: Direction
    unit: str
    base_ci: Interval | None = None
    tuned_ci: Interval | None = None
    base_value: float = math.nan
    tuned_value: float = math.nan
    test: str = ""
    summary: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON data; NaN becomes None."""
        data = {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in asdict(self).items()}
        return data | {key: list(ci) for key in ("ci", "base_ci", "tuned_ci") if (ci := data[key])}


def compare(
    base_scores: Sequence[Score],
    tuned_scores: Sequence[Score],
    groups: Mapping[str, str] | None = None,
    seed: int = 0,
    *,
    resamples: int = 2000,
    permutations: int = 9999,
    alpha: float = ALPHA,
) -> list[Comparison]:
    """Compare two evaluations of the same prompts, in the order of ``base_scores``.

    Args:
        groups: sample id -> group (customer, conversation, problem); groups are resampled and flipped as a whole. An id
            that is not in it stands alone.
        alpha: significance level; the intervals are at ``1 - alpha``.

    A verdict other than ``inconclusive`` needs both: the interval excludes 0 and the Holm-adjusted p is below ``alpha``. The
    families of the adjustment: all headline scores (no slash in the name) together, and the parts of one metric
    (``persona-adherence/...``) among themselves, so that a checklist of twelve items does not cost the headline its power.
    A score that only one of the two has (a plugin that failed half-way, say) is listed with n = 0.

    Raises:
        PluginError: two scores of one evaluation have the same name, or the two evaluations disagree on a direction.
    """
    base, tuned = _by_name(base_scores, "base"), _by_name(tuned_scores, "tuned")
    result = [
        _compare_one(base.get(name), tuned.get(name), groups or {}, seed, resamples, permutations, alpha)
        for name in dict.fromkeys([*base, *tuned])
    ]
    families: dict[str, list[int]] = defaultdict(list)
    for index, one in enumerate(result):
        if one.verdict != "info" and one.p is not None:
            families[one.name.partition("/")[0] if "/" in one.name else ""].append(index)
    for members in families.values():
        adjusted = holm_adjusted([result[index].p or 0.0 for index in members])
        for index, p in zip(members, adjusted, strict=True):
            result[index] = replace(result[index], adjusted_p=p, verdict=_verdict(result[index], p, alpha))
    return result


def _by_name(scores: Sequence[Score], arm: str) -> dict[str, Score]:
    twice = [name for name, count in Counter(score.name for score in scores).items() if count > 1]
    if twice:
        raise PluginError(f"two scores of the {arm} evaluation are called '{twice[0]}'; an evaluator must name each of its scores once")
    return {score.name: score for score in scores}


def _compare_one(
    base: Score | None,
    tuned: Score | None,
    groups: Mapping[str, str],
    seed: int,
    resamples: int,
    permutations: int,
    alpha: float,
) -> Comparison:
    known = base or tuned
    assert known is not None
    if base and tuned and base.direction != tuned.direction:
        raise PluginError(f"score '{known.name}' is '{base.direction}' for the base model and '{tuned.direction}' for the tuned one")
    pairs = _pairs(base, tuned)
    base_value, tuned_value = base.value if base else math.nan, tuned.value if tuned else math.nan
    corpus_only = not pairs and not (base and base.per_sample) and not (tuned and tuned.per_sample)
    one = Comparison(
        name=known.name,
        base=base_value if corpus_only else math.nan,
        tuned=tuned_value if corpus_only else math.nan,
        difference=tuned_value - base_value if corpus_only else math.nan,
        ci=None,
        p=None,
        adjusted_p=None,
        n=0,
        unscored_base=base.unscored if base else 0,
        unscored_tuned=tuned.unscored if tuned else 0,
        smallest_detectable=math.nan,
        verdict="info" if known.direction == "none" or (corpus_only and base and tuned) else "inconclusive",
        direction=known.direction,
        unit=known.unit,
        base_value=base_value,
        tuned_value=tuned_value,
        base_ci=base.ci if base and corpus_only else None,
        tuned_ci=tuned.ci if tuned and corpus_only else None,
        summary=known.summary,
    )
    if not pairs:
        return one
    left, right = [pair[1] for pair in pairs], [pair[2] for pair in pairs]
    labels = [groups.get(key, key) for key, _, _ in pairs]
    options: dict[str, Any] = {"seed": seed, "resamples": resamples, "confidence": 1 - alpha}
    paired = paired_difference(left, right, labels, permutations=permutations, **options)
    return replace(
        one,
        base=math.fsum(left) / len(left),
        tuned=math.fsum(right) / len(right),
        difference=paired.difference,
        ci=paired.ci,
        base_ci=mean_ci(left, labels, **options),
        tuned_ci=mean_ci(right, labels, **options),
        p=paired.p,
        n=paired.n,
        smallest_detectable=paired.smallest_detectable,
        test=paired.test,
    )


def _pairs(base: Score | None, tuned: Score | None) -> list[tuple[str, float, float]]:
    """Samples scored in both, sorted by id so that the order of the prompts changes nothing."""
    if base is None or tuned is None:
        return []
    both = sorted(base.per_sample.keys() & tuned.per_sample.keys())
    triples = [(key, base.per_sample[key], tuned.per_sample[key]) for key in both]
    return [triple for triple in triples if not (math.isnan(triple[1]) or math.isnan(triple[2]))]


def _verdict(one: Comparison, adjusted_p: float, alpha: float) -> Verdict:
    if one.ci is None or one.ci[0] <= 0 <= one.ci[1] or adjusted_p >= alpha:
        return "inconclusive"
    return "better" if (one.difference > 0) == (one.direction == "higher") else "worse"
