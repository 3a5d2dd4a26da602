"""``spans``: extractive question answering and slot filling, as questions about a context with the places of their answers.

| format | row |
|---|---|
| ``squad`` | SQuAD v1 and v2: ``data[].paragraphs[].qas[]``; ``is_impossible`` gives no span |
| ``flat`` | ``question``, ``context``, ``answers`` with ``text`` and ``answer_start`` (lists beside each other, or a list of objects) |
| ``slots`` | RESTAURANTS-8K: ``userInput.text``, ``context.requestedSlots``, ``labels[]`` with ``slot`` and ``valueSpan`` |
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from agentft.contracts import DataContext
from agentft.data.files import FileOptions, bad_rows, collected, paths, stem
from agentft.data.json_items import iter_items
from agentft.data.jsonl import BadRows, iter_json
from agentft.errors import DataError
from agentft.labelled import Labelled

_SUFFIXES = (".json", ".jsonl")


class SpansConfig(FileOptions):
    """Options of the source ``spans``."""

    format: Literal["auto", "squad", "flat", "slots"] = Field("auto", description="shape of the rows; `auto`: told from each row's keys")
    questions: dict[str, str] = Field(
        default_factory=dict, description="slots: how a slot is asked for, such as `{people: How many people?}`; default: its name"
    )
    negatives: Literal["all", "requested", "none"] = Field(
        "requested",
        description="slots: which unfilled slots become questions without an answer: all that occur in the files or in `questions`, those "
        "that the agent has asked for, or none",
    )
    group: str | None = Field(
        None, description="flat: column that a split must not separate; default: `title`, or all questions about one context"
    )


def read_spans(config: SpansConfig, ctx: DataContext) -> Iterator[Labelled]:
    """Questions about a context. SQuAD's place in messages is article.paragraph.question, from 1; that of slots is row.slot.

    Blanks around a span are left out of it, and counted.

    Raises:
        DataError: with file and place of every row that cannot be used (a span that does not stand in its context, say), unless
            ``on_bad: skip``.
    """
    files, bad = paths(config.path, ctx, _SUFFIXES), bad_rows(config, ctx)
    slots = _all_slots(files, config) if config.negatives == "all" else ()

    def parts() -> Iterator[tuple[str, str, Iterator[tuple[Any, Any]]]]:
        for path in files:
            yield str(path), stem(path), _questions(path, bad, config, slots, ctx)

    yield from collected(config, ctx, bad, parts(), lambda row, name: _labelled(row, name, ctx))


def _rows(path: Path, bad: BadRows) -> Iterator[tuple[int, Any]]:
    if path.name.removesuffix(".gz").endswith(".json"):
        yield from enumerate(iter_items(path, "data"), 1)
    else:
        yield from iter_json(path, bad)


def _questions(path: Path, bad: BadRows, config: SpansConfig, slots: Sequence[str], ctx: DataContext) -> Iterator[tuple[Any, Any]]:
    """Rows as ``question``, ``context``, ``spans`` (text and start), ``id``, ``group`` and ``meta``, one for each question."""
    for number, row in _rows(path, bad):
        try:
            shape = config.format if config.format != "auto" else shape_of(row)
            if shape == "squad":
                yield from _squad(row, number, stem(path), bad, path)
            elif shape == "flat":
                yield number, _flat(row, config.group)
            else:
                found = list(_slots(row, f"{stem(path)}-{number}", config, slots))
                if not found:
                    ctx.drop("no slot is asked for or filled", f"{path}:{number}")
                for slot, one in found:
                    yield f"{number}.{slot}", one
        except DataError as error:
            bad.add(path, number, error)


def shape_of(row: Any) -> str:
    """The format that a row's keys tell.

    Raises:
        DataError: none that we know.
    """
    if not isinstance(row, Mapping):
        raise DataError(f"a row must be an object, not {type(row).__name__}")
    if "paragraphs" in row:
        return "squad"
    if "question" in row and "context" in row:
        return "flat"
    if "userInput" in row:
        return "slots"
    raise DataError(f"neither SQuAD, nor question with context, nor slots in the keys {', '.join(map(str, row))} (set format:)")


def _squad(article: Any, number: int, name: str, bad: BadRows, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    title = article.get("title")
    for at, paragraph in enumerate(_list(article, "paragraphs"), 1):
        try:
            context, asked = _need(paragraph, "context"), _list(paragraph, "qas")
        except DataError as error:
            bad.add(path, f"{number}.{at}", error)
            continue
        for index, one in enumerate(asked, 1):
            place = f"{number}.{at}.{index}"
            try:
                spans = [] if _get(one, "is_impossible") else _answers(_need(one, "answers"))
                yield (
                    place,
                    {
                        "id": one.get("id"),
                        "question": _need(one, "question"),
                        "context": context,
                        "spans": spans,
                        "group": str(title) if title else f"{name}-{number}",
                        "meta": {"title": title} if title else {},
                    },
                )
            except DataError as error:
                bad.add(path, place, error)


def _flat(row: Any, column: str | None) -> dict[str, Any]:
    context = _need(row, "context")
    group = _need(row, column) if column else row.get("title") or (digest(context) if isinstance(context, str) else None)
    return {
        "id": row.get("id"),
        "question": _need(row, "question"),
        "context": context,
        "spans": [] if row.get("is_impossible") else _answers(_need(row, "answers")),
        "group": group,
        "meta": {"title": row["title"]} if row.get("title") else {},
    }


def digest(text: str) -> str:
    """A short name for a text, the same in every file."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _answers(answers: Any) -> list[dict[str, Any]]:
    """The accepted answers, each once."""
    if isinstance(answers, Mapping):
        texts, starts = _list(answers, "text"), _list(answers, "answer_start")
        if len(texts) != len(starts):
            raise DataError(f"'answers' has {len(texts)} texts and {len(starts)} starts")
    elif isinstance(answers, list):
        texts, starts = [_need(one, "text") for one in answers], [_need(one, "answer_start") for one in answers]
    else:
        raise DataError("'answers' must be a list, or an object with text and answer_start")
    spans: list[dict[str, Any]] = []
    for text, start in zip(texts, starts, strict=True):
        if (one := {"text": text, "start": start}) not in spans:
            spans.append(one)
    return spans


def _slots(row: Any, name: str, config: SpansConfig, slots: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    text = _need(_need(row, "userInput"), "text")
    if not isinstance(text, str):
        raise DataError("'text' must be text")
    requested = _requested(row)
    filled: dict[str, list[dict[str, Any]]] = {}
    for slot, start, end in _values(row):
        if not 0 <= start < end <= len(text):
            raise DataError(f"the span of '{slot}' ({start} to {end}) does not lie in the text, which has {len(text)} characters")
        filled.setdefault(slot, []).append({"text": text[start:end], "start": start})
    asked = {"all": [*slots], "requested": requested, "none": []}[config.negatives]
    for slot in dict.fromkeys([*filled, *requested, *asked] if config.negatives != "none" else filled):
        meta = {"slot": slot, "requested": slot in requested}
        question = config.questions.get(slot, slot)
        yield slot, {"question": question, "context": text, "spans": filled.get(slot, []), "group": name, "meta": meta}


def _requested(row: Any) -> list[str]:
    context = _get(row, "context") or {}
    return [str(slot) for slot in _list(context, "requestedSlots")] if _get(context, "requestedSlots") else []


def _values(row: Any) -> Iterator[tuple[str, int, int]]:
    """Slot, start and end (in characters) of each label; a start that is left out is 0, as protocol buffers write it."""
    for label in _list(row, "labels") if _get(row, "labels") else []:
        slot, span = _need(label, "slot"), _need(label, "valueSpan")
        start, end = _get(span, "startIndex", 0), _need(span, "endIndex")
        if not isinstance(start, int) or not isinstance(end, int):
            raise DataError(f"the span of '{slot}' needs whole numbers")
        yield str(slot), start, end


def _all_slots(files: Sequence[Path], config: SpansConfig) -> tuple[str, ...]:
    """Every slot that occurs, in the order of the alphabet; it takes a reading of the files before the real one."""
    found = set(config.questions)
    for path in files:
        for _, row in _rows(path, BadRows(lambda problem: None)):
            try:
                if isinstance(row, Mapping) and "userInput" in row:
                    found |= {slot for slot, _, _ in _values(row)} | {*_requested(row)}
            except DataError:
                continue  # the real reading reports it
    return tuple(sorted(found))


def _labelled(row: Mapping[str, Any], default_id: str, ctx: DataContext) -> Labelled:
    spans = [_trimmed(span, ctx) for span in row["spans"]]
    inputs = {"question": row["question"], "context": row["context"]}
    return Labelled.from_dict(
        {"id": row.get("id"), "inputs": inputs, "label": spans, "group": row["group"], "meta": row["meta"]}, default_id
    )


def _trimmed(span: Mapping[str, Any], ctx: DataContext) -> Mapping[str, Any]:
    text, start = span["text"], span["start"]
    if not isinstance(text, str) or not isinstance(start, int) or isinstance(start, bool) or start < 0 or text == text.strip():
        return span
    ctx.change("blanks around a span left out")
    return {"text": text.strip(), "start": start + len(text) - len(text.lstrip())}


def _get(value: Any, key: str, default: Any = None) -> Any:
    if not isinstance(value, Mapping):
        raise DataError(f"'{key}' is looked for in {type(value).__name__}, not in an object")
    return value.get(key, default)


def _need(value: Any, key: str) -> Any:
    found = _get(value, key)
    if found is None:
        raise DataError(f"'{key}' is missing")
    return found


def _list(value: Any, key: str) -> list[Any]:
    found = _need(value, key)
    if not isinstance(found, list):
        raise DataError(f"'{key}' must be a list")
    return found
