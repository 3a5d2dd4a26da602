"""Held-out prompts with both answers: what failed, why, and where in the text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentft.report import plain

MOST_SAMPLES = 200
OPEN_SAMPLES = 12
# All sample texts together may take this many UTF-8 bytes, so that the page can be mailed and opened on a phone.
TEXT_BUDGET = 420_000
SHORTEST_CUT = 400

_QUOTED = re.compile(r"['‘“\"](.{2,}?)['’”\"]\s*$", re.S)


@dataclass(frozen=True)
class Failed:
    """A checklist item that an answer does not meet."""

    item: str
    evidence: str
    hard: bool
    text: str


@dataclass(frozen=True)
class Answer:
    """One answer. ``parts``: the text in pieces, each with True where it is the evidence of a failed item."""

    who: str
    parts: tuple[tuple[str, bool], ...]
    note: str
    failed: tuple[Failed, ...]
    passed: tuple[str, ...]
    unscored: tuple[str, ...]
    not_applicable: int
    scores: tuple[tuple[str, str], ...]
    cut: int

    @property
    def applicable(self) -> int:
        return len(self.failed) + len(self.passed)

    @property
    def tally(self) -> str:
        """``7 of 9 items met`` or an empty string without a checklist."""
        return f"{len(self.passed)} of {self.applicable} items met" if self.applicable else ""


@dataclass(frozen=True)
class Shown:
    """A sample on the page. ``earlier``: the turns before the last question, as (role, text)."""

    id: str
    earlier: tuple[tuple[str, str], ...]
    question: str
    reference: str
    base: Answer | None
    tuned: Answer | None
    open: bool

    @property
    def answers(self) -> list[Answer]:
        return [answer for answer in (self.base, self.tuned) if answer]

    @property
    def excerpt(self) -> str:
        """The question in one short line, for a closed sample."""
        line = " ".join(self.question.split())
        return line if len(line) <= 90 else line[:88].rstrip() + "…"


def read_samples(samples: Any, policies: Mapping[str, str]) -> list[Shown]:
    """The first 200 samples in the given order; ``policies``: item id -> its text."""
    records = plain.rows(samples)[:MOST_SAMPLES]
    limit = _limit(records)
    return [_read(record, policies, limit, index < OPEN_SAMPLES) for index, record in enumerate(records)]


def _limit(records: Sequence[Mapping[str, Any]]) -> int:
    """Characters that one text may have: all of them where the page stays small, else an equal share of the budget."""
    texts = [text for record in records for text in _texts(record)]
    if sum(len(text.encode("utf-8", "replace")) for text in texts) <= TEXT_BUDGET:
        return max((len(text) for text in texts), default=0)
    # Cut the longest only: the largest limit that keeps the sum inside the budget (3 bytes for a Chinese character).
    low, high = SHORTEST_CUT, TEXT_BUDGET
    while high - low > 50:
        middle = (low + high) // 2
        if sum(len(text[:middle].encode("utf-8", "replace")) for text in texts) <= TEXT_BUDGET:
            low = middle
        else:
            high = middle
    return low


def _texts(record: Mapping[str, Any]) -> list[str]:
    answers = [plain.string(plain.mapping(record.get(who)).get("text")) for who in ("base", "tuned")]
    return [*answers, plain.string(record.get("reference")), *(plain.string(m.get("content")) for m in plain.rows(record.get("prompt")))]


def _read(record: Mapping[str, Any], policies: Mapping[str, str], limit: int, is_open: bool) -> Shown:
    turns = [(plain.string(m.get("role"), "user"), clip(plain.string(m.get("content")), limit)) for m in plain.rows(record.get("prompt"))]
    question = turns.pop()[1] if turns else ""
    return Shown(
        id=plain.string(record.get("id")),
        earlier=tuple(turns),
        question=question,
        reference=clip(plain.string(record.get("reference")), limit),
        base=_answer("base", record.get("base"), policies, limit),
        tuned=_answer("tuned", record.get("tuned"), policies, limit),
        open=is_open,
    )


def clip(text: str, limit: int) -> str:
    """``text`` cut at ``limit`` characters, saying how many are not shown."""
    return text if len(text) <= limit else f"{text[:limit]}… [{len(text) - limit:,} more characters]"


def _answer(who: str, value: Any, policies: Mapping[str, str], limit: int) -> Answer | None:
    if not isinstance(value, Mapping):
        return None
    full = plain.string(value.get("text"))
    verdicts = plain.rows(value.get("verdicts"))
    failed = tuple(
        Failed(item, plain.string(one.get("evidence")), one.get("severity") == "hard", policies.get(item, ""))
        for one in verdicts
        if one.get("verdict") == "fail" and (item := plain.string(one.get("item"), "item"))
    )
    named = {
        kind: tuple(plain.string(one.get("item"), "item") for one in verdicts if one.get("verdict") == kind)
        for kind in ("pass", "unscored", "n.a.")
    }
    return Answer(
        who=who,
        parts=marked(full[:limit], failed),
        note=_note(plain.string(value.get("finish"), "stop"), plain.string(value.get("error"))),
        # What must never happen comes first.
        failed=tuple(sorted(failed, key=lambda one: not one.hard)),
        passed=named["pass"],
        unscored=named["unscored"],
        not_applicable=len(named["n.a."]),
        scores=tuple((plain.string(name), _score(score)) for name, score in plain.mapping(value.get("scores")).items()),
        cut=max(0, len(full) - limit),
    )


def _score(value: Any) -> str:
    n = plain.number(value)
    return "unscored" if n is None else plain.decimals(n)


def _note(finish: str, error: str) -> str:
    if finish == "length":
        return "cut off at the length limit"
    if finish == "error":
        return f"no answer: {error}" if error else "no answer: generation failed"
    return "" if finish == "stop" else finish


def marked(text: str, failed: Sequence[Failed]) -> tuple[tuple[str, bool], ...]:
    """``text`` in pieces; the piece that a failed item's evidence quotes (``found '...'``) is flagged, first place only."""
    spans: list[tuple[int, int]] = []
    for one in failed:
        quoted = _QUOTED.search(one.evidence)
        start = text.find(quoted.group(1)) if quoted else -1
        if quoted and start >= 0:
            spans.append((start, start + len(quoted.group(1))))
    pieces, done = [], 0
    for start, end in sorted(spans):
        if end <= done:
            continue
        start = max(start, done)
        pieces += [(text[done:start], False), (text[start:end], True)]
        done = end
    return tuple(piece for piece in [*pieces, (text[done:], False)] if piece[0])
