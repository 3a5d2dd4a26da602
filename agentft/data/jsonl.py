"""Reading and writing JSON lines, with file and line in every error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from agentft.data.lines import numbered_lines
from agentft.errors import DataError
from agentft.labelled import Labelled, record_from_dict
from agentft.records import Example

T = TypeVar("T")
SHOWN = 20  # problems listed in one error; the rest is counted


class BadRows:
    """Collects problems of rows so that a user sees all of them at once, or hands them on where they are to be skipped.

    Args:
        skip: called with every problem as it is found; nothing is collected then.
    """

    def __init__(self, skip: Callable[[str], None] | None = None) -> None:
        self.skip = skip
        self.problems: list[str] = []  # the first ones; a file may be wrong in every line
        self.count = 0

    def add(self, path: Path | str, line: int | str, error: object) -> None:
        problem = f"{path}:{line}: {error}"
        if self.skip is not None:
            self.skip(problem)
            return
        self.count += 1
        if len(self.problems) < SHOWN:
            self.problems.append(problem)

    def raise_if_any(self, hint: str) -> None:
        if self.problems:
            more = self.count - len(self.problems)
            shown = self.problems + ([f"... and {more} more"] if more > 0 else [])
            raise DataError("\n".join([*shown, f"{self.count} rows cannot be used; {hint}"]))


def iter_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Non-empty lines with their numbers from 1; a ``.gz`` file is unpacked on the way.

    Raises:
        DataError: the file is missing, a folder, or not UTF-8 (with the line).
    """
    return ((number, line) for number, line in numbered_lines(path) if line.strip())


def iter_json(path: Path, bad: BadRows) -> Iterator[tuple[int, Any]]:
    """Parsed lines with their numbers; lines that are not JSON go to ``bad``."""
    for number, line in iter_lines(path):
        try:
            yield number, json.loads(line)
        except ValueError as error:
            bad.add(path, number, f"not JSON: {error}")


def iter_rows(path: Path) -> Iterator[Any]:
    """Rows that agentft itself wrote; a line that is not JSON is an error with file and line."""
    bad = BadRows()
    for _, row in iter_json(path, bad):
        yield row
    bad.raise_if_any("delete the stage's folder to compute it again")


def read_examples(path: Path) -> Iterator[Example]:
    """Examples that agentft itself wrote; any problem is an error with file and line."""
    return _parsed(path, Example.from_dict)


def _parsed(path: Path, parse: Callable[[Any, str], T]) -> Iterator[T]:
    bad = BadRows()
    for number, row in iter_json(path, bad):
        try:
            yield parse(row, f"{path.stem}-{number}")
        except DataError as error:
            bad.add(path, number, error)
    bad.raise_if_any("correct them")


def read_records(path: Path) -> Iterator[Example | Labelled]:
    """Examples or labelled rows that agentft itself wrote; any problem is an error with file and line."""
    return _parsed(path, record_from_dict)


def read_conversations(path: Path) -> Iterator[Example]:
    """The conversations among the records; raw texts and labelled rows may stand beside them."""
    return (row for row in read_records(path) if isinstance(row, Example))


def read_texts(path: Path) -> Iterator[Labelled]:
    """The raw texts and labelled rows among the records."""
    return (row for row in read_records(path) if isinstance(row, Labelled))


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write mappings as JSON lines; returns their number."""
    count = 0
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def write_examples(path: Path, examples: Iterable[Example | Labelled]) -> int:
    return write_rows(path, (example.to_dict() for example in examples))
