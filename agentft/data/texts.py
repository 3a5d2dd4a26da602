"""``text``: folders and files of plain text and Markdown, as texts to learn from as they are, or to label and score."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from agentft.contracts import DataContext
from agentft.data.files import WILDCARDS, FileOptions, Left, bad_rows, collected, paths
from agentft.data.lines import encoding_check, numbered_lines
from agentft.data.pieces import cut
from agentft.data.plain import plain
from agentft.errors import DataError
from agentft.labelled import Labelled
from agentft.text import words
from agentft.validation import Listed

_SUFFIXES = (".txt", ".md", ".markdown")
_HEADING = re.compile(r" {0,3}#{1,6}(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-+)[ \t]*$")
_LISTED = re.compile(r" {0,3}(?:[-*+>|]|\d+[.)])")  # a line of a list, quotation or table is no heading
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_FRONT = 500  # most lines of a front matter
Line = tuple[int, str]


class TextConfig(FileOptions):
    """Options of the source ``text``."""

    path: str | Listed[str] = Field(description=f"file or files, or a folder with .txt, .md, .markdown files, also with .gz; {WILDCARDS}")
    by: Literal["file", "paragraph", "heading", "line"] = Field(
        "file", description="what becomes a record; `heading`: a section of a Markdown file, with its heading"
    )
    max_words: int | None = Field(
        None, ge=1, description="longer pieces are cut between paragraphs, or else sentences; a Chinese character is a word"
    )
    min_words: int = Field(1, ge=1, description="pieces with fewer words are dropped and counted")
    front_matter: bool = Field(
        True, description="take the YAML between `---` lines at the top of a Markdown file out of the text, into meta"
    )
    encoding: str = Field("utf-8", description="of the files, such as gb18030 or utf-16")

    _encoding = encoding_check("encoding")


class _Part(NamedTuple):
    """A line and what it is: ``text``, ``blank``, ``code`` or ``heading``."""

    number: int
    line: str
    kind: str
    title: str


@dataclass
class _Block:
    """Lines that belong together; ``heading`` is the one that they stand under."""

    heading: str = ""
    parts: list[_Part] = field(default_factory=list)

    @property
    def full(self) -> bool:
        return any(part.line.strip() for part in self.parts)


def read_texts(config: TextConfig, ctx: DataContext) -> Iterator[Labelled]:
    """Texts with their file and heading in ``meta``. The pieces of one file are a group.

    With ``on_bad: skip`` a file in another encoding is left out and counted, from the line on that cannot be read.

    Raises:
        DataError: a file is missing or in another encoding, or its front matter cannot be read; with the line.
    """

    def parts() -> Iterator[tuple[str, str, Iterator[tuple[int, Any]]]]:
        for path in paths(config.path, ctx, _SUFFIXES):
            yield str(path), _shown(path, ctx.base), _pieces(path, _shown(path, ctx.base), config, ctx)

    def convert(row: Any, default_id: str) -> Labelled:
        if len(words(row["inputs"]["text"])) < config.min_words:
            raise Left(f"fewer than {config.min_words} words" if config.min_words > 1 else "no word in it")
        return Labelled.from_dict(row, default_id)

    yield from collected(config, ctx, bad_rows(config, ctx), parts(), convert)


def _shown(path: Path, base: Path) -> str:
    """The file's name for ids and groups: the same wherever the recipe's folder lies."""
    try:
        return path.resolve().relative_to(base.resolve()).as_posix()
    except ValueError:
        return f"{path.parent.name}/{path.name}"


def _pieces(path: Path, shown: str, config: TextConfig, ctx: DataContext) -> Iterator[tuple[int, Any]]:
    """Rows with the line that they begin in."""
    markdown = not path.name.removesuffix(".gz").lower().endswith(".txt")
    lines: Iterator[Line] = numbered_lines(path, config.encoding, "save the file as UTF-8, or set encoding:")
    number = 0
    try:
        meta: dict[str, Any] = {"file": shown}
        if markdown and config.front_matter:
            front, lines = _front_matter(path, lines)
            meta |= {"front_matter": front} if front else {}
        for block in _blocks(lines, config.by, markdown):
            text = "".join(part.line for part in block.parts)
            pieces = list(cut(text, config.max_words)) if config.max_words else [(len(text) - len(text.lstrip()), text.strip())]
            if len(pieces) > 1:
                ctx.change("piece cut from a longer text", len(pieces))
            for at, piece in pieces:
                if piece:
                    number += 1
                    about = meta | ({"heading": block.heading} if block.heading else {})
                    row = {"id": f"{shown}#{number}", "inputs": {"text": piece}, "group": shown, "meta": about}
                    yield block.parts[0].number + text.count("\n", 0, at), row
    except DataError as error:
        if config.on_bad == "error":
            raise
        ctx.drop("file cannot be read to its end", str(error))


def _blocks(lines: Iterable[Line], by: str, markdown: bool) -> Iterator[_Block]:
    """Files, sections, paragraphs or lines, in their order; none of them is blank."""
    block = _Block()
    for part in _parts(lines, markdown):
        if part.kind == "heading" and by != "file":
            if block.full:
                yield block
            block = _Block(part.title)
        block.parts.append(part)
        if by == "line" or (by == "paragraph" and part.kind in ("blank", "heading")):
            if block.full:
                yield block
            block = _Block(block.heading)
    if block.full:
        yield block


def _parts(lines: Iterable[Line], markdown: bool) -> Iterator[_Part]:
    """Lines with what they are. A heading that is underlined is one part; blank lines in a fenced block are code."""
    rest = iter(lines)
    held, fence, before = next(rest, None), "", "blank"
    while held is not None:
        number, line = held[0], held[1].replace("\r\n", "\n")
        held = next(rest, None)
        kind, title = "text" if line.strip() else "blank", ""
        found = _FENCE.match(line) if markdown else None
        if fence:
            kind = "code"
            if found and found.group(1).startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        elif found:
            kind, fence = "code", found.group(1)
        elif markdown and (marked := _HEADING.match(line)):
            kind, title = "heading", (marked.group(1) or "").strip()
        elif markdown and kind == "text" and before != "text" and held and _UNDERLINE.match(held[1]) and not _LISTED.match(line):
            kind, title = "heading", line.strip()
            line += held[1].replace("\r\n", "\n")
            held = next(rest, None)
        before = kind
        yield _Part(number, line, kind, title)


def _front_matter(path: Path, lines: Iterator[Line]) -> tuple[dict[str, Any], Iterator[Line]]:
    """The YAML at the top of a Markdown file, and the lines after it; all lines where there is none."""
    from ruamel.yaml import YAML, YAMLError

    first = next(lines, None)
    if first is None or first[1].rstrip() != "---":
        return {}, itertools.chain([first] if first else [], lines)
    held = [first]
    for one in lines:
        held.append(one)
        if one[1].rstrip() in ("---", "...") or len(held) > _FRONT:
            break
    if len(held) == 1 or held[-1][1].rstrip() not in ("---", "..."):
        return {}, itertools.chain(held, lines)
    try:
        data = YAML(typ="safe", pure=True).load("".join(line for _, line in held[1:-1]))
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = held[0][0] + 1 + (mark.line if mark else 0)
        raise DataError(
            f"{path}:{line}: the front matter is not YAML: {getattr(error, 'problem', error)} (or set front_matter: false)"
        ) from None
    if data is None or isinstance(data, dict):
        return plain(data or {}), lines
    return {}, itertools.chain(held, lines)  # a text between two rules
