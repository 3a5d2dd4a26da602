"""The transform ``normalize``: text as it was meant to be written, in one Unicode form, without invisible characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Literal

from pydantic import Field

from agentft import text as text_tools
from agentft.contracts import DataContext
from agentft.labelled import Labelled, Record
from agentft.validation import Model

# Control and zero-width characters other than tab and line feed; zero-width joiner stays, emoji need it.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060\ufeff]")
_CURLY = str.maketrans("‘’‚‛“”„‟", "''''\"\"\"\"")


class NormalizeConfig(Model):
    """Options of the transform ``normalize``."""

    ftfy: bool = Field(True, description="repair text that was decoded wrongly (`cafÃ©`) and HTML entities (`&amp;`)")
    quotes: Literal["keep", "straight"] = Field("keep", description="curly quotes; Chinese texts keep theirs in any case")


def normalize_text(text: str) -> str:
    """NFC, line ends as \\n, no control characters, no trailing blanks, at most one empty line in a row."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = _CONTROL.sub("", text).replace("\u00a0", " ")
    text = unicodedata.normalize("NFC", text)  # a letter and its accent may have met only now
    text = re.sub(r"[ \t]+\n", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


@cache
def _repairer() -> Callable[[str], str]:
    import ftfy

    # Width and quotes are left alone: fullwidth punctuation and curly quotes are how Chinese is written. Control characters are ours.
    config = ftfy.TextFixerConfig(fix_character_width=False, uncurl_quotes=False, remove_control_chars=False, explain=False)
    return lambda text: ftfy.fix_text(text, config)


def repair_text(text: str) -> str:
    """Tidy text without mojibake and HTML entities (ftfy). HTML that still has its tags keeps its entities.

    Repaired and tidied until nothing changes, ten times at most: one repair may uncover the next (``&amp;lt;``), as may a control
    character that is taken out. It cannot be taken out before, since wrongly decoded text is full of them.
    """
    for _ in range(10):
        before, text = text, normalize_text(_repairer()(text))
        if text == before:
            break
    return text


def straight_quotes(text: str) -> str:
    """Curly quotes as straight ones, unless at least half of the letters are Chinese."""
    return text if text_tools.is_chinese(text) else text.translate(_CURLY)


def normalize(records: Iterable[Record], config: NormalizeConfig | None, ctx: DataContext) -> Iterator[Record]:
    """Tidy every text of a row; rows in which nothing is left to read are dropped.

    Changed rows are counted: ``text repaired`` (a text had mojibake or entities) and ``text tidied`` (another change of a text).
    """
    config = config or NormalizeConfig.model_validate({})
    for record in records:
        seen: set[str] = set()

        def tidy(text: str, seen: set[str] = seen) -> str:
            plain = normalize_text(text)
            tidied = repair_text(text) if config.ftfy else plain
            repaired = tidied != plain
            if config.quotes == "straight":
                tidied = straight_quotes(tidied)
            if tidied != text:
                seen.add("text repaired" if repaired else "text tidied")
            return tidied

        result = record.mapped(tidy)
        if reason := _empty(record, result):
            ctx.drop(reason, record.id)
            continue
        for what in sorted(seen):
            ctx.change(what)
        yield result


def _empty(before: Record, after: Record) -> str:
    """Why a row cannot go on after its text was tidied; an empty text where it can."""
    if isinstance(after, Labelled):
        if not all(value if isinstance(value, list) else value.strip() for value in after.inputs.values()):
            return "no text"
        spans_lost = "context" in after.inputs and isinstance(before, Labelled) and len(after.label or ()) < len(before.label or ())
        return "an answer has no text" if spans_lost else ""
    return "" if any(message.content for message in after.messages if message.role == "user") else "no user text"
