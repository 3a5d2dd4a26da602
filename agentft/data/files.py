"""Sources that read files: JSON lines, JSON and CSV / TSV."""

from __future__ import annotations

import csv
import glob
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from agentft.contracts import DataContext
from agentft.data.columns import Columns, record
from agentft.data.jsonl import BadRows, iter_json, iter_lines
from agentft.errors import DataError
from agentft.labelled import Labelled
from agentft.records import Example
from agentft.validation import Listed, Model


class JsonlConfig(BaseModel):
    """Options of the sources ``jsonl`` and ``json``."""

    model_config = ConfigDict(extra="forbid")

    path: str | list[str] = Field(description="File or files; relative to the recipe; wildcards allowed.")
    columns: Columns | None = Field(None, description="Mapping for rows without `messages` and without `inputs`.")
    limit: int | None = Field(None, gt=0, description="Take only the first rows.")
    on_bad: Literal["error", "skip"] = Field("error", description="What to do with rows that cannot be used; skipped ones are counted.")

    @property
    def produces(self) -> str:
        """The kind of record, which follows from the columns; conversations without any."""
        return self.columns.produces if self.columns else "example"


class CsvConfig(JsonlConfig):
    """Options of the source ``csv``."""

    columns: Columns = Field(description="Mapping from columns to a conversation.")
    delimiter: str | None = Field(None, description="Default: tab for .tsv, else comma.")


def read_jsonl(config: JsonlConfig, ctx: DataContext) -> Iterator[Example | Labelled]:
    """Conversations from JSON-lines files."""

    def rows(path: Path, bad: BadRows) -> Iterator[tuple[int, Any]]:
        return iter_json(path, bad)

    return _read(config, ctx, rows)


def read_json(config: JsonlConfig, ctx: DataContext) -> Iterator[Example | Labelled]:
    """Conversations from a file that is one JSON list; the "line" in messages is the index of the row from 1."""

    def rows(path: Path, bad: BadRows) -> Iterator[tuple[int, Any]]:
        yield from enumerate(load_json_list(path), 1)

    return _read(config, ctx, rows)


def read_csv(config: CsvConfig, ctx: DataContext) -> Iterator[Example | Labelled]:
    """Rows of CSV or TSV files with a header."""

    def rows(path: Path, bad: BadRows) -> Iterator[tuple[int, Any]]:
        delimiter = config.delimiter or ("\t" if path.suffix == ".tsv" else ",")
        reader = csv.DictReader((line for _, line in iter_lines(path)), delimiter=delimiter, strict=True)
        if missing := [c for c in config.columns.wanted if c not in (reader.fieldnames or [])]:
            raise DataError(f"{path}:1: no column '{missing[0]}' (columns: {', '.join(reader.fieldnames or [])})")
        try:
            for row in reader:
                if None in row:
                    bad.add(path, reader.line_num, f"more than {len(reader.fieldnames or [])} columns")
                else:
                    yield reader.line_num, row
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: {error}") from None

    return _read(config, ctx, rows)


def load_json_list(path: Path) -> list[Any]:
    """The rows of a JSON file that is one list.

    Raises:
        DataError: missing, not UTF-8, not JSON (with line and column) or not a list.
    """
    text = "".join(line for _, line in iter_lines(path))
    try:
        data = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from None
    if not isinstance(data, list):
        raise DataError(f"{path}: expected a list of rows, found {type(data).__name__} (one object a line? use: jsonl)")
    return data


def paths(given: str | list[str], ctx: DataContext) -> list[Path]:
    """The files behind ``path:``, wildcards expanded and sorted; recorded in ``ctx.files``."""
    result: list[Path] = []
    for one in [given] if isinstance(given, str) else given:
        absolute = str(ctx.base / Path(one).expanduser())
        found = sorted(glob.glob(absolute)) if any(c in one for c in "*?[") else [absolute]
        if not found:
            raise DataError(f"no file matches {absolute}")
        result += [Path(name) for name in found]
    ctx.files += result
    return result


class FileOptions(Model):
    """Options of every source that reads published files."""

    path: str | Listed[str] = Field(description="file or files (.jsonl, .json, either with .gz); relative to the recipe; wildcards allowed")
    limit: int | None = Field(None, gt=0, description="take only the first rows")
    on_bad: Literal["error", "skip"] = Field("error", description="what to do with rows that cannot be used; skipped ones are counted")


Rows = Callable[[Path, BadRows], Iterator[tuple[int, Any]]]
T = TypeVar("T")


class Left(DataError):
    """A row that is well-formed and still holds nothing of what is asked for; it is dropped and counted, never an error."""


def rows_of(path: Path, bad: BadRows) -> Iterator[tuple[int, Any]]:
    """Numbered rows of a file of JSON lines, or of a ``.json`` file that is one list; either with ``.gz``."""
    if path.name.removesuffix(".gz").endswith(".json"):
        yield from enumerate(load_json_list(path), 1)
    else:
        yield from iter_json(path, bad)


def converted(config: FileOptions | JsonlConfig, ctx: DataContext, rows: Rows, convert: Callable[[Any, str], T]) -> Iterator[T]:
    """Rows of files as records; ``convert`` gets a row and its default id.

    Raises:
        DataError: with file and line of every row that cannot be used, unless ``on_bad: skip``; those are then counted.
    """
    bad, count = BadRows(), 0
    for path in paths(config.path if isinstance(config.path, str) else list(config.path), ctx):
        for number, row in rows(path, bad):
            if config.limit is not None and count >= config.limit:
                break
            try:
                one = convert(row, f"{Path(path.name.removesuffix('.gz')).stem}-{number}")
            except Left as reason:
                ctx.drop(str(reason), f"{path}:{number}")
                continue
            except DataError as error:
                bad.add(path, number, error)
                continue
            count += 1
            yield one
    if config.on_bad == "error":
        bad.raise_if_any("correct them, or set on_bad: skip")
    for problem in bad.problems:
        ctx.drop("row cannot be used", problem)


def _read(config: JsonlConfig, ctx: DataContext, rows: Rows) -> Iterator[Example | Labelled]:
    return converted(config, ctx, rows, lambda row, name: record(row, config.columns, name))
