"""What people said about answers: an append-only store, and the critic ``human`` that reads it.

One JSON object a line, flushed to the disk before the next page is shown. A later row of the same rater on the same task stands in for
the earlier one when the store is read; both stay in the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from agentft.contracts import CriticContext
from agentft.data.split import prompt_key
from agentft.errors import DataError
from agentft.feedback.lines import Lines
from agentft.feedback.rules import critique, feedback_id
from agentft.records import Example, Feedback, Message, Preference, Response, Verdict
from agentft.validation import Model

CHOICES = ("tie", "both-bad")


@dataclass(frozen=True)
class Judged:
    """One task as one person answered it.

    Attributes:
        task: id of the task; ``prompt``: the conversation as a dictionary.
        responses: response id -> text, in the order in which they were shown.
        kind: ``choice`` (two answers), ``rating`` (one) or ``skip``.
        choice: a response id, ``tie`` or ``both-bad``; empty for a rating.
        verdicts: response id -> item -> ``pass`` or ``fail``; items that were left open are absent.
        edits: response id -> the answer as it should have been.
        words: what is wrong, in words, about the task as a whole.
        rater, created: who and when.
    """

    task: str
    prompt: Mapping[str, Any]
    responses: Mapping[str, str]
    kind: str
    choice: str = ""
    verdicts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    edits: Mapping[str, str] = field(default_factory=dict)
    words: str = ""
    rater: str = ""
    created: str = ""

    def __post_init__(self) -> None:
        if self.kind not in ("choice", "rating", "skip"):
            raise DataError(f"kind must be choice, rating or skip, not {self.kind!r}")
        if self.kind == "choice" and self.choice not in (*self.responses, *CHOICES):
            raise DataError(f"choice must be an answer, tie or both-bad, not {self.choice!r}")


class HumanStore:
    """The rows of one agent.

    Args:
        path: JSON-lines file; made with the first row.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self._lines = Lines(path)

    def append(self, row: Judged) -> None:
        """Write a row; it is on the disk when this returns. Safe with several processes."""
        self._lines.append(asdict(row))

    def rows(self) -> Iterator[Judged]:
        """Every row in the order of the file; half a line is left out."""
        for _, row in self._lines.rows():
            try:
                yield Judged(**row)
            except (TypeError, DataError):
                continue

    def latest(self) -> list[Judged]:
        """The last word of every rater on every task."""
        found: dict[tuple[str, str], Judged] = {}
        for row in self.rows():
            found.pop((row.task, row.rater), None)
            found[row.task, row.rater] = row
        return list(found.values())

    def answered(self, rater: str) -> set[str]:
        """Tasks that ``rater`` has answered or skipped."""
        return {row.task for row in self.rows() if row.rater == rater}

    def preferences(self) -> list[Preference]:
        """What people preferred: the chosen answer over the other one, and each edit over what was edited.

        Where raters disagree about a choice, the majority counts; without one there is no pair.
        """
        found: list[Preference] = []
        votes: dict[tuple[str, tuple[str, ...]], list[Judged]] = {}
        for row in self.latest():
            if row.kind == "choice":
                votes.setdefault((row.task, tuple(sorted(row.responses))), []).append(row)
            for response, edit in row.edits.items():
                before = row.responses.get(response, "").strip()
                if edit.strip() and edit.strip() != before:
                    found.append(_preference(row, f"edit-{_mark(row, response, edit)}", edit, before, row.verdicts.get(response, {})))
        for (_, responses), rows in votes.items():
            counts = {response: sum(row.choice == response for row in rows) for response in responses}
            winner = next((response for response, count in counts.items() if 2 * count > len(rows)), None)
            if winner is None or len(responses) != 2:
                continue
            loser = next(response for response in responses if response != winner)
            row = next(row for row in rows if row.choice == winner)
            found.append(_preference(row, f"choice-{_mark(row, winner, loser)}", row.responses[winner], row.responses[loser], {}))
        return found


def _mark(row: Judged, *parts: str) -> str:
    return hashlib.sha256("\0".join([row.task, row.rater, *parts]).encode()).hexdigest()[:12]


def _preference(row: Judged, name: str, chosen: str, rejected: str, verdicts: Mapping[str, str]) -> Preference:
    margin = float(sum(value == "fail" for value in verdicts.values()) or 1)
    rejected_message = Message("assistant", rejected.strip()) if rejected.strip() else None
    prompt = Example.from_dict(row.prompt, row.task)
    ids = (feedback_id(row.task, "human", row.rater),)
    return Preference(f"human-{name}", prompt, Message("assistant", chosen.strip()), rejected_message, margin, "human", ids)


class HumanConfig(Model):
    """Options of the critic ``human``."""

    path: str | None = Field(None, description="store of `agentft annotate`; left out: that of the agent which is refined")


def human(prompts: Sequence[Example], responses: Sequence[Response], config: HumanConfig, ctx: CriticContext) -> list[Feedback]:
    """What people said about these very answers (prompt and text alike). An answer that nobody saw has no verdicts, which is no error.

    Raises:
        DataError: no store is named, and the caller has none.
    """
    path = ctx.base / config.path if config.path else ctx.human
    if path is None:
        raise DataError("critic 'human': name the store of `agentft annotate` with path:")
    said: dict[tuple[str, str], list[tuple[Judged, str]]] = {}
    for row in HumanStore(path).latest():
        key = prompt_key(Example.from_dict(row.prompt, row.task))
        for name, text in row.responses.items():
            said.setdefault((key, _plain(text)), []).append((row, name))
    severity = {policy.id: (policy.severity, policy.kind) for policy in ctx.persona.policies}
    result = []
    for prompt, response in zip(prompts, responses, strict=True):
        found = said.get((prompt_key(prompt), _plain(response.text)), [])
        verdicts: dict[str, Verdict] = {}
        words: list[str] = []
        for row, name in found:
            for item, value in row.verdicts.get(name, {}).items():
                # One person who sees a fault is enough: the others may have missed it.
                if item in severity and (item not in verdicts or value == "fail"):
                    verdicts[item] = Verdict(item, value, f"says {row.rater}" if row.rater else "", *severity[item])
            if row.words:
                words.append(row.words)
        text = "\n".join([critique(verdicts.values(), ctx.persona), *words]).strip()
        raters = ", ".join(sorted({row.rater for row, _ in found if row.rater}))
        edit = next((row.edits[name] for row, name in found if row.edits.get(name)), "")
        result.append(
            Feedback(feedback_id(response.id, "human"), response.id, "human", tuple(verdicts.values()), text, edit=edit, rater=raters)
        )
    return result


def _plain(text: str) -> str:
    return " ".join(text.split())
