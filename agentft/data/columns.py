"""Which columns of a row become what: one mapping for every source of tables, and the record that it makes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, model_validator

from agentft.errors import DataError
from agentft.labelled import Labelled
from agentft.records import Example
from agentft.text import CJK
from agentft.validation import Listed, Model

# Chinese and its marks are written without blanks.
_NO_BLANK = re.compile(f"[{CJK}，。！？；：、”’）》」』…]$|\\s$")
# What makes a kind of record: its first column, and the others that may stand beside it.
_KINDS = {
    "user": ("assistant", "system"),
    "text": ("pair", "label"),
    "tokens": ("label",),
    "question": ("context", "label", "answer", "start"),
}


class Columns(Model):
    """A mapping of columns for rows that have no ``messages`` and no ``inputs``.

    ``user`` (with ``assistant``, ``system``) makes a conversation; ``text`` (with ``pair``, ``label``), ``tokens`` (with ``label``)
    and ``question`` with ``context`` make rows for tasks with heads.

    A value names a column; where there is none of that name, a path into it: ``userInput.text``, ``target.0`` (the first entry of a
    list). A list of texts where one text is asked for is joined.
    """

    user: str | None = Field(None, description="what the user says: the row becomes a conversation")
    assistant: str | None = Field(None, description="the answer; without it the row is a prompt")
    system: str | None = Field(None, description="a system message, put in front")
    text: str | None = Field(None, description="a text to classify, to score, or to learn as it is")
    pair: str | None = Field(None, description="a second text beside it")
    tokens: str | None = Field(None, description="words to be tagged: a list, or text that is split at blanks")
    question: str | None = Field(None, description="what is looked for in `context`")
    context: str | None = Field(None, description="where it is looked for")
    label: str | None = Field(
        None, description="class, number, tags (a list, or text that is split at blanks), or spans (a list of `text` and `start`)"
    )
    label_separator: str | None = Field(None, min_length=1, description="splits a text label into several classes")
    answer: str | None = Field(None, description="text of the answer in `context`, instead of `label`; empty: there is none")
    start: str | None = Field(None, description="where the answer starts, in characters; left out: where it stands first")
    id: str | None = Field(None, description="the id; default: file name and line")
    group: str | None = Field(None, description="what a split must not separate")
    meta: Listed[str] = Field((), description="columns to keep as meta data")

    @model_validator(mode="after")
    def _one_kind(self) -> Columns:
        kinds = [name for name in _KINDS if getattr(self, name)]
        if len(kinds) != 1:
            raise ValueError(
                "name exactly one of user, text, tokens, or question with context" + (f", not {' and '.join(kinds)}" if kinds else "")
            )
        known = {kinds[0], *_KINDS[kinds[0]]}
        roles = {"user", *(name for names in _KINDS.values() for name in names)} | set(_KINDS)
        if wrong := sorted(name for name in roles - known if getattr(self, name)):
            raise ValueError(f"'{wrong[0]}' does not go with '{kinds[0]}'")
        if self.question and not self.context:
            raise ValueError("'question' needs 'context'")
        if self.answer and self.label:
            raise ValueError("name either 'label' or 'answer'")
        return self

    @property
    def produces(self) -> str:
        """The kind of record: ``example``, ``prompt``, ``labelled`` or ``text``."""
        if self.user:
            return "example" if self.assistant else "prompt"
        return "labelled" if self.label or self.answer or not self.text else "text"

    @property
    def wanted(self) -> list[str]:
        """Names of all columns that must be there."""
        given = self.model_dump(exclude={"label_separator", "meta"})
        return [*(name for name in given.values() if name), *self.meta]


def record(row: Any, columns: Columns | None, default_id: str) -> Example | Labelled:
    """A row of a table as a record; a row that has ``messages`` or ``inputs`` is one already.

    Raises:
        DataError: a column is missing or empty, or its value is of the wrong type.
    """
    if not isinstance(row, Mapping):
        raise DataError(f"a row must be an object, not {type(row).__name__}")
    if "inputs" in row:
        return Labelled.from_dict(row, default_id)
    if columns is None or "messages" in row:
        return Example.from_dict(row, default_id)
    data: dict[str, Any] = {
        "id": _cell(row, columns.id) if columns.id else None,
        "group": _cell(row, columns.group) if columns.group else None,
        "meta": {name: find(row, name) for name in columns.meta},
    }
    if columns.user:
        roles = (("system", columns.system), ("user", columns.user), ("assistant", columns.assistant))
        data["messages"] = [{"role": role, "content": _text(row, column)} for role, column in roles if column]
        return Example.from_dict(data, default_id)
    if columns.tokens:
        data["inputs"] = {"tokens": _words(row, columns.tokens)}
        data["label"] = _words(row, columns.label) if columns.label else None
    elif columns.question:
        data["inputs"] = {"question": _text(row, columns.question), "context": _text(row, columns.context)}
        data["label"] = _answer(row, columns, data["inputs"]["context"])
    else:
        data["inputs"] = {name: _text(row, column) for name, column in (("text", columns.text), ("pair", columns.pair)) if column}
        data["label"] = _label(row, columns)
    return Labelled.from_dict(data, default_id)


def find(row: Mapping[str, Any], column: str, default: Any = None) -> Any:
    """Value of a column, or of a path of keys and positions such as ``targets.0.text``; ``default`` where there is none."""
    if column in row or "." not in column:
        return row.get(column, default)
    value: Any = row
    for step in column.split("."):
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return default
    return value


_MISSING = object()


def _cell(row: Mapping[str, Any], column: str) -> Any:
    value = find(row, column, _MISSING)
    if value is _MISSING:
        raise DataError(f"no column '{column}'" + (f" (columns: {', '.join(map(str, row))})" if "." in column else ""))
    return value


def _text(row: Mapping[str, Any], column: str | None) -> str:
    value = _cell(row, column or "")
    if isinstance(value, Sequence) and not isinstance(value, str) and value and all(isinstance(one, str) for one in value):
        value = joined(value)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"column '{column}' is empty" if not value else f"column '{column}' holds {type(value).__name__}, not text")
    return value


def joined(pieces: Sequence[str]) -> str:
    """Sentences as one text: a blank between two, none after a Chinese character or mark."""
    text = ""
    for piece in pieces:
        text += piece if not text or _NO_BLANK.search(text) else f" {piece}"
    return text


def _words(row: Mapping[str, Any], column: str) -> list[str]:
    value = _cell(row, column)
    if isinstance(value, str):
        return value.split()
    if not isinstance(value, Sequence):
        raise DataError(f"column '{column}' must be a list of words, or text")
    return [str(one) for one in value]


def _label(row: Mapping[str, Any], columns: Columns) -> Any:
    if columns.label is None:
        return None
    value = _cell(row, columns.label)
    if value is None or value == "":
        raise DataError(f"column '{columns.label}' is empty")
    if columns.label_separator and isinstance(value, str):
        return [one.strip() for one in value.split(columns.label_separator) if one.strip()]
    return value


def _answer(row: Mapping[str, Any], columns: Columns, context: str) -> Any:
    if not columns.answer:
        return _cell(row, columns.label) if columns.label else None
    text = _cell(row, columns.answer)
    if text is None or text == "":
        return []
    start = _cell(row, columns.start) if columns.start else context.find(str(text))
    if isinstance(start, str) and start.isdecimal():
        start = int(start)
    if start == -1:
        raise DataError(f"the answer '{text}' does not stand in column '{columns.context}'")
    return [{"text": str(text), "start": start}]
