"""Numbered lines of text files in any encoding, with or without ``.gz``; nothing but the line at hand is kept."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from pydantic import field_validator

from agentft.errors import DataError
from agentft.text import cjk_share

_UTF8 = ("utf-8", "utf8", "utf_8", "utf-8-sig")
_WIDE = ("utf-16", "utf-32", "utf16", "utf32", "utf_16", "utf_32")


def open_bytes(path: Path) -> IO[bytes]:
    """The file, unpacked on the way where its name ends in ``.gz``."""
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def unreadable(path: Path, error: BaseException) -> DataError:
    """What to say about a file that cannot be opened or unpacked."""
    return DataError(f"cannot read {path}: {getattr(error, 'strerror', '') or error}")


def numbered_lines(path: Path, encoding: str = "utf-8", advice: str = "save the file as UTF-8") -> Iterator[tuple[int, str]]:
    """All lines with their ends, empty ones too, and their numbers from 1. A byte order mark is left out.

    Args:
        path: of the file.
        encoding: a name that Python knows.
        advice: what a user can do about a file in another encoding; the likely one is added to it.

    Raises:
        DataError: the file is missing, a folder, damaged, or in another encoding (with the line).
    """
    try:
        with open_bytes(path) as stream:
            if encoding.lower().startswith(_WIDE):
                yield from _wide_lines(path, stream, encoding)
                return
            utf8 = encoding.lower() in _UTF8
            # No other encoding in use has the byte of a line feed inside of a character.
            for number, raw in enumerate(stream, 1):
                try:
                    line = raw.decode(("utf-8-sig" if number == 1 else "utf-8") if utf8 else encoding)
                except UnicodeDecodeError as error:
                    name = "UTF-8" if utf8 else encoding
                    raise DataError(f"{path}:{number}: not {name} at byte {error.start} ({advice}{_guess(raw)})") from None
                yield number, line
    except (OSError, EOFError) as error:
        raise unreadable(path, error) from None


def _wide_lines(path: Path, stream: IO[bytes], encoding: str) -> Iterator[tuple[int, str]]:
    number = 0
    try:
        for number, line in enumerate(io.TextIOWrapper(stream, encoding=encoding, newline="\n"), 1):
            yield number, line
    except UnicodeError as error:
        raise DataError(f"{path}:{number + 1}: not {encoding} from about this line on: {error}") from None


def _guess(raw: bytes) -> str:
    """The encoding that a line seems to be in, as the end of a hint; empty where there is no telling."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "; it looks like utf-16"
    try:
        return "; it looks like gb18030" if cjk_share(raw.decode("gb18030")) > 0.5 else "; it may be cp1252"
    except UnicodeDecodeError:
        return "; it may be cp1252"


def known_encoding(name: str) -> str:
    """``name``, if Python can decode text with it.

    Raises:
        ValueError: it cannot.
    """
    try:
        "".encode(name)
    except (LookupError, ValueError):
        raise ValueError(f"there is no text encoding '{name}' (usual ones: utf-8, utf-16, gb18030, big5, cp1252, latin-1)") from None
    return name


def encoding_check(*fields: str) -> Any:
    """A validator for the fields of an option model that name an encoding."""
    return field_validator(*fields)(known_encoding)
