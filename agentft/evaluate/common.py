"""Helpers for writing an evaluator; plugins are welcome to them.

A whole metric, right about failed generations, intervals and clusters::

    def question_marks(samples, generate, config, ctx):
        return [sample_score("question-marks", samples, lambda s: s.text.count("?"), ctx, direction="none", unit="marks")]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from agentft.contracts import EvalContext
from agentft.engine.optional import available as available
from agentft.engine.optional import need as need
from agentft.errors import DataError
from agentft.evaluate.statistics import Interval, mean_ci
from agentft.records import Direction, Example, Sample, Score

NAN = math.nan


def failed(sample: Sample) -> bool:
    """True when the generation failed, so that there is no answer to judge."""
    return sample.response.finish == "error"


def groups_of(samples: Iterable[Sample]) -> dict[str, str]:
    """Sample id -> its group: the clusters of every interval.

    Raises:
        DataError: two samples have the same id, so that one would hide the other.
    """
    groups: dict[str, str] = {}
    for sample in samples:
        if sample.id in groups:
            raise DataError(f"two evaluation prompts have the id '{sample.id}'; ids must be unique")
        groups[sample.id] = sample.prompt.group_key
    return groups


def per_sample(samples: Sequence[Sample], measure: Callable[[Sample], float | bool | None]) -> dict[str, float]:
    """Sample id -> value, for ``Score.per_sample``.

    ``measure`` gives a number, NaN for "ought to be scored and could not", or None for "does not apply to this answer". A
    failed generation is NaN and is not measured; pass only the samples whose prompt the metric is about.

    Raises:
        DataError: two samples have the same id.
    """
    groups_of(samples)
    values = {sample.id: NAN if failed(sample) else measure(sample) for sample in samples}
    return {key: float(value) for key, value in values.items() if value is not None}


def score_from(
    name: str,
    values: Mapping[str, float],
    groups: Mapping[str, str] | None = None,
    *,
    seed: int = 0,
    value: float | None = None,
    ci: Interval | None = None,
    direction: Direction = "higher",
    unit: str = "share",
    summary: str = "",
    details: Mapping[str, Any] | None = None,
) -> Score:
    """A :class:`Score` from per-sample values.

    ``value`` and ``ci`` are the mean of the values that are not NaN and its 95 % interval by clusters (``groups``: sample id ->
    group; an id that is not in it stands alone). Where ``value`` is given it is a corpus-level figure that the
    per-sample values only stand for (BLEU, for example); the interval is then ``ci`` (see
    :func:`~agentft.evaluate.statistics.statistic_ci`), because that of the mean is not that of the figure.
    """
    scored = {key: values[key] for key in sorted(values) if not math.isnan(values[key])}
    numbers = list(scored.values())
    labels = [(groups or {}).get(key, key) for key in scored]
    mean = math.fsum(numbers) / len(numbers) if numbers else NAN
    return Score(
        name=name,
        value=mean if value is None else value,
        n=len(numbers),
        direction=direction,
        per_sample=dict(values),
        ci=(mean_ci(numbers, labels, seed=seed) if numbers else None) if value is None else ci,
        unit=unit,
        summary=summary,
        details=dict(details or {}),
    )


def sample_score(
    name: str,
    samples: Sequence[Sample],
    measure: Callable[[Sample], float | bool | None],
    ctx: EvalContext,
    *,
    direction: Direction = "higher",
    unit: str = "share",
    summary: str = "",
    details: Mapping[str, Any] | None = None,
) -> Score:
    """:func:`per_sample` and :func:`score_from` in one: the mean of ``measure`` over the samples."""
    return score_from(
        name,
        per_sample(samples, measure),
        groups_of(samples),
        seed=ctx.seed,
        direction=direction,
        unit=unit,
        summary=summary,
        details=details,
    )


def fact_groups(prompt: Example) -> list[list[str]]:
    """``meta.facts`` of a prompt: groups of alternatives, each of which a good answer tells once; empty if there are none.

    Raises:
        DataError: the shape is not a list of lists of texts.
    """
    facts = prompt.meta.get("facts") or []
    good = isinstance(facts, Sequence) and not isinstance(facts, str)
    good = good and all(isinstance(group, Sequence) and not isinstance(group, str) and group for group in facts)
    if not good:
        raise DataError(f"prompt '{prompt.id}': meta.facts must be a list of lists of texts, such as [['refund'], ['5 days', 'five days']]")
    return [[str(one) for one in group] for group in facts]


def with_reference(samples: Sequence[Sample]) -> list[Sample]:
    """The samples whose prompt has a demonstrated answer that is not empty."""
    return [sample for sample in samples if sample.reference and sample.reference.strip()]
