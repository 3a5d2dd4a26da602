"""The gate: may a candidate take the champion's place? Paired statistics on prompts that nobody trained on.

Every condition is one of four: it holds, it fails, it is inconclusive (the data cannot tell), or it was not measured, which
counts as a failure. A candidate is promoted only if all hold; one that fails a condition is rejected; otherwise the round is
inconclusive. In both of the last two cases the champion stays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from agentft.evaluate.statistics import Interval, Paired, holm, paired_difference, paired_permutation
from agentft.records import Score

Outcome = Literal["pass", "fail", "inconclusive", "missing"]
State = Literal["promoted", "rejected", "inconclusive"]
ALPHA = 0.05


@dataclass(frozen=True)
class Condition:
    """One condition of the gate.

    Attributes:
        kind: ``primary``, ``guardrail``, ``limit``, ``critic`` or ``pool``.
        difference: candidate minus champion, turned so that more is better; ``ci``: its 95 % interval.
        needed: what the lower end of the interval (for a limit: the value) has to reach.
        text: one sentence with the numbers.
    """

    name: str
    kind: str
    outcome: Outcome
    text: str
    difference: float | None = None
    ci: Interval | None = None
    needed: float | None = None
    unit: str = "share"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"ci": list(self.ci) if self.ci else None}


@dataclass(frozen=True)
class Decision:
    """What the gate said about one candidate.

    Attributes:
        state: ``promoted`` means "may be promoted".
        sentence: the reason in one sentence: which condition, and by how much.
        p: Holm-adjusted p of the primary score over all candidates of the round.
        smallest_detectable: true difference of the primary score that this many prompts show with 80 % power.
    """

    arm: str
    state: State
    sentence: str
    conditions: tuple[Condition, ...]
    n: int
    clusters: int
    p: float | None
    smallest_detectable: float | None

    @property
    def gain(self) -> float:
        """Difference of the primary score, minus infinity if it was not measured."""
        found = self.conditions[0].difference
        return -math.inf if found is None else found

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"conditions": [condition.to_dict() for condition in self.conditions]}


@dataclass(frozen=True)
class Measured:
    """One arm as the gate sees it: its scores, by name, over the gate prompts."""

    name: str
    scores: Mapping[str, Score]


def decide(
    champion: Measured,
    candidates: Sequence[Measured],
    *,
    prompts: Sequence[str],
    groups: Mapping[str, str],
    options: Any,
    hard_items: Sequence[str] = (),
    further: Sequence[Condition] = (),
    seed: int = 0,
    resamples: int = 10_000,
) -> list[Decision]:
    """One decision per candidate.

    Args:
        prompts: ids of the gate pool; only these count.
        groups: prompt id -> group; groups are resampled as a whole.
        options: see :class:`agentft.recipe_refine.Gate`.
        hard_items: names of the per-item scores (``persona-adherence/ITEM``) that must never fail anew.
        further: conditions that were found elsewhere (a critic that is not calibrated, pools that overlap).
    """
    asked = list(prompts)
    decided = []
    for candidate in candidates:
        paired = _paired(champion, candidate, options.primary, asked, groups, seed, resamples, options.minimum)
        conditions = [
            _primary(options, paired, champion, candidate, asked),
            *(_guardrail(one, champion, candidate, asked, groups, seed, resamples) for one in options.guardrails),
            *_limits(options, champion, candidate, asked),
            _hard(options, champion, candidate, hard_items, asked),
            _pool(options, paired, len(asked)),
            *further,
        ]
        decided.append((candidate.name, paired, conditions))
    # Holm over the family: every candidate's claim that its primary score became better.
    adjusted = holm([paired.p if paired else 1.0 for _, paired, _ in decided])
    result = []
    for (name, paired, conditions), p in zip(decided, adjusted, strict=True):
        if conditions[0].outcome == "pass" and p >= ALPHA:
            text = f"{conditions[0].text}; corrected for {len(decided)} candidates it may be chance (p = {p:.3f})"
            conditions[0] = replace(conditions[0], outcome="inconclusive", text=text)
        result.append(_decision(name, conditions, paired, p if paired else None))
    return result


def _decision(name: str, conditions: Sequence[Condition], paired: Paired | None, p: float | None) -> Decision:
    failed = [one for one in conditions if one.outcome in ("fail", "missing")]
    open_ = [one for one in conditions if one.outcome == "inconclusive"]
    state: State = "rejected" if failed else "inconclusive" if open_ else "promoted"
    # Too few prompts to tell anything: then no failure that rests on an interval is a finding either.
    small = any(one.kind == "pool" and one.outcome == "inconclusive" for one in conditions)
    if small and not any(one.outcome == "missing" or one.kind in ("critic", "limit") for one in failed):
        state = "inconclusive"
    reasons = [*failed, *open_]
    sentence = "; ".join(one.text for one in reasons) if reasons else f"all {len(conditions)} conditions hold: {conditions[0].text}"
    detectable = None if paired is None or math.isnan(paired.smallest_detectable) else paired.smallest_detectable
    return Decision(name, state, sentence, tuple(conditions), paired.n if paired else 0, paired.clusters if paired else 0, p, detectable)


def _values(measured: Measured, name: str, asked: Sequence[str]) -> dict[str, float]:
    score = measured.scores.get(name)
    found = {} if score is None else {key: score.per_sample[key] for key in asked if key in score.per_sample}
    if score is not None and not found and not set(score.per_sample) & set(asked):
        found = dict(score.per_sample)  # a suite with prompts of its own, such as `capability`
    return found


def _paired(
    champion: Measured,
    candidate: Measured,
    name: str,
    asked: Sequence[str],
    groups: Mapping[str, str],
    seed: int,
    resamples: int,
    minimum: float = 0.0,
) -> Paired | None:
    """Candidate minus champion, turned so that more is better; None where one of them was not measured, or not completely.

    What does not apply to an answer (the checklist, where it calls a tool) is absent: such prompts are left out for both. Not more
    than half of them, though: what is hardly ever measured decides nothing.
    """
    before, after = _values(champion, name, asked), _values(candidate, name, asked)
    keys = sorted(before.keys() & after.keys())
    if (
        not keys
        or 2 * len(keys) < len(before.keys() | after.keys())
        or any(math.isnan(value) for value in (*before.values(), *after.values()))
    ):
        return None
    sign = -1.0 if candidate.scores[name].direction == "lower" else 1.0
    left, right = [sign * before[key] for key in keys], [sign * after[key] for key in keys]
    labels = [groups.get(key, key) for key in keys]
    found = paired_difference(left, right, labels, seed=seed, resamples=resamples)
    if not minimum:
        return found
    # The question is whether the difference exceeds the minimum, so that is where the test's null lies.
    shifted = [new - old - minimum for old, new in zip(left, right, strict=True)]
    return replace(found, p=paired_permutation(shifted, labels, seed=seed), test="permutation")


def _covered(paired: Paired, name: str, champion: Measured, candidate: Measured, asked: Sequence[str]) -> str:
    """Says how many prompts a difference stands on, where that is not all: a score does not apply to every answer."""
    measured = _values(champion, name, asked).keys() | _values(candidate, name, asked).keys()
    total = len(asked) if measured <= set(asked) else len(measured)  # a suite has prompts of its own
    return "" if paired.n == total else f", on the {paired.n} of {total} prompts where it applies to both answers"


def _primary(options: Any, paired: Paired | None, champion: Measured, candidate: Measured, asked: Sequence[str]) -> Condition:
    name, needed = options.primary, options.minimum
    if paired is None or paired.ci is None:
        return Condition(
            name,
            "primary",
            "missing",
            f"{name} was not measured on every gate prompt that it applies to, or applies to few, so nothing can be promoted",
        )
    unit = candidate.scores[name].unit
    low, high = paired.ci
    outcome: Outcome = "pass" if low > needed else "fail" if high <= needed else "inconclusive"
    verb = {"pass": "became better", "fail": "did not become better", "inconclusive": "cannot be told apart"}[outcome]
    text = f"{name} {verb}: {show(paired.difference, unit)} ({show(low, unit)} to {show(high, unit)})"
    text += _covered(paired, name, champion, candidate, asked)
    if outcome != "pass":
        text += f", needed: above {show(needed, unit)}"
        if outcome == "inconclusive" and not math.isnan(paired.smallest_detectable):
            text += f"; {paired.n} prompts show differences from {show(paired.smallest_detectable, unit).lstrip('+')}"
    return Condition(name, "primary", outcome, text, paired.difference, paired.ci, needed, unit)


def _guardrail(
    rail: Any, champion: Measured, candidate: Measured, asked: Sequence[str], groups: Mapping[str, str], seed: int, resamples: int
) -> Condition:
    paired = _paired(champion, candidate, rail.use, asked, groups, seed, resamples)
    if paired is None or paired.ci is None:
        return Condition(rail.use, "guardrail", "missing", f"guard-rail {rail.use} was not measured on every prompt")
    unit = candidate.scores[rail.use].unit
    low, high = paired.ci
    outcome: Outcome = "pass" if low > -rail.margin else "fail" if high <= -rail.margin else "inconclusive"
    verb = {"pass": "is not worse", "fail": "is worse", "inconclusive": "may be worse"}[outcome]
    text = f"{rail.use} {verb}: {show(paired.difference, unit)} ({show(low, unit)} to {show(high, unit)})"
    text += _covered(paired, rail.use, champion, candidate, asked)
    if outcome != "pass":
        text += f", allowed: {show(-rail.margin, unit)}"
    return Condition(rail.use, "guardrail", outcome, text, paired.difference, paired.ci, -rail.margin, unit)


def _limits(options: Any, champion: Measured, candidate: Measured, asked: Sequence[str]) -> list[Condition]:
    """Length, stopping and variety: figures that must stay in a range, so that form cannot be bought with emptiness."""
    found = []
    low, high = options.length_ratio
    before, after = _mean(champion, "length", asked), _mean(candidate, "length", asked)
    if before is None or after is None or before == 0:
        found.append(Condition("length", "limit", "missing", "the length of the answers was not measured"))
    else:
        ratio = after / before
        text = f"answers are {ratio:.2f} times as long ({before:.1f} -> {after:.1f} words), allowed: {low:g} to {high:g}"
        found.append(Condition("length", "limit", "pass" if low <= ratio <= high else "fail", text, ratio, None, low, "ratio"))
    before, after = _mean(champion, "stop-rate", asked), _mean(candidate, "stop-rate", asked)
    if before is None or after is None:
        found.append(Condition("stop-rate", "limit", "missing", "it was not measured how many answers end by themselves"))
    else:
        text = f"{after:.1%} of the answers end by themselves, before: {before:.1%}"
        outcome: Outcome = "pass" if after >= before - options.stop_drop - 1e-9 else "fail"
        found.append(Condition("stop-rate", "limit", outcome, text, after - before, None, -options.stop_drop))
    one, other = champion.scores.get("distinct-2"), candidate.scores.get("distinct-2")
    if one is None or other is None or math.isnan(one.value) or math.isnan(other.value) or one.value == 0:
        found.append(Condition("distinct-2", "limit", "missing", "the variety of the answers (distinct-2) was not measured"))
    else:
        kept, needed = other.value / one.value, 1 - options.distinct_drop
        text = f"variety (distinct-2) {one.value:.3f} -> {other.value:.3f}, {kept - 1:+.0%}, allowed: {-options.distinct_drop:+.0%}"
        found.append(Condition("distinct-2", "limit", "pass" if kept >= needed - 1e-9 else "fail", text, kept, None, needed, "ratio"))
    return found


def _hard(options: Any, champion: Measured, candidate: Measured, items: Sequence[str], asked: Sequence[str]) -> Condition:
    """Hard items that held before and fail now, prompt by prompt: a mean would hide one behind another."""
    new: dict[str, list[str]] = {}
    for item in items:
        before, after = _values(champion, item, asked), _values(candidate, item, asked)
        broken = [key for key, value in after.items() if value == 0 and before.get(key) == 1]
        if broken:
            new[item.rpartition("/")[2]] = broken
    count = len({key for keys in new.values() for key in keys})
    allowed = options.new_hard_failures
    where = "; ".join(f"{item}: {', '.join(keys[:3])}{' ...' if len(keys) > 3 else ''}" for item, keys in new.items())
    text = f"hard items fail on {count} prompts on which they held" + (f" ({where})" if where else "") + f", allowed: {allowed}"
    return Condition("hard items", "limit", "pass" if count <= allowed else "fail", text, float(-count), None, float(-allowed), "prompts")


def _pool(options: Any, paired: Paired | None, asked: int) -> Condition:
    clusters = paired.clusters if paired else 0
    enough = clusters >= options.min_prompts
    text = f"the gate has {clusters} independent prompts ({asked} in all)"
    if not enough:
        text += f", needed: {options.min_prompts}; too few to tell"
    outcome: Outcome = "pass" if enough else "inconclusive"
    return Condition("gate prompts", "pool", outcome, text, float(clusters), None, float(options.min_prompts), "prompts")


def _mean(measured: Measured, name: str, asked: Sequence[str]) -> float | None:
    values = [value for value in _values(measured, name, asked).values() if not math.isnan(value)]
    return math.fsum(values) / len(values) if values else None


def show(value: float, unit: str) -> str:
    """A difference as a person reads it: shares in points."""
    return f"{100 * value:+.1f} points" if unit == "share" else f"{value:+.3g}"
