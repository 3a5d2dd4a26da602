"""Items of a long JSON list one after the other: what is read lies in memory for one item at a time."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentft.data.lines import open_bytes, unreadable
from agentft.errors import DataError

_AFTER = tuple(" \t\n\r,]}:")  # what may stand behind a value
_BLANK = " \t\n\r"
_CHUNK = 1 << 16
_LITERAL = 16  # longer than any word or escape that the end of a chunk may cut
_DECODER = json.JSONDecoder()


def iter_items(path: Path, key: str | None = None) -> Iterator[Any]:
    """Items of a JSON file that is one list, or that has the list under ``key`` of its outermost object; ``.gz`` is unpacked.

    Raises:
        DataError: missing, not UTF-8, not JSON (with line and column), or no such list.
    """
    window = _Window(path)
    try:
        if window.peek() == "{" and key is not None:
            _find(window, key)
        if window.peek() != "[":
            raise DataError(f"{path}: expected a list of rows, found {type(window.value()).__name__} (one object a line? use: jsonl)")
        yield from _list(window)
        if key is None and window.peek():
            raise window.wrong("Extra data")
    except (OSError, EOFError) as error:
        raise unreadable(path, error) from None
    finally:
        window.stream.close()


def _list(window: _Window) -> Iterator[Any]:
    window.take("[")
    if window.peek() == "]":
        window.take("]")
        return
    while True:
        yield window.value()
        if window.peek() == "]":
            window.take("]")
            return
        window.take(",")


def _find(window: _Window, key: str) -> None:
    """Move to the value of ``key``; other values are read over."""
    window.take("{")
    while window.peek() == '"':
        name = window.value()
        window.take(":")
        if name == key:
            return
        window.value()
        if window.peek() == ",":
            window.take(",")
    raise DataError(f"{window.path}: expected a list of rows, or an object with the list under '{key}'")


class _Window:
    """The part of a file that is looked at: parsed text leaves at the front, chunks come in at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.stream = open_bytes(path)
        except OSError as error:
            raise unreadable(path, error) from None
        self.decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self.text, self.at, self.lines, self.column = "", 0, 1, 1
        self.ended = False

    def peek(self) -> str:
        """The next character that is not blank, or an empty text at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in _BLANK:
                self.at += 1
            if self.at < len(self.text) or not self._more(_CHUNK):
                return self.text[self.at : self.at + 1]

    def take(self, character: str) -> None:
        if self.peek() != character:
            raise self.wrong(f"Expecting '{character}'")
        self.at += 1

    def value(self) -> Any:
        """The JSON value that begins here."""
        self.peek()
        if self.at > _CHUNK // 2:
            self._forget()
        size = _CHUNK
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                # Perhaps only its end is missing. Reading twice as much each time keeps long values from costing a square.
                cut = error.msg.startswith("Unterminated string") or error.pos > len(self.text) - _LITERAL
                if not cut or not self._more(size):
                    raise self.wrong(error.msg, error.pos) from None
            except RecursionError:
                raise self.wrong("nested too deeply") from None
            else:
                # A number may go on in the next chunk: "1" of "1.5", and of "1e5" too where the chunk ends after its "e".
                cut = len(self.text) - end < _LITERAL and self.text[end : end + 1] not in _AFTER
                if not cut or not self._more(size):
                    self.at = end
                    return value
            size *= 2

    def wrong(self, message: str, at: int | None = None) -> DataError:
        position = self.at if at is None else at
        line = self.lines + self.text.count("\n", 0, position)
        start = self.text.rfind("\n", 0, position)
        column = position - start if start >= 0 else self.column + position
        return DataError(f"{self.path}: not JSON: {message}: line {line} column {column}")

    def _forget(self) -> None:
        start = self.text.rfind("\n", 0, self.at)
        self.lines += self.text.count("\n", 0, self.at)
        self.column = self.at - start if start >= 0 else self.column + self.at
        self.text, self.at = self.text[self.at :], 0

    def _more(self, size: int) -> bool:
        """Read on; False at the end of the file."""
        while not self.ended:
            raw = self.stream.read(size)
            self.ended = not raw
            try:
                new = self.decoder.decode(raw, self.ended)
            except UnicodeDecodeError:
                line = self.lines + self.text.count("\n")
                raise DataError(f"{self.path}:{line}: not UTF-8 from about this line on (save the file as UTF-8)") from None
            if new:
                self.text += new
                return True
        return False
