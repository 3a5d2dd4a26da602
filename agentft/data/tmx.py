"""``tmx``: translation memories. An event-driven parser: one unit in memory, no entities, nothing fetched from outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.parsers import expat

from pydantic import Field

from agentft.contracts import DataContext
from agentft.data.files import WILDCARDS, FileOptions, Left, converted
from agentft.data.lines import open_bytes, unreadable
from agentft.errors import DataError
from agentft.records import Example
from agentft.validation import Listed

_CHUNK = 1 << 16
_CODES = {"bpt", "ept", "ph", "it", "ut"}  # hold marks of the original format, not text (TMX 1.4b, 3.3)


class TmxConfig(FileOptions):
    """Options of the source ``tmx``."""

    path: str | Listed[str] = Field(description=f"file or files, or a folder with .tmx files, also with .gz; {WILDCARDS}")
    source: str = Field("en", min_length=2, description="language to translate from; `en` takes en-US and EN too")
    target: str = Field("zh", min_length=2, description="language to translate into")
    instruction: str | None = Field(None, min_length=1, description="put in front of the source text, such as `Translate into Chinese:`")
    document: str = Field("note", description="type of the <prop> that names a unit's document, which a split does not separate")


def read_tmx(config: TmxConfig, ctx: DataContext) -> Iterator[Example]:
    """Translations: the user gives the source text, the assistant answers with the target. The line in messages is that of the unit.

    Units that lack a language or have an empty side are dropped and counted.

    Raises:
        DataError: a file is missing, no XML, or declares entities; or no unit at all has both languages.
    """
    languages: set[str] = set()
    found = 0
    for one in converted(
        config, ctx, lambda path, bad: _units(path, ctx), lambda row, name: _example(row, name, config, languages), (".tmx",)
    ):
        found += 1
        yield one
    if not found:
        raise DataError(f"no unit has both {config.source} and {config.target} (languages: {', '.join(sorted(languages)) or 'none'})")


def _example(unit: dict[str, Any], default_id: str, config: TmxConfig, languages: set[str]) -> Example:
    sides = {}
    if len(languages) < 100:
        languages.update(language for language, _ in unit["texts"])
    for side, wanted in (("source", config.source), ("target", config.target)):
        texts = [(language, text.strip()) for language, text in unit["texts"] if matches(language, wanted)]
        if not texts:
            raise Left(f"no {wanted} text")
        sides[side] = next((one for one in texts if one[1]), texts[0])
    if not all(text for _, text in sides.values()):
        raise Left("empty side")
    (source, asked), (target, answer) = sides["source"], sides["target"]
    meta = {"source_language": source, "target_language": target}
    document = unit["props"].get(config.document) or unit["note"]
    data = {
        "id": unit["id"],
        "messages": [
            {"role": "user", "content": f"{config.instruction}\n{asked}" if config.instruction else asked},
            {"role": "assistant", "content": answer},
        ],
        "group": document or None,
        "meta": meta | ({"tuid": unit["id"]} if unit["id"] else {}) | ({"document": document} if document else {}),
    }
    return Example.from_dict(data, default_id)


def matches(language: str, wanted: str) -> bool:
    """Whether a language tag is ``wanted`` or a variety of it: zh-CN is zh, and zho is not."""
    have, want = language.lower().replace("_", "-"), wanted.lower().replace("_", "-")
    return have == want or have.startswith(f"{want}-")


def _units(path: Path, ctx: DataContext) -> Iterator[tuple[int, Any]]:
    reader = _Reader(ctx)
    try:
        with open_bytes(path) as stream:
            while raw := stream.read(_CHUNK):
                reader.parser.Parse(raw, False)
                yield from reader.finished()
            reader.parser.Parse(b"", True)
            yield from reader.finished()
    except expat.ExpatError as error:
        raise DataError(f"{path}:{error.lineno}: not XML: {expat.errors.messages[error.code]}") from None
    except _Refused as error:
        raise DataError(f"{path}:{reader.parser.CurrentLineNumber}: {error}") from None
    except (OSError, EOFError) as error:
        raise unreadable(path, error) from None
    if reader.root != "tmx":
        raise DataError(f"{path}: the outermost element is <{reader.root}>, not <tmx>")


class _Refused(Exception):
    """Something in a file that a translation memory has no need of and an attacker has."""


class _Reader:
    """Collects finished units while expat parses.

    The document type may name its DTD, as many files do; it is not fetched. Declared entities are refused, because a few lines of
    them can grow to gigabytes or name other files.
    """

    def __init__(self, ctx: DataContext) -> None:
        self.ctx = ctx
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.EntityDeclHandler = self._entity
        self.parser.ExternalEntityRefHandler = self._external
        self.parser.SkippedEntityHandler = self._skipped
        self.root = ""
        self.units: list[tuple[int, dict[str, Any]]] = []
        self.unit: dict[str, Any] | None = None
        self.line, self.language, self.prop, self.codes = 0, "", "", 0
        self.into: list[str] | None = None  # where text goes

    def finished(self) -> list[tuple[int, dict[str, Any]]]:
        units, self.units = self.units, []
        return units

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.root = self.root or name
        if name == "tu":
            self.unit, self.line = {"id": attributes.get("tuid"), "texts": [], "props": {}, "note": ""}, self.parser.CurrentLineNumber
            self.language = ""
        elif self.unit is None:
            return
        elif name == "tuv":
            self.language = attributes.get("xml:lang") or attributes.get("lang") or ""
        elif name in ("seg", "prop", "note"):
            self.into, self.prop, self.codes = [], attributes.get("type", ""), 0
        elif name in _CODES:
            self.codes += 1
            if self.codes == 1:
                self.ctx.change("inline code left out of a segment")

    def _end(self, name: str) -> None:
        if self.unit is None:
            return
        text = "".join(self.into or ()).strip()
        if name in _CODES:
            self.codes -= 1
        elif name == "seg":
            self.unit["texts"].append((self.language, text))
        elif name == "prop" and not self.language:
            self.unit["props"].setdefault(self.prop, text)
        elif name == "note" and not self.language:
            self.unit["note"] = self.unit["note"] or text
        elif name == "tuv":
            self.language = ""
        elif name == "tu":
            self.units.append((self.line, self.unit))
            self.unit = None
        if name in ("seg", "prop", "note"):
            self.into = None

    def _text(self, text: str) -> None:
        if self.into is not None and not self.codes:
            self.into.append(text)

    def _entity(self, name: str, *_: Any) -> None:
        raise _Refused(f"the file declares the entity '{name}'; entities are not read (write the text itself)")

    def _external(self, *_: Any) -> int:
        raise _Refused("the file refers to another one; nothing is read from outside")

    def _skipped(self, name: str, parameter: bool) -> None:
        if not parameter:
            raise _Refused(f"the entity '&{name};' is not known (write the character itself)")
