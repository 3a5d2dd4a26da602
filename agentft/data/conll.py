"""``conll``: files with one token a line and its tag in a column, sentences divided by empty lines (CoNLL-2003, WNUT-17)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from agentft.contracts import DataContext
from agentft.data.files import WILDCARDS, FileOptions, converted, stem
from agentft.data.jsonl import BadRows
from agentft.data.lines import encoding_check, numbered_lines
from agentft.errors import DataError
from agentft.labelled import Labelled
from agentft.validation import Listed

_TAG = re.compile(r"([BIELMSU])(?:[-_](.+))?")
_INSIDE, _ALONE, _LAST = "IELM", "SU", "EL"


class ConllConfig(FileOptions):
    """Options of the source ``conll``."""

    path: str | Listed[str] = Field(description=f"file or files, also with .gz; {WILDCARDS}")
    token: int = Field(0, description="column of the token, from 0; negative: from the end")
    tag: int = Field(-1, description="column of the tag")
    separator: str | None = Field(None, min_length=1, description="what stands between columns; default: blanks and tabs")
    scheme: Literal["bio", "plain"] = Field(
        "bio", description="`bio`: entities in BIO, IOB1, BILOU, BIOES or BMES, which become BIO2; `plain`: other tags, left as they are"
    )
    comment: str | None = Field("#", min_length=1, description="lines that begin so and are no token with its tag are left out")
    encoding: str = Field("utf-8", description="of the files")

    _encoding = encoding_check("encoding")


def read_conll(config: ConllConfig, ctx: DataContext) -> Iterator[Labelled]:
    """Sentences as tokens with one tag each. The line in messages is that of the first token, or the one that is wrong.

    The sentences between two ``-DOCSTART-`` lines are a group. Tags that are changed are counted.

    Raises:
        DataError: with file and line of every sentence that cannot be used, unless ``on_bad: skip``.
    """

    def convert(row: Any, name: str) -> Labelled:
        tags = row.pop("tags")
        row["label"] = bio2(tags, ctx.change) if config.scheme == "bio" else tags
        return Labelled.from_dict(row, name)

    return converted(config, ctx, lambda path, bad: _sentences(path, bad, config), convert)


def _sentences(path: Path, bad: BadRows, config: ConllConfig) -> Iterator[tuple[int, Any]]:
    document, columns = 0, 0
    first, tokens, tags, wrong = 0, list[str](), list[str](), False

    def row() -> dict[str, Any]:
        group = f"{stem(path)}#{document}" if document else None
        return {"inputs": {"tokens": tokens}, "tags": tags, "group": group, "meta": {"file": path.name}}

    for number, line in numbered_lines(path, config.encoding, "save the file as UTF-8, or set encoding:"):
        fields = _fields(line, config.separator)
        border = not line.strip() or fields[0] == "-DOCSTART-"
        if border or (config.comment and line.startswith(config.comment) and not _is_token(fields, columns, config)):
            if border and tokens and not wrong:
                yield first, row()
            if border:
                document += fields[0] == "-DOCSTART-"
                tokens, tags, wrong = [], [], False
            continue
        columns = columns or len(fields)
        if not tokens and not wrong:
            first = number
        if wrong:
            continue
        if len(fields) != columns:
            bad.add(path, number, f"{len(fields)} columns, the lines before it have {columns}")
            wrong = True
        elif not (-columns <= config.token < columns and -columns <= config.tag < columns):
            asked = config.token if not -columns <= config.token < columns else config.tag
            raise DataError(f"{path}:{number}: no column {asked}, the line has {columns}")
        else:
            tokens.append(fields[config.token])
            tags.append(fields[config.tag])
    if tokens and not wrong:
        yield first, row()


def _fields(line: str, separator: str | None) -> list[str]:
    # Not split(): a token may hold a no-break space.
    return re.split(r"[ \t]+", line.strip(" \t\r\n")) if separator is None else line.rstrip("\r\n").split(separator)


def _is_token(fields: Sequence[str], columns: int, config: ConllConfig) -> bool:
    """Whether a line that begins like a comment is a token such as ``#win`` with its tag."""
    if len(fields) < 2 or (columns and len(fields) != columns):
        return False
    if config.scheme == "plain":
        return bool(columns)
    return -len(fields) <= config.tag < len(fields) and bool(fields[config.tag] == "O" or _TAG.fullmatch(fields[config.tag]))


def bio2(tags: Sequence[str], change: Callable[[str, int], None] | None = None) -> list[str]:
    """Tags of BIO, IOB1, BILOU, BIOES or BMES as BIO2: every entity begins with ``B-``, and goes on with ``I-``.

    Args:
        tags: of one sentence.
        change: called with what was changed and how often.

    Raises:
        DataError: a tag of no such scheme.
    """
    result: list[str] = []
    opened: str | None = None  # type of the entity that may go on
    begun = rewritten = 0
    for tag in tags:
        if tag == "O":
            opened = None
            result.append(tag)
            continue
        found = _TAG.fullmatch(tag)
        if not found:
            raise DataError(f"the tag '{tag}' is none of BIO, IOB1, BILOU, BIOES and BMES (parts of speech, say? set scheme: plain)")
        letter, kind = found.group(1), found.group(2) or ""
        goes_on = letter in _INSIDE and opened == kind
        new = ("I" if goes_on else "B") + (f"-{kind}" if kind else "")
        begun += letter in _INSIDE and not goes_on
        rewritten += letter not in "BI" or (new != tag and letter == new[0])
        opened = None if letter in _ALONE or letter in _LAST else kind
        result.append(new)
    for what, times in (("I- at the beginning of an entity made B-", begun), ("tag of another scheme written as BIO2", rewritten)):
        if times and change is not None:
            change(what, times)
    return result
