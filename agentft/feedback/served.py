"""What people said about answers of an agent in use: an append-only store, scrubbed of personal data.

One JSON object a line. What a rater sends later about the same answer stands in for what the same rater sent before, field by field,
when the store is read; all of it stays in the file.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agentft.data.pii import scrub
from agentft.data.pii_patterns import Found, find
from agentft.errors import DataError
from agentft.feedback.lines import Lines
from agentft.records import Example, Message

VERSION = 1
LONGEST_TEXT = 20_000  # characters of an edit or of words
LONGEST_NAME = 100
THUMBS = ("up", "down", "none")
SOURCES = ("page", "api")


@dataclass(frozen=True)
class Served:
    """What one person said about one answer, at one time.

    Attributes:
        prompt: the conversation up to the message that was answered, as the caller sent it: the persona is not in it.
        answer: text; ``calls``: tools that were called, ``{"name", "arguments"}`` each.
        thumb: ``up``, ``down``, ``none`` (taken back), or None: not said.
        edit: the answer as it should have been; words: what is wrong or right. An empty text takes an earlier one back, None says nothing.
        rater, client: who judged, and with which browser or program; as the caller names them, perhaps empty.
        completion: id of the answer, empty where the caller sent conversation and answer along.
        known: the server itself remembered the answer; else the caller says that it was given.
        model: name of the deployment; version: of the agent; persona: its name.
        source: ``page`` or ``api``.
        scrubbed: kind of personal data -> how many were replaced before this was written.
        created: ISO time.
    """

    prompt: Example
    answer: str
    calls: tuple[Mapping[str, Any], ...] = ()
    thumb: str | None = None
    edit: str | None = None
    words: str | None = None
    rater: str = ""
    client: str = ""
    completion: str = ""
    known: bool = False
    model: str = ""
    version: str = ""
    persona: str = ""
    source: str = "api"
    scrubbed: Mapping[str, int] = field(default_factory=dict)
    created: str = ""

    def __post_init__(self) -> None:
        if self.thumb is not None and self.thumb not in THUMBS:
            raise DataError(f"thumb must be one of {', '.join(THUMBS)}, not {self.thumb!r}")
        if self.source not in SOURCES:
            raise DataError(f"source must be one of {', '.join(SOURCES)}, not {self.source!r}")
        if self.thumb is None and self.edit is None and self.words is None:
            raise DataError("nothing is said: give a thumb, an edit or words")
        for name, limit in (("edit", LONGEST_TEXT), ("words", LONGEST_TEXT), ("rater", LONGEST_NAME), ("client", LONGEST_NAME)):
            if len(getattr(self, name) or "") > limit:
                raise DataError(f"{name} has {len(getattr(self, name)):,} characters; {limit:,} are allowed")
        if not self.prompt.messages or self.prompt.messages[-1].role not in ("user", "tool"):
            raise DataError("the conversation must end with the message that was answered, which is the user's or a tool's")
        if not self.answer.strip() and not self.calls:
            raise DataError("the answer is empty")

    @property
    def about(self) -> tuple[str, str]:
        """Which answer this is about, and who says it: what a later word of the same person stands in for."""
        what = self.completion or _mark(*(f"{m.role}:{m.content}" for m in self.prompt.messages), self.answer)
        return what, self.rater or self.client

    def to_dict(self) -> dict[str, Any]:
        data = {one.name: getattr(self, one.name) for one in fields(self)}
        messages = [message.to_dict() for message in self.prompt.messages]
        data |= {"prompt": messages, "calls": [dict(call) for call in self.calls], "scrubbed": dict(self.scrubbed)}
        data["tools"] = [dict(tool) for tool in self.prompt.tools]
        # An empty edit takes an earlier one back; everything else that is empty need not be written.
        kept = {key: value for key, value in data.items() if value not in (None, "", [], {}) or (key in ("edit", "words") and value == "")}
        return {"v": VERSION} | kept

    @classmethod
    def from_dict(cls, data: Any) -> Served:
        """Raises: DataError: it is no row of this store, or one of a later version of agentft."""
        if not isinstance(data, Mapping):
            raise DataError(f"a row must be an object, not {type(data).__name__}")
        if data.get("v") != VERSION:
            raise DataError(f"a row of version {data.get('v')!r}; this agentft reads version {VERSION}")
        known = {one.name for one in fields(cls)} - {"prompt", "calls"}
        prompt = Example.from_dict({"messages": data.get("prompt"), "tools": data.get("tools")})
        given = {key: value for key, value in data.items() if key in known}
        wrong = [key for key, value in given.items() if key not in ("known", "scrubbed") and not isinstance(value, str)]
        if wrong or not isinstance(given.setdefault("answer", ""), str):
            raise DataError(f"'{(wrong or ['answer'])[0]}' must be text")
        return cls(prompt, calls=tuple(data.get("calls") or ()), **given)


class ServedStore:
    """The judgements that one server, or several on one disk, write to a file.

    Args:
        path: JSON-lines file; made with the first row.
        scrub: replace personal data (e-mail, phone, card, IBAN, ids, IP) by placeholders before anything is written.
        public: text whose personal data may be written, such as the persona's system prompt with the shop's own address.
    """

    def __init__(self, path: Path | str, *, scrub: bool = True, public: str = ""):
        self.path, self.scrub, self.public = Path(path), scrub, public
        self._lines = Lines(path)

    def append(self, row: Served, public: str = "") -> Served:
        """Write a row, scrubbed and with the time; it is on the disk when this returns. Safe with several processes.

        Args:
            public: text whose personal data may be written, besides the store's own.

        Raises:
            DataError: the row is too long.
            OSError: the disk does not take it; nothing of it is in the file then.
        """
        if self.scrub:
            row = scrubbed(row, f"{self.public}\n{public}")
        row = replace(row, created=row.created or datetime.now(UTC).isoformat(timespec="milliseconds"))
        self._lines.append(row.to_dict())
        return row

    def rows(self, bad: Callable[[int, str], None] = lambda number, why: None) -> Iterator[Served]:
        """Every row in the order of the file. A line that cannot be used goes to ``bad`` with its number and the reason."""
        for number, data in self._lines.rows(bad):
            try:
                yield Served.from_dict(data)
            except (DataError, TypeError, AttributeError) as error:
                bad(number, str(error))

    def latest(self, bad: Callable[[int, str], None] = lambda number, why: None) -> list[Served]:
        """One row for each answer and rater: what was said last, field by field. Where all was taken back, none."""
        found: dict[tuple[str, str], Served] = {}
        for number, row in enumerate(self.rows(bad)):
            # Without a rater and a client nobody can be told from anybody else: each row stands for itself.
            key = row.about if row.about[1] else (row.about[0], f"\0{number}")
            before = found.pop(key, None)
            found[key] = _after(before, row) if before is not None else row
        return [row for row in found.values() if row.thumb in ("up", "down") or row.edit or row.words]


def _after(before: Served, row: Served) -> Served:
    said = {name: getattr(row, name) for name in ("thumb", "edit", "words") if getattr(row, name) is not None}
    return replace(before, **said, created=row.created, scrubbed=dict(Counter(before.scrubbed) + Counter(row.scrubbed)))


def scrubbed(row: Served, public: str = "") -> Served:
    """``row`` without personal data in conversation, answer, calls, edit and words, but for what stands in ``public`` as well."""
    counts: Counter[str] = Counter()

    def finder(text: str) -> list[Found]:
        return [one for one in find(text) if text[one.start : one.end] not in public]

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return scrub(value, finder, counts=counts)
        if isinstance(value, Mapping):
            return {key: clean(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [clean(one) for one in value]
        if isinstance(value, int) and not isinstance(value, bool):
            return value if (new := clean(str(value))) == str(value) else new
        return value

    def message(one: Message) -> Message:
        return replace(one, content=clean(one.content), tool_calls=tuple(clean(call) for call in one.tool_calls))

    prompt = replace(row.prompt, messages=tuple(message(one) for one in row.prompt.messages))
    calls = tuple(clean(call) for call in row.calls)
    texts = {name: clean(getattr(row, name)) for name in ("answer", "edit", "words")}
    return replace(row, prompt=prompt, calls=calls, **texts, scrubbed=dict(counts))


def _mark(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
