"""Human labels for critics: which of two answers is better, or whether an answer meets an item of a checklist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentft.data.files import load_json_list
from agentft.data.jsonl import BadRows, iter_json
from agentft.errors import DataError
from agentft.records import Example, Message

_LETTERS = {"a": "first", "b": "second", "1": "first", "2": "second", "first": "first", "second": "second"}
_ITEMS = {"pass": "pass", "fail": "fail", "yes": "pass", "no": "fail", "true": "pass", "false": "fail"}


@dataclass(frozen=True)
class LabelledPair:
    """Two answers, and the one that people prefer: ``first`` or ``second``."""

    id: str
    prompt: Example
    first: str
    second: str
    label: str


@dataclass(frozen=True)
class LabelledItem:
    """An answer, an item in words, and whether people say that it is met: ``pass`` or ``fail``."""

    id: str
    prompt: Example
    response: str
    item: str
    text: str
    label: str


Labelled = LabelledPair | LabelledItem


def read_labels(path: Path) -> list[Labelled]:
    """Labels from a JSON-lines file, a JSON list, or a folder of ``dataset.json`` files in LLMBar's form.

    A row is ``{prompt | messages | input, a, b, label: a | b}`` (LLMBar: ``input, output_1, output_2, label: 1 | 2``) or
    ``{prompt | messages, response, item, text?, label: pass | fail}``.

    Raises:
        DataError: with file and line of every row that cannot be used.
    """
    bad = BadRows()
    found: list[Labelled] = []
    for file, number, row in _rows(path, bad):
        try:
            found.append(_label(row, f"{_name(file, path)}-{number}"))
        except DataError as error:
            bad.add(file, number, error)
    bad.raise_if_any("correct them")
    if not found:
        raise DataError(f"{path}: no labels")
    if len({type(one) for one in found}) > 1:
        raise DataError(f"{path}: pairs and items are mixed; put them into two files")
    return found


def _name(file: Path, path: Path) -> str:
    return "-".join(file.relative_to(path).parts[:-1]).lower() if path.is_dir() else file.stem


def _rows(path: Path, bad: BadRows) -> Iterator[tuple[Path, int, Any]]:
    if path.is_dir():
        files = sorted(path.rglob("dataset.json"))
        if not files:
            raise DataError(f"{path}: no dataset.json in this folder")
    else:
        files = [path]
    for file in files:
        if file.suffix == ".json":
            yield from ((file, number, row) for number, row in enumerate(load_json_list(file), 1))
        else:
            yield from ((file, number, row) for number, row in iter_json(file, bad))


def _label(row: Any, default: str) -> Labelled:
    if not isinstance(row, Mapping):
        raise DataError(f"a row must be an object, not {type(row).__name__}")
    name = str(row.get("id") or default)
    prompt = _prompt(row, name)
    label = str(row.get("label")).lower()
    if "item" in row:
        if label not in _ITEMS:
            raise DataError(f"label must be pass or fail, not {row.get('label')!r}")
        return LabelledItem(name, prompt, _text(row, "response"), _text(row, "item"), str(row.get("text") or row["item"]), _ITEMS[label])
    if label not in _LETTERS:
        raise DataError(f"label must be a or b, not {row.get('label')!r}")
    first, second = (next((key for key in keys if key in row), keys[0]) for keys in (("a", "output_1"), ("b", "output_2")))
    return LabelledPair(name, prompt, _text(row, first), _text(row, second), _LETTERS[label])


def _prompt(row: Mapping[str, Any], name: str) -> Example:
    if "messages" in row:
        return Example.from_dict({"messages": row["messages"]}, name)
    key = "prompt" if "prompt" in row else "input"
    return Example(name, (Message("user", _text(row, key)),))


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise DataError(f"'{key}' must be text" if key in row else f"no '{key}'")
    return value
