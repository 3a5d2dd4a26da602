"""Preference pairs from their JSON-lines file into one Arrow table."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from agentft.errors import TrainingError
from agentft.train.rows import Rows


def read_pairs(path: Path) -> Rows:
    """Rows with the columns ``prompt_ids``, ``chosen_ids``, ``rejected_ids`` (int32 lists) and ``row``.

    ``lengths`` count both sides, with the prompt once.

    Raises:
        TrainingError: no row, or a row with one side only.
    """
    import pyarrow as pa
    from datasets import Dataset

    rows = _read(path)
    unpaired = [row["id"] for row in rows if row["chosen_ids"] is None or row["rejected_ids"] is None]
    if unpaired:
        raise TrainingError(
            f"{path.name}: {len(unpaired)} of {len(rows)} rows have one answer only (first: '{unpaired[0]}');"
            " `use: kto` learns from such rows"
        )
    ids = pa.list_(pa.int32())
    columns = {name: pa.array([row[name] for row in rows], ids) for name in ("prompt_ids", "chosen_ids", "rejected_ids")}
    table = pa.table(columns | {"row": pa.array(range(len(rows)), pa.int64())})
    answers = [len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in rows]
    lengths = [len(row["prompt_ids"]) + count for row, count in zip(rows, answers, strict=True)]
    return Rows(Dataset(table), [row["id"] for row in rows], lengths, sum(answers))


def read_answers(path: Path, draw: random.Random) -> Rows:
    """Single answers, in an order drawn by ``draw``: columns ``prompt_ids``, ``completion_ids``, ``label`` and ``row``; a pair gives two.

    Raises:
        TrainingError: no row.
    """
    import pyarrow as pa
    from datasets import Dataset

    answers = [
        (f"{row['id']}:{side}", row["prompt_ids"], row[f"{side}_ids"], side == "chosen")
        for row in _read(path)
        for side in ("chosen", "rejected")
        if row[f"{side}_ids"] is not None
    ]
    draw.shuffle(answers)
    ids = pa.list_(pa.int32())
    table = pa.table(
        {
            "prompt_ids": pa.array([prompt for _, prompt, _, _ in answers], ids),
            "completion_ids": pa.array([answer for _, _, answer, _ in answers], ids),
            "label": pa.array([label for *_, label in answers]),
            "row": pa.array(range(len(answers)), pa.int64()),
        }
    )
    lengths = [len(prompt) + len(answer) for _, prompt, answer, _ in answers]
    return Rows(Dataset(table), [name for name, *_ in answers], lengths, sum(len(answer) for _, _, answer, _ in answers))


def _read(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream if line.strip()]
    if not rows:
        raise TrainingError(f"{path.name}: there is not one pair to train on")
    return rows
