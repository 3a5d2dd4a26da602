"""From judged answers and revisions to preference pairs: which revision is kept, which pairs are made, which survive.

Everything is deterministic, and every answer, revision and pair that goes no further is counted with its reason.
"""

from __future__ import annotations

import difflib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentft.feedback.verdicts import Judgement
from agentft.records import Example, Message, Preference, Response, Verdict
from agentft.text import shingles, words


@dataclass(frozen=True)
class Candidate:
    """One judged answer. ``revises`` is the id of the answer that it is a revision of, empty for a sample."""

    response: Response
    judgement: Judgement
    revises: str = ""

    @property
    def id(self) -> str:
        return self.response.id

    @property
    def text(self) -> str:
        return self.response.text

    @property
    def message(self) -> Message:
        """What is learned from: the answer with the tools that it calls."""
        return self.response.message.stripped

    @property
    def failed(self) -> int:
        return len(self.judgement.failed)


@dataclass
class Account:
    """What became of what: the counts that the report shows."""

    drops: Counter[str] = field(default_factory=Counter)
    dropped: list[dict[str, str]] = field(default_factory=list)

    def drop(self, reason: str, where: str) -> None:
        self.drops[reason] += 1
        if len(self.dropped) < 500:
            self.dropped.append({"reason": reason, "where": where})


def better(left: Judgement, right: Judgement, options: Any, spread: float = math.nan) -> float:
    """By how many checklist items ``left`` is better than ``right``; 0 where the difference is below the margin.

    Only items that both were decided on count. An answer that fails an item of substance which the other one meets is not better,
    whatever it gains in form (``keep_substance``): learned from, such pairs buy form with emptiness. Where no item tells
    the two apart, half a standard deviation (``score_margin``) of the critics' scalar does; its difference in standard
    deviations is returned then.
    """
    one, other = ({v.item: v.verdict for v in judged.verdicts if v.verdict in ("pass", "fail")} for judged in (left, right))
    both = one.keys() & other.keys()
    substance = {v.item for v in (*left.verdicts, *right.verdicts) if v.kind == "substance"}
    if options.keep_substance and any(one[item] == "fail" and other[item] == "pass" for item in both & substance):
        return 0.0
    items = sum((one[item] == "pass") - (other[item] == "pass") for item in both)
    if items:
        return items if items >= options.margin else 0.0
    gap = left.score - right.score
    if not math.isnan(gap) and spread > 0 and gap >= options.score_margin * spread:
        return gap / spread
    return 0.0


def to_revise(candidates: Sequence[Candidate], per_prompt: int) -> list[Candidate]:
    """The answers to one prompt that are worth a revision: those with failed items, most failed items first, no text twice.

    A revision is a text. In the place of an answer that calls a tool it would be another thing, and is not asked for.
    """
    failed = [one for one in candidates if one.failed and one.text.strip() and not one.response.calls]
    failed.sort(key=lambda one: (-one.failed, one.id))
    chosen, seen = [], set()
    for one in failed:
        key = " ".join(one.text.lower().split())
        if key not in seen:
            seen.add(key)
            chosen.append(one)
    return chosen[:per_prompt]


def best_revision(original: Candidate, drafts: Iterable[Candidate], options: Any, account: Account) -> Candidate | None:
    """The draft that passes most with the smallest edit, or None where none is strictly better and breaks no hard item."""
    usable = []
    for draft in drafts:
        if draft.judgement.errors and not draft.judgement.verdicts:
            account.drop("revision could not be judged", draft.id)
        elif draft.judgement.broken:
            account.drop("revision breaks a hard item", draft.id)
        elif better(draft.judgement, original.judgement, options) <= 0:
            account.drop("revision is not better", draft.id)
        else:
            usable.append(draft)
    if not usable:
        return None
    return min(usable, key=lambda one: (-one.judgement.passed, edit_share(original.text, one.text), one.id))


def edit_share(before: str, after: str) -> float:
    """Share of characters that differ, 0 (equal) to 1, by longest matching blocks (Ratcliff and Obershelp 1988)."""
    return 1 - difflib.SequenceMatcher(None, before, after, autojunk=False).ratio()


def make_pairs(
    prompt: Example, samples: Sequence[Candidate], revisions: Mapping[str, Candidate], options: Any, account: Account
) -> list[Preference]:
    """Pairs of one prompt: each kept revision over its original, and the best sample over a low one."""
    spread = _spread([one.judgement.score for one in samples])
    found: list[Preference] = []
    by_id = {one.id: one for one in samples}
    for original_id, revision in sorted(revisions.items()):
        original = by_id[original_id]
        margin = better(revision.judgement, original.judgement, options, spread)
        if margin > 0:
            found.append(_pair(prompt, revision, original, margin, "revision"))
    if options.from_samples and len(samples) > 1:
        clean = [one for one in samples if not one.judgement.broken and not one.message.empty]
        if not clean:
            account.drop("no sample without a broken hard item", prompt.id)
        else:
            low = _low(sorted(samples, key=_rank))
            margin, best = max(
                ((better(one.judgement, low.judgement, options, spread), one) for one in clean), key=lambda pair: (pair[0], _rank(pair[1]))
            )
            if margin > 0:
                found.append(_pair(prompt, best, low, margin, "sample"))
            else:
                account.drop("samples are equally good", prompt.id)
    return found


def anchor_pairs(
    prompt: Example, demonstrated: Message, samples: Sequence[Candidate], verdicts: Sequence[Verdict], account: Account
) -> list[Preference]:
    """The demonstrated answer over the sample that fails most; of equally poor ones, the one nearest to it in length.

    What an expert wrote needs no margin, but may break no hard item. Demonstrations are often much shorter or longer than what a
    model writes, and with nothing else to tell the two apart a length is what would be learned.
    """
    broken = [verdict.item for verdict in verdicts if verdict.verdict == "fail" and verdict.severity == "hard"]
    chosen = demonstrated.stripped
    others = [one for one in samples if not one.message.empty and said(one.message) != said(chosen)]
    if broken or not others:
        account.drop("demonstration breaks a hard item" if broken else "no sample beside the demonstration", prompt.id)
        return []
    length, worst = len(words(chosen.content)), _low(sorted(others, key=_rank)).failed
    equal = [one for one in others if one.failed == worst]
    low = min(equal, key=lambda one: (abs(len(words(one.text)) - length), _rank(one)))
    return [Preference(f"{prompt.id}#demonstrated>{low.id}", prompt, chosen, low.message, 1.0, "anchor", low.judgement.feedback_ids)]


def said(message: Message) -> str:
    """The text of an answer and the calls in it, so that two answers can be compared."""
    calls = [json.dumps(dict(call), ensure_ascii=False, sort_keys=True) for call in message.tool_calls]
    return "\n".join([message.content.strip(), *calls])


def _rank(one: Candidate) -> tuple[int, int, float, str]:
    """The fewer items failed and the more passed, the higher; then the critics' scalar; then the id, so that the order is fixed.

    Failures come first because less is decided about an answer that calls a tool, and that makes it no worse.
    """
    return -one.failed, one.judgement.passed, _or_zero(one.judgement.score), one.id


def _low(ranked: Sequence[Candidate]) -> Candidate:
    """The worst of few; of 16 and more the one that fails about two standard deviations more than the mean: the very worst is a freak."""
    if len(ranked) < 16:
        return ranked[0]
    failed = [one.failed for one in ranked]
    mean = sum(failed) / len(failed)
    target = mean + 2 * math.sqrt(sum((value - mean) ** 2 for value in failed) / len(failed))
    return min(ranked, key=lambda one: (abs(one.failed - target), one.id))


def _pair(prompt: Example, chosen: Candidate, rejected: Candidate, margin: float, origin: str) -> Preference:
    return Preference(
        f"{chosen.id}>{rejected.id}",
        prompt,
        chosen.message,
        rejected.message,
        round(margin, 4),
        origin,
        (*chosen.judgement.feedback_ids, *rejected.judgement.feedback_ids),
    )


def keep_pairs(
    pairs: Iterable[Preference], options: Any, account: Account, *, forbidden: Callable[[Example], str] = lambda prompt: ""
) -> list[Preference]:
    """The pairs that survive all filters, in a fixed order.

    Args:
        forbidden: prompt -> why it may not be trained on (it is in the gate or test pool), or an empty string.
    """
    kept = [pair for pair in _at_most(pairs, options.max_per_prompt, account) if _usable(pair, options, forbidden, account)]
    return _balanced(_distinct(kept, options.near_duplicate, account), options.length_balance, account)


def _usable(pair: Preference, options: Any, forbidden: Callable[[Example], str], account: Account) -> bool:
    assert pair.chosen is not None and pair.rejected is not None
    chosen, rejected = pair.chosen, pair.rejected
    low, high = options.length_ratio
    ratio = max(1, len(words(chosen.content))) / max(1, len(words(rejected.content)))
    reason = forbidden(pair.prompt)
    if not reason and chosen.empty:
        reason = "chosen answer is empty"
    if not reason and chosen.tool_calls == rejected.tool_calls and edit_share(rejected.content, chosen.content) < options.min_edit:
        reason = f"the two differ by less than {options.min_edit:.0%}"
    # People may answer as long as they like: what they wrote was meant. And a call of a tool has no length.
    if not reason and pair.origin != "human" and not _calls(pair) and not low <= ratio <= high:
        reason = f"length ratio outside {low:g} to {high:g}"
    if reason:
        account.drop(reason, pair.id)
    return not reason


def _at_most(pairs: Iterable[Preference], limit: int, account: Account) -> list[Preference]:
    by_prompt: dict[str, list[Preference]] = defaultdict(list)
    for pair in pairs:
        by_prompt[pair.prompt.id].append(pair)
    kept = []
    for found in by_prompt.values():
        found.sort(key=lambda pair: (pair.origin != "human", -_or_zero(pair.margin), pair.id))
        kept += found[:limit]
        for pair in found[limit:]:
            account.drop(f"more than {limit} pairs for the prompt", pair.id)
    return kept


def _distinct(pairs: Sequence[Preference], threshold: float, account: Account) -> list[Preference]:
    """No chosen answer (to whatever prompt) twice, exactly or nearly: a model would learn that one sentence."""
    kept: list[tuple[frozenset[str], Preference]] = []
    for pair in pairs:
        assert pair.chosen is not None
        # A call with other arguments is another answer.
        grams = frozenset([said(pair.chosen)]) if pair.chosen.tool_calls else shingles(pair.chosen.content)
        twin = next((other for seen, other in kept if _alike(seen, grams, threshold)), None)
        if twin is not None and not (twin.prompt.id == pair.prompt.id and twin.rejected != pair.rejected):
            account.drop("chosen answer is a near-duplicate", pair.id)
        else:
            kept.append((grams, pair))
    return [pair for _, pair in kept]


def _alike(left: frozenset[str], right: frozenset[str], threshold: float) -> bool:
    if min(len(left), len(right)) < threshold * max(len(left), len(right)):
        return False
    common = len(left & right)
    return common >= threshold * (len(left) + len(right) - common)


def _calls(pair: Preference) -> bool:
    return any(message is not None and message.tool_calls for message in (pair.chosen, pair.rejected))


def _balanced(pairs: Sequence[Preference], limit: float, account: Account) -> list[Preference]:
    """Leave out the most one-sided pairs until chosen and rejected are about equally long on average.

    Otherwise the easiest thing to learn from the set is a length.
    """
    kept = list(pairs)

    def gap(pair: Preference) -> int:
        assert pair.chosen is not None and pair.rejected is not None
        return 0 if _calls(pair) else len(words(pair.chosen.content)) - len(words(pair.rejected.content))

    total = sum(gap(pair) for pair in kept)
    length = sum(len(words(pair.rejected.content)) for pair in kept if pair.rejected)
    while kept and length and abs(total) > limit * length:
        side = 1 if total > 0 else -1
        worst = max(kept, key=lambda pair: (pair.origin != "human", side * gap(pair), pair.id))
        if side * gap(worst) <= 0:
            break
        kept.remove(worst)
        total -= gap(worst)
        length -= len(words(worst.rejected.content)) if worst.rejected else 0
        account.drop("left out to balance the lengths", worst.id)
    return kept


def _spread(scores: Sequence[float]) -> float:
    known = [score for score in scores if not math.isnan(score)]
    if len(known) < 2:
        return math.nan
    mean = math.fsum(known) / len(known)
    return math.sqrt(math.fsum((score - mean) ** 2 for score in known) / (len(known) - 1))


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value
