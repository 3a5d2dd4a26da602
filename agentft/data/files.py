"""Sources that read files: JSON lines, JSON and CSV / TSV; and what all sources of files share."""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, field_validator

from agentft.contracts import DataContext
from agentft.data.columns import Columns, record
from agentft.data.json_items import iter_items
from agentft.data.jsonl import BadRows, iter_json
from agentft.data.lines import encoding_check, numbered_lines
from agentft.errors import DataError
from agentft.labelled import Labelled
from agentft.records import Example
from agentft.validation import Listed, Model

WILDCARDS = "relative to the recipe; wildcards allowed, `**` for any folders"


class RowOptions(Model):
    """Options of every source of rows."""

    limit: int | None = Field(None, gt=0, description="take only the first records")
    on_bad: Literal["error", "skip"] = Field("error", description="what to do with rows that cannot be used; skipped ones are counted")


class FileOptions(RowOptions):
    """Options of every source that reads published files."""

    path: str | Listed[str] = Field(description=f"file or files (.jsonl, .json, either with .gz); {WILDCARDS}")


class TableOptions(FileOptions):
    """Options of every source of tables; the columns decide what kind of record a row becomes."""

    columns: Columns | None = Field(None, description="mapping for rows without `messages` and without `inputs`; see docs/data.md")

    @property
    def produces(self) -> str:
        """The kind of record, which follows from the columns; conversations without any."""
        return self.columns.produces if self.columns else "example"


class JsonlConfig(TableOptions):
    """Options of the sources ``jsonl`` and ``json``."""

    path: str | Listed[str] = Field(description=f"file or files, also with .gz; {WILDCARDS}")
    records: Literal["conversations", "labelled", "texts"] = Field(
        "conversations", description="what rows are that need no `columns`: they have `messages`, or `inputs` with or without `label`"
    )

    @property
    def produces(self) -> str:
        """As the columns say; without any, as ``records`` says."""
        return (
            self.columns.produces if self.columns else {"conversations": "example", "labelled": "labelled", "texts": "text"}[self.records]
        )


class CsvConfig(TableOptions):
    """Options of the source ``csv``."""

    path: str | Listed[str] = Field(description=f"file or files with a header, also with .gz; {WILDCARDS}")
    columns: Columns = Field(description="mapping from columns to a record; see docs/data.md")
    delimiter: str | None = Field(None, description="one character that stands between columns; default: tab for .tsv, else comma")
    quoting: Literal["minimal", "none"] = Field("minimal", description='`none`: a " is a character like any other')
    encoding: str = Field("utf-8", description="of the files, such as gb18030 or utf-16")

    _encoding = encoding_check("encoding")

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, delimiter: str | None) -> str | None:
        if delimiter is not None and (len(delimiter) != 1 or delimiter in '\r\n"'):
            raise ValueError(f"'delimiter' must be one character, not {delimiter!r} (a tab is \"\\t\" in double quotes)")
        return delimiter


def read_jsonl(config: JsonlConfig, ctx: DataContext) -> Iterator[Example | Labelled]:
    """Conversations or labelled rows from JSON-lines files."""
    return as_records(config, ctx, iter_json)


def read_json(config: JsonlConfig, ctx: DataContext) -> Iterator[Example | Labelled]:
    """The same from a file that is one JSON list; the "line" in messages is the number of the row from 1."""

    def rows(path: Path, bad: BadRows) -> Iterator[tuple[int, Any]]:
        yield from enumerate(iter_items(path), 1)

    return as_records(config, ctx, rows)


def read_csv(config: CsvConfig, ctx: DataContext) -> Iterator[Example | Labelled]:
    """Rows of CSV or TSV files with a header; the line in messages is the last one of the row."""

    def rows(path: Path, bad: BadRows) -> Iterator[tuple[int, Any]]:
        name = path.name.removesuffix(".gz")
        delimiter = config.delimiter or ("\t" if name.endswith(".tsv") else ",")
        lines = numbered_lines(path, config.encoding, "save the file as UTF-8, or set encoding:")
        quoting: Literal[0, 3] = csv.QUOTE_NONE if config.quoting == "none" else csv.QUOTE_MINIMAL
        reader = csv.DictReader((line for _, line in lines), delimiter=delimiter, strict=True, quoting=quoting)
        try:
            header = list(reader.fieldnames or [])
            if missing := [c for c in config.columns.wanted if c not in header]:
                raise DataError(f"{path}:1: no column '{missing[0]}' (columns: {', '.join(header)}){_divided(header, delimiter)}")
            for row in reader:
                if None in row:
                    bad.add(path, reader.line_num, f"more than {len(header)} columns")
                elif any(value and value.strip() for value in row.values()):
                    if any("\n" in (value or "").rstrip("\r\n") for value in row.values()):
                        ctx.change("row of several lines (if its quotes are text: quoting: none)")
                    yield reader.line_num, row
        except csv.Error as error:
            advice = "" if config.quoting == "none" else ' (a " that does not quote a whole column? set quoting: none)'
            raise DataError(f"{path}:{reader.reader.line_num}: {error}{advice}") from None

    return as_records(config, ctx, rows)


def _divided(header: list[str], delimiter: str) -> str:
    """A hint where the header seems to be divided by something else."""
    counts = {mark: sum(name.count(mark) for name in header) for mark in "\t;,|" if mark != delimiter}
    best = max(counts, key=lambda mark: counts[mark])
    if len(header) > 1 or not counts[best]:
        return ""
    shown = "\\t" if best == "\t" else best
    return f'; the header looks divided by "{shown}": set delimiter: "{shown}"'


def load_json_list(path: Path) -> list[Any]:
    """The rows of a JSON file that is one list.

    Raises:
        DataError: missing, not UTF-8, not JSON (with line and column) or not a list.
    """
    return list(iter_items(path))


def paths(given: str | Iterable[str], ctx: DataContext, suffixes: tuple[str, ...] = ()) -> list[Path]:
    """The files behind ``path:``, wildcards expanded and sorted; recorded in ``ctx.files``.

    With ``suffixes`` a folder stands for all files below it whose names end so, also with ``.gz``.

    Raises:
        DataError: nothing matches a wildcard, or a folder holds no such file.
    """
    result: list[Path] = []
    for one in [given] if isinstance(given, str) else given:
        whole = ctx.base / Path(one).expanduser()
        # A file may have brackets in its name.
        if any(c in one for c in "*?[") and not whole.exists():
            pattern = str(Path(one).expanduser())
            found = [ctx.base / name for name in glob.glob(pattern, root_dir=ctx.base, recursive=True)]
            found = sorted(path for path in found if path.is_file())
            if not found:
                raise DataError(f"no file matches {whole}")
        elif suffixes and whole.is_dir():
            found = sorted(Path(folder, name) for folder, _, names in os.walk(whole) for name in names if _ends(name, suffixes))
            if not found:
                raise DataError(f"no {' or '.join(suffixes)} file in the folder {whole}")
        else:
            found = [whole]
        result += found
    ctx.files += result
    return result


def _ends(name: str, suffixes: tuple[str, ...]) -> bool:
    return not name.startswith(".") and name.lower().removesuffix(".gz").endswith(suffixes)


# Numbered rows of one file: the place is a line, a row, or whatever finds it again.
Rows = Callable[[Path, BadRows], Iterator[tuple[Any, Any]]]
T = TypeVar("T")


class Left(DataError):
    """A row that is well-formed and still holds nothing of what is asked for; it is dropped and counted, never an error."""


def rows_of(path: Path, bad: BadRows) -> Iterator[tuple[int, Any]]:
    """Numbered rows of a file of JSON lines, or of a ``.json`` file that is one list; either with ``.gz``."""
    if path.name.removesuffix(".gz").endswith(".json"):
        yield from enumerate(iter_items(path), 1)
    else:
        yield from iter_json(path, bad)


def converted(
    config: FileOptions, ctx: DataContext, rows: Rows, convert: Callable[[Any, str], T], suffixes: tuple[str, ...] = ()
) -> Iterator[T]:
    """Rows of files as records; ``convert`` gets a row and its default id. With ``suffixes`` a folder may be named.

    Raises:
        DataError: with file and line of every row that cannot be used, unless ``on_bad: skip``; those are then counted.
    """
    files = paths(config.path, ctx, suffixes)
    bad = bad_rows(config, ctx)
    yield from collected(config, ctx, bad, ((str(path), stem(path), rows(path, bad)) for path in files), convert)


def stem(path: Path) -> str:
    """Name of a file without ``.gz`` and the ending before it; what default ids begin with."""
    return Path(path.name.removesuffix(".gz")).stem


def bad_rows(config: RowOptions, ctx: DataContext) -> BadRows:
    """Where rows go that cannot be used: into the account, or into one error."""
    return BadRows(None if config.on_bad == "error" else lambda problem: ctx.drop("row cannot be used", problem))


def collected(
    config: RowOptions,
    ctx: DataContext,
    bad: BadRows,
    parts: Iterable[tuple[str, str, Iterable[tuple[Any, Any]]]],
    convert: Callable[[Any, str], T],
) -> Iterator[T]:
    """Rows of several parts as records. A part is its name for messages, the beginning of default ids, and numbered rows."""
    count = 0
    for where, name, rows in parts:
        for place, row in rows:
            try:
                one = convert(row, f"{name}-{place}")
            except Left as reason:
                ctx.drop(str(reason), f"{where}:{place}")
                continue
            except DataError as error:
                bad.add(where, place, error)
                continue
            yield one
            count += 1
            if config.limit is not None and count >= config.limit:
                break
        if config.limit is not None and count >= config.limit:
            break
    bad.raise_if_any("correct them, or set on_bad: skip")


def as_records(config: TableOptions, ctx: DataContext, rows: Rows, suffixes: tuple[str, ...] = ()) -> Iterator[Example | Labelled]:
    """Rows of tables as the records that the columns say."""
    return converted(config, ctx, rows, lambda row, name: record(row, config.columns, name), suffixes)
