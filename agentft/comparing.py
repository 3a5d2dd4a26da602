"""Is B better than A? Everything that is said about two agents that answered the same prompts, as JSON-plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from agentft.errors import UserError, did_you_mean
from agentft.evaluate.compare import ALPHA, Comparison, compare
from agentft.evaluate.slices import paired_slices
from agentft.evaluate.winrate import Judged, WinRate, win_rate
from agentft.records import Score
from agentft.reporting import headline as usual_headline
from agentft.sides import Side, common, told_apart

CHANGED = 10
WIN_RATE, CONTROLLED = "win-rate", "length-controlled-win-rate"


def compare_sides(
    first: Side,
    second: Side,
    *,
    duels: Sequence[Judged] = (),
    words: Mapping[str, Sequence[str]] | None = None,
    judge: str = "",
    alpha: float = ALPHA,
    fail_on: Sequence[str] = (),
    headline: Sequence[str] = (),
    changed: int = CHANGED,
    seed: int = 0,
) -> dict[str, Any]:
    """Paired statistics, win rates, slices, and the samples that changed most.

    Args:
        duels, words: of :func:`agentft.duels.duel`; ``judge``: who decided them.
        alpha: significance level of all verdicts.
        fail_on: scores besides the headline on which a significant loss counts as worse; also ``win-rate`` and
            ``length-controlled-win-rate``, where the interval below one half does.
        headline: scores that decide; default: those of the suite, else adherence and relevance.

    Returns:
        ``first, second`` (names), ``n``, ``alpha``, ``headline``, ``comparisons``, ``slices``, ``wins``, ``changed``, ``items`` (one row a
        sample), ``worse`` (names, why the second may not follow the first), ``warnings``.

    Raises:
        UserError: the two have no scored sample in common, were asked different things under one id, or a name is unknown.
    """
    first, second = told_apart(first, second)
    both = common(first, second)
    groups = {**first.groups, **second.groups}
    rows = compare(first.scores, second.scores, groups, seed, alpha=alpha)
    if not any(row.n for row in rows):
        raise UserError(f"{first.where} and {second.where} have no scored sample in common; evaluate both on the same suite")
    wins = win_rate(duels, groups, seed, confidence=1 - alpha) if duels else None
    data = [row.to_dict() for row in rows]
    decisive = _decisive(rows, data, [*headline] or [*second.headline] or [*first.headline], fail_on, wins)
    of_slice = {name: second.samples[name].get("slices") or first.samples[name].get("slices") or {} for name in both}
    judged = {one.id: one for one in duels}
    items = [_item(name, first, second, rows, judged.get(name)) for name in both]
    ranked = sorted(
        (row for row in items if row["change"] or row["moved"]), key=lambda row: (-row["moved"], -abs(row["change"]), row["id"])
    )
    return {
        "kind": "comparison",
        "format": 1,
        "first": first.name,
        "second": second.name,
        "where": [first.where, second.where],
        "n": len(both) or max(row.n for row in rows),
        "alpha": alpha,
        "seed": seed,
        "headline": decisive,
        "comparisons": data,
        "slices": paired_slices(first.scores, second.scores, of_slice, groups, seed, alpha=alpha) if any(of_slice.values()) else [],
        "judge": judge,
        "wins": wins.to_dict() if wins else None,
        "worse": _worse(rows, wins, {*decisive, *fail_on}),
        "better": [row.name for row in rows if row.verdict == "better"],
        "items": [{key: value for key, value in row.items() if key != "verdicts"} for row in items],
        "changed": [_told(row, first, second, words or {}) for row in ranked[:changed]],
        "persona": dict(second.persona or first.persona),
        "warnings": _warnings(first, second, both),
    }


def _decisive(
    rows: Sequence[Comparison], data: list[dict[str, Any]], wanted: Sequence[str], fail_on: Sequence[str], wins: WinRate | None
) -> list[str]:
    known = {row.name for row in rows}
    for name in fail_on:
        if name in (WIN_RATE, CONTROLLED):
            if wins is None:
                raise UserError(f"--fail-on {name} needs a judge: name one with --judge")
        elif name not in known:
            raise UserError(f"--fail-on {name}: there is no such score ({did_you_mean(name, {*known, WIN_RATE, CONTROLLED})})")
    for name in wanted:
        if name not in known:
            raise UserError(f"headline: there is no score '{name}' ({did_you_mean(name, known)})")
    return (
        list(wanted) or usual_headline(data) or [row.name for row in rows if row.direction != "none" and "/" not in row.name and row.n][:3]
    )


def _worse(rows: Sequence[Comparison], wins: WinRate | None, names: set[str]) -> list[str]:
    found = [row.name for row in rows if row.verdict == "worse" and row.name in names]
    if wins is not None:
        for name, ci in ((WIN_RATE, wins.ci), (CONTROLLED, wins.controlled.ci)):
            if name in names and ci is not None and ci[1] < 0.5:
                found.append(name)
    return found


def _item(name: str, first: Side, second: Side, rows: Sequence[Comparison], duel: Judged | None) -> dict[str, Any]:
    """One sample: both values of each score, how far it moved, and the winner of its duel.

    ``change`` adds the differences of the scores that are shares or say so by their direction, each divided by the range that both agents'
    values span, positive where the second is better. ``moved`` is 1 for a sample that only one of the two answered.
    """
    one, other = first.samples[name], second.samples[name]
    values: dict[str, list[float | None]] = {}
    change = 0.0
    left, right = ({score.name: score for score in side.scores} for side in (first, second))
    for row in rows:
        if "/" in row.name and not row.name.startswith("relevance/"):
            continue
        pair = [_value(side.get(row.name), name) for side in (left, right)]
        if all(value is None for value in pair):
            continue
        values[row.name] = pair
        if None not in pair and row.direction != "none":
            step = (pair[1] - pair[0]) / _range(left[row.name], right[row.name])  # type: ignore[operator]
            change += step if row.direction == "higher" else -step
    winner = duel.winner if duel else None
    change += {"second": 0.5, "first": -0.5}.get(str(winner), 0.0)
    return {
        "id": name,
        "slices": dict(second.samples[name].get("slices") or {}),
        "scores": values,
        "change": round(change, 6),
        "moved": int((one["finish"] == "error") != (other["finish"] == "error")),
        "winner": winner,
        "same": one["text"].strip() == other["text"].strip(),
        "verdicts": _turned(_verdicts(first.scores, name), _verdicts(second.scores, name)),
    }


def _value(score: Score | None, name: str) -> float | None:
    value = score.per_sample.get(name) if score else None
    return None if value is None or math.isnan(value) else value


def _range(first: Score, second: Score) -> float:
    if first.unit == "share":
        return 1.0
    values = [value for score in (first, second) for value in score.per_sample.values() if not math.isnan(value)]
    return (max(values) - min(values)) or 1.0


def _verdicts(scores: Sequence[Score], name: str) -> dict[str, Mapping[str, Any]]:
    """Checklist item -> verdict of one answer, by the rules and by the judge."""
    found: dict[str, Mapping[str, Any]] = {}
    for score in scores:
        if score.name in ("persona-adherence", "judged"):
            mark = "" if score.name == "persona-adherence" else " (judged)"
            found |= {f"{one['item']}{mark}": one for one in score.details.get(name) or ()}
    return found


def _turned(before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The items on which the two answers differ."""
    return [
        {"item": item, "first": before[item]["verdict"], "second": one["verdict"], "evidence": [before[item]["evidence"], one["evidence"]]}
        for item, one in after.items()
        if item in before and one["verdict"] != before[item]["verdict"]
    ]


def _told(row: Mapping[str, Any], first: Side, second: Side, words: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """A sample with both texts, for reading."""
    sides = []
    for side in (first, second):
        sample = side.samples[row["id"]]
        verdicts = [dict(one) for one in _verdicts(side.scores, row["id"]).values()]
        sides.append({key: sample[key] for key in ("text", "finish", "error")} | {"verdicts": verdicts})
    sample = second.samples[row["id"]]
    return {
        **{key: row[key] for key in ("id", "slices", "scores", "change", "winner", "verdicts")},
        "prompt": sample["prompt"],
        "reference": sample.get("reference"),
        "first": sides[0],
        "second": sides[1],
        "words": list(words.get(row["id"], ())),
    }


def _warnings(first: Side, second: Side, both: Sequence[str]) -> list[str]:
    found = [f"{side.name}: {text}" for side in (first, second) for text in side.warnings]
    for side in (first, second):
        if both and len(both) < len(side.samples):
            found.append(f"{side.name}: {len(side.samples) - len(both)} of its {len(side.samples)} prompts were not asked of the other one")
    return found
