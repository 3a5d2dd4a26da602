"""Training rows from their JSON-lines file into one compact Arrow table, and what there is to learn from in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from agentft.contracts import TrainJob
from agentft.errors import TrainingError


@dataclass(frozen=True)
class Rows:
    """Rows for a trainer.

    Attributes:
        dataset: ``datasets.Dataset`` with the columns ``input_ids``, ``labels`` (int32 lists) and ``row`` (index), and ``weights`` (float32
            lists, a number per token) where a row of the file has them.
        ids: id of each row, for messages.
        lengths: tokens of each row.
        supervised: number of tokens with a label, over all rows.
    """

    dataset: Any
    ids: list[str]
    lengths: list[int]
    supervised: int

    @property
    def tokens(self) -> int:
        return sum(self.lengths)

    @cached_property
    def shared_prefix(self) -> int:
        """Number of tokens that all rows begin with (the persona's, mostly)."""
        column = self.dataset.data.column("prompt_ids" if "prompt_ids" in self.dataset.column_names else "input_ids")
        return common_start(column)


def common_start(column: Any) -> int:
    """Number of leading tokens that all lists of an Arrow column have in common."""
    import numpy as np

    shared: Any = None
    for chunk in column.chunks:
        tokens, offsets = chunk.values.to_numpy(), chunk.offsets.to_numpy()
        width = int(np.diff(offsets).min()) if len(chunk) else 0
        for start in range(0, len(chunk), 4096):  # rows compared at once
            begins = offsets[:-1][start : start + 4096]
            shared = tokens[begins[0] : begins[0] + width] if shared is None else shared[:width]
            different = (tokens[begins[:, None] + np.arange(len(shared))] != shared).any(0)
            shared = shared[: int(different.argmax())] if different.any() else shared
    return 0 if shared is None else len(shared)


def read_both(
    job: TrainJob, read: Callable[[Path], Rows], read_validation: Callable[[Path], Rows] | None = None
) -> tuple[Rows, Rows | None]:
    """The rows of a job and, where it has any, its validation rows (read in the same way unless ``read_validation`` is given).

    Raises:
        TrainingError: as ``read``; or early stopping has nothing to look at.
    """
    rows = read(job.rows)
    validation = (read_validation or read)(job.validation) if job.validation and job.validation.stat().st_size else None
    if job.config.early_stopping and validation is None:
        raise TrainingError("early_stopping needs validation rows; set data.split.validation, or remove early_stopping")
    return rows, validation


def read_table(path: Path, columns: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """A JSON-lines file as one Arrow table of ``columns`` (name -> Arrow type) and ``row`` (index), and the id of each row.

    Raises:
        TrainingError: there are no rows.
    """
    import pyarrow as pa
    import pyarrow.json

    if path.stat().st_size == 0:
        raise TrainingError(f"{path.name}: there is not one row to train on; `agentft data RECIPE` shows where rows were dropped")
    table = pyarrow.json.read_json(
        path,
        read_options=pyarrow.json.ReadOptions(block_size=1 << 26),  # the longest line that can be read
        parse_options=pyarrow.json.ParseOptions(
            explicit_schema=pa.schema([("id", pa.string()), *columns.items()]), unexpected_field_behavior="ignore"
        ),
    ).combine_chunks()
    names = [name if name is not None else f"row {i + 1}" for i, name in enumerate(table["id"].to_pylist())]
    return table.drop_columns(["id"]).append_column("row", pa.array(range(len(names)), pa.int64())), names


def read_rows(path: Path, aligned: bool = True) -> Rows:
    """Read rows as :mod:`agentft.render.rows` writes them.

    Args:
        aligned: there is a label per token; false for source and target, where ``lengths`` is the sum of both.

    Raises:
        TrainingError: no rows, a row without a label, labels or weights and tokens of different length, or a weight that is none.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    from datasets import Dataset

    ids = pa.list_(pa.int32())
    table, names = read_table(path, {"input_ids": ids, "labels": ids, "weights": pa.list_(pa.float32())})
    lengths = pc.list_value_length(table["input_ids"]).to_numpy()
    labels = pc.list_value_length(table["labels"]).to_numpy()
    if aligned and (lengths != labels).any():
        raise TrainingError(f"{path.name}: row '{names[int(np.argmax(lengths != labels))]}' has not one label per token")
    owner = np.repeat(np.arange(len(labels)), labels)
    counts = np.bincount(owner, weights=pc.list_flatten(table["labels"]).to_numpy() != -100, minlength=len(lengths))
    if (counts == 0).any():
        raise TrainingError(f"{path.name}: row '{names[int(np.argmin(counts))]}' has no supervised token, there is nothing to learn in it")
    table = _weighted(path, table, names, lengths)
    return Rows(Dataset(table), names, (lengths if aligned else lengths + labels).tolist(), int(counts.sum()))


def _weighted(path: Path, table: Any, names: list[str], lengths: Any) -> Any:
    """The table with a weight for every token, 1 in rows that have none; without the column where no row has any."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    given, place = table["weights"], table.column_names.index("weights")
    if given.null_count == len(given):
        return table.drop_columns(["weights"])
    counts = pc.fill_null(pc.list_value_length(given), -1).to_numpy()
    if (wrong := (counts >= 0) & (counts != lengths)).any():
        raise TrainingError(f"{path.name}: row '{names[int(np.argmax(wrong))]}' has not one weight per token")
    flat = np.ones(int(lengths.sum()), np.float32)
    flat[np.repeat(counts >= 0, lengths)] = pc.list_flatten(given).to_numpy()
    if (wrong := ~(np.isfinite(flat) & (flat >= 0))).any():
        owner = np.repeat(np.arange(len(lengths)), lengths)[int(np.argmax(wrong))]
        raise TrainingError(f"{path.name}: row '{names[int(owner)]}' has a weight that is not a number from 0 on")
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return table.set_column(place, "weights", pa.ListArray.from_arrays(offsets, pa.array(flat, pa.float32())))
