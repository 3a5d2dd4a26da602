"""Results broken down: the mean of a score on the prompts of one intent, one language, one kind."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agentft.evaluate.statistics import holm, mean_ci, paired_difference
from agentft.records import Example, Score

NONE = "(none)"


def slices_of(prompts: Iterable[Example], keys: Sequence[str]) -> dict[str, dict[str, str]]:
    """Prompt id -> key -> value, from ``meta``; a prompt without the key belongs to ``(none)``."""
    return {prompt.id: {key: _text(prompt.meta.get(key)) for key in keys} for prompt in prompts}


def _text(value: Any) -> str:
    if value is None or value == "":
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def shown(scores: Sequence[Score]) -> list[Score]:
    """The scores that a table of slices has: those with a value per sample that are no parts of another one."""
    return [score for score in scores if score.per_sample and ("/" not in score.name or score.name.startswith("relevance/"))]


def slice_table(
    scores: Sequence[Score], slices: Mapping[str, Mapping[str, str]], groups: Mapping[str, str], seed: int = 0
) -> list[dict[str, Any]]:
    """One row for each value of each key and score: ``key, slice, score, value, ci, n, unscored, unit, direction``, largest slice first."""
    rows = []
    for key, name, members in _members(slices):
        for score in shown(scores):
            values = {one: score.per_sample[one] for one in sorted(members & score.per_sample.keys())}
            scored = {one: value for one, value in values.items() if not math.isnan(value)}
            if not values:
                continue
            numbers, labels = list(scored.values()), [groups.get(one, one) for one in scored]
            rows.append(
                {
                    "key": key,
                    "slice": name,
                    "score": score.name,
                    "value": math.fsum(numbers) / len(numbers) if numbers else None,
                    "ci": _listed(mean_ci(numbers, labels, seed=seed) if numbers else None),
                    "n": len(numbers),
                    "unscored": len(values) - len(numbers),
                    "unit": score.unit,
                    "direction": score.direction,
                }
            )
    return rows


def paired_slices(
    first: Sequence[Score],
    second: Sequence[Score],
    slices: Mapping[str, Mapping[str, str]],
    groups: Mapping[str, str],
    seed: int = 0,
    *,
    alpha: float = 0.05,
) -> list[dict[str, Any]]:
    """The same for two agents: ``key, slice, score, first, second, difference, ci, n, p, adjusted_p, verdict, unit, direction``.

    A verdict needs an interval that excludes 0 and a p-value below ``alpha`` after Holm's adjustment over the slices of the score: who
    looks at many slices finds a difference in one of them by chance.
    """
    by_name = {score.name: score for score in second}
    rows: list[dict[str, Any]] = []
    for key, name, members in _members(slices):
        for left in shown(first):
            right = by_name.get(left.name)
            both = sorted(members & left.per_sample.keys() & right.per_sample.keys()) if right else []
            pairs = [(one, left.per_sample[one], right.per_sample[one]) for one in both] if right else []
            pairs = [pair for pair in pairs if not math.isnan(pair[1] + pair[2])]
            if not pairs:
                continue
            labels = [groups.get(one, one) for one, _, _ in pairs]
            before, after = [pair[1] for pair in pairs], [pair[2] for pair in pairs]
            found = paired_difference(before, after, labels, seed=seed, confidence=1 - alpha)
            rows.append(
                {
                    "key": key,
                    "slice": name,
                    "score": left.name,
                    "first": math.fsum(before) / len(before),
                    "second": math.fsum(after) / len(after),
                    "difference": found.difference,
                    "ci": _listed(found.ci),
                    "n": found.n,
                    "p": found.p,
                    "unit": left.unit,
                    "direction": left.direction,
                }
            )
    tested = [row for row in rows if row["direction"] != "none"]
    for score in dict.fromkeys(row["score"] for row in tested):
        family = [row for row in tested if row["score"] == score]
        for row, p in zip(family, holm([row["p"] for row in family]), strict=True):
            row["adjusted_p"] = p
    for row in rows:
        row.setdefault("adjusted_p", None)
        row["verdict"] = _verdict(row, alpha)
    return rows


def _verdict(row: Mapping[str, Any], alpha: float) -> str:
    if row["direction"] == "none":
        return "info"
    ci = row["ci"]
    if ci is None or ci[0] <= 0 <= ci[1] or row["adjusted_p"] >= alpha:
        return "inconclusive"
    return "better" if (row["difference"] > 0) == (row["direction"] == "higher") else "worse"


def _members(slices: Mapping[str, Mapping[str, str]]) -> list[tuple[str, str, set[str]]]:
    """Key, value and the samples of every slice: keys in their order, the largest slice of each first."""
    found: dict[str, dict[str, set[str]]] = {}
    for sample, values in slices.items():
        for key, value in values.items():
            found.setdefault(key, {}).setdefault(value, set()).add(sample)
    return [
        (key, value, members)
        for key, of_key in found.items()
        for value, members in sorted(of_key.items(), key=lambda one: (-len(one[1]), one[0]))
    ]


def _listed(ci: tuple[float, float] | None) -> list[float] | None:
    return list(ci) if ci else None
