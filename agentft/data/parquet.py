"""``parquet``: rows of Parquet files, read batch by batch and only the columns that are asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from agentft.contracts import DataContext
from agentft.data.columns import Columns
from agentft.data.files import WILDCARDS, TableOptions, as_records
from agentft.data.jsonl import BadRows
from agentft.data.plain import Change, class_names, named_row, plain
from agentft.errors import DataError
from agentft.labelled import Labelled
from agentft.records import Example
from agentft.validation import Listed

_BATCH = 256  # rows that lie in memory at a time
_BUFFER = 1 << 20  # bytes of a column that are read at a time, instead of all of its row group


class ParquetConfig(TableOptions):
    """Options of the source ``parquet``."""

    path: str | Listed[str] = Field(description=f"file or files, or a folder with .parquet files; {WILDCARDS}")


def read_parquet(config: ParquetConfig, ctx: DataContext) -> Iterator[Example | Labelled]:
    """Rows of Parquet files; the "line" in messages is the number of the row from 1.

    Raises:
        DataError: a file is missing, is no Parquet file, or lacks a column; with file and row where a row cannot be used.
    """
    return as_records(config, ctx, lambda path, bad: _rows(path, bad, config.columns), (".parquet",))


def _rows(path: Path, bad: BadRows, columns: Columns | None) -> Iterator[tuple[int, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
            names, named = file.schema_arrow.names, _class_names(file.schema_arrow.metadata)
            number = 0
            for batch in file.iter_batches(_BATCH, columns=_wanted(path, names, columns), use_threads=False):
                for row in batch.to_pylist(maps_as_pydicts="lossy"):
                    number += 1
                    try:
                        yield number, plain(named_row(row, named))
                    except DataError as error:
                        bad.add(path, number, error)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        reason = getattr(error, "strerror", "") or str(error).splitlines()[0]
        raise DataError(f"cannot read {path} as Parquet: {reason}") from None


def _wanted(path: Path, names: list[str], columns: Columns | None) -> list[str] | None:
    """Names of the columns to read, or None for all."""
    if columns is None or {"messages", "inputs"} & set(names):
        return None
    wanted = {name: name if name in names else name.split(".")[0] for name in columns.wanted}
    for name, top in wanted.items():
        if top not in names:
            raise DataError(f"{path}: no column '{name}' (columns: {', '.join(names)})")
    # pyarrow takes a dot in a name for a path of its own.
    return None if any("." in top for top in wanted.values()) else sorted(set(wanted.values()))


def _class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, Change]:
    """Names of classes that ``datasets`` writes beside the columns; none in files of other programs."""
    if not metadata or b"huggingface" not in metadata:
        return {}
    from datasets import Features

    try:
        return class_names(Features.from_dict(json.loads(metadata[b"huggingface"])["info"]["features"]))
    except (ValueError, KeyError, TypeError):
        return {}  # written by a version that describes columns in another way; the numbers stay
