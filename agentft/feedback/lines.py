"""A file of JSON lines that several processes append to, and that loses nothing: what every store of people's words is made of."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from agentft.errors import DataError

LONGEST_LINE = 1024 * 1024  # bytes


class Lines:
    """Rows of JSON, one a line, in the order in which they came.

    Args:
        path: made with the first row, its folder too.
        longest: bytes that a line may have; a longer row is refused, and a longer line of a file that was damaged is left out.
    """

    def __init__(self, path: Path | str, longest: int = LONGEST_LINE):
        self.path, self.longest = Path(path), longest

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a row; it is on the disk when this returns. Safe with several processes and threads.

        Raises:
            DataError: the row is too long.
            OSError: the disk does not take it (full, read-only, gone). Nothing of the row is left in the file then.
        """
        from filelock import FileLock

        line = json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        if len(line) > self.longest:
            raise DataError(f"{len(line):,} bytes are more than a row of {self.path.name} may have ({self.longest:,})")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"), self.path.open("ab") as stream:
            end = stream.tell()
            try:
                # A process that was killed while it wrote leaves half a line; the next row must not be glued to it.
                stream.write(b"\n" + line if end and self._last_byte() != b"\n" else line)
                stream.flush()
                os.fsync(stream.fileno())
            except OSError:
                os.ftruncate(stream.fileno(), end)
                raise
            if not end:
                _sync_folder(self.path.parent)

    def _last_byte(self) -> bytes:
        with self.path.open("rb") as stream:
            stream.seek(-1, os.SEEK_END)
            return stream.read(1)

    def rows(self, bad: Callable[[int, str], None] = lambda number, why: None) -> Iterator[tuple[int, Any]]:
        """Every row with its line number from 1. What is no row goes to ``bad`` with the reason, and costs no other row."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as stream:
            number = 0
            while line := stream.readline(self.longest + 1):
                number += 1
                if not line.endswith(b"\n") and len(line) > self.longest:
                    while line and not line.endswith(b"\n"):
                        line = stream.readline(self.longest + 1)
                    bad(number, f"longer than {self.longest:,} bytes")
                    continue
                try:
                    row = json.loads(line)
                except ValueError:
                    if line.strip():
                        bad(number, "half a line (a process was stopped while it wrote)" if not line.endswith(b"\n") else "not JSON")
                    continue
                yield number, row


def _sync_folder(folder: Path) -> None:
    """A new file's name is on the disk only when its folder is. (Windows cannot and need not do this.)"""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
