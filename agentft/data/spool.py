"""Rows on disk between two passes, so that a stage never holds all of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from agentft.labelled import Record, record_from_dict


class Spool:
    """Records in a file: written once, read as often as needed.

    Args:
        path: of the file; it is removed with :meth:`close`.
    """

    def __init__(self, path: Path):
        self.path, self.rows = path, 0
        self._out = path.open("w", encoding="utf-8")

    @classmethod
    def of(cls, path: Path, rows: Iterable[Record]) -> Spool:
        spool = cls(path)
        for row in rows:
            spool.add(row)
        return spool

    def add(self, row: Record) -> None:
        self._out.write(json.dumps(row.to_dict(), ensure_ascii=False, separators=(",", ":")) + "\n")
        self.rows += 1

    def __iter__(self) -> Iterator[Record]:
        self._out.flush()
        with self.path.open(encoding="utf-8") as stream:
            for line in stream:
                yield record_from_dict(json.loads(line))

    def close(self) -> None:
        self._out.close()
        self.path.unlink(missing_ok=True)
