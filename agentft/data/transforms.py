"""Built-in transforms. Each counts what it leaves out, and gives the same result for the same input and seed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from agentft import text as text_tools
from agentft.contracts import DataContext
from agentft.records import Example

# Control and zero-width characters other than tab and line feed; zero-width joiner stays, emoji need it.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060\ufeff]")


def normalize_text(text: str) -> str:
    """NFC, line ends as \\n, no control characters, no trailing blanks, at most one empty line in a row."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = _CONTROL.sub("", text).replace("\u00a0", " ")
    text = re.sub(r"[ \t]+\n", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def normalize(records: Iterable[Example], config: Any, ctx: DataContext) -> Iterator[Example]:
    """Tidy the text of every message; rows whose user said nothing at all are dropped."""
    for example in records:
        messages = tuple(replace(message, content=normalize_text(message.content)) for message in example.messages)
        if not any(message.content for message in messages if message.role == "user"):
            ctx.drop("no user text", example.id)
        else:
            yield replace(example, messages=messages)


def fingerprint(example: Example) -> str:
    """What two exact duplicates have in common: roles and text without case and white space."""
    return "\x1e".join(f"{m.role}:{''.join(m.content.lower().split())}" for m in example.messages)


def dedup(records: Iterable[Example], config: Any, ctx: DataContext) -> Iterator[Example]:
    """Keep the first of rows whose text is the same up to case and white space."""
    seen: set[str] = set()
    for example in records:
        key = fingerprint(example)
        if key in seen:
            ctx.drop("duplicate", example.id)
        else:
            seen.add(key)
            yield example


class FilterConfig(BaseModel):
    """Options of the transform ``filter``. Every condition that is given must hold."""

    model_config = ConfigDict(extra="forbid")

    min_words: int | None = Field(None, ge=0, description="Least words of each assistant message (a Chinese character is a word).")
    max_words: int | None = Field(None, gt=0, description="Most words of each assistant message.")
    min_turns: int | None = Field(None, ge=1, description="Least number of assistant messages.")
    max_turns: int | None = Field(None, ge=1, description="Most number of assistant messages.")
    pattern: str | None = Field(None, description="Regular expression that some message must match.")
    not_pattern: str | None = Field(None, description="Regular expression that no message may match.")
    meta: dict[str, list[Any]] = Field(default_factory=dict, description="Allowed values by meta key.")


def filter_rows(records: Iterable[Example], config: FilterConfig, ctx: DataContext) -> Iterator[Example]:
    """Drop rows that break a condition, counted by condition."""
    for example in records:
        reason = _refusal(example, config)
        if reason:
            ctx.drop(reason, example.id)
        else:
            yield example


def _refusal(example: Example, config: FilterConfig) -> str:
    answers = [m.content for m in example.messages if m.role == "assistant"]
    lengths = [len(text_tools.words(answer)) for answer in answers]
    everything = "\n".join(m.content for m in example.messages)
    checks = {
        "answer shorter than min_words": config.min_words is not None and any(n < config.min_words for n in lengths),
        "answer longer than max_words": config.max_words is not None and any(n > config.max_words for n in lengths),
        "fewer turns than min_turns": config.min_turns is not None and len(answers) < config.min_turns,
        "more turns than max_turns": config.max_turns is not None and len(answers) > config.max_turns,
        "pattern does not match": config.pattern is not None and not re.search(config.pattern, everything),
        "not_pattern matches": config.not_pattern is not None and bool(re.search(config.not_pattern, everything)),
    }
    for key, allowed in config.meta.items():
        checks[f"meta {key} not allowed"] = example.meta.get(key) not in allowed
    return next((reason for reason, broken in checks.items() if broken), "")
