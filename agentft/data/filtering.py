"""The transform ``filter``: keep rows by length, language, number of turns, patterns or meta values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import Field, field_validator, model_validator

from agentft import text as text_tools
from agentft.contracts import DataContext
from agentft.data.language import MIN_CHARACTERS, language
from agentft.errors import DataError
from agentft.labelled import Labelled, Record
from agentft.validation import Listed, Model


class FilterConfig(Model):
    """Options of the transform ``filter``. Every condition that is given must hold."""

    min_words: int | None = Field(
        None, ge=0, description="least words of each assistant message, or of a labelled row's text (a Chinese character is a word)"
    )
    max_words: int | None = Field(None, gt=0, description="most words of each assistant message, or of a labelled row's text")
    min_chars: int | None = Field(None, ge=0, description="least characters of the whole row's text")
    max_chars: int | None = Field(None, gt=0, description="most characters of the whole row's text")
    min_turns: int | None = Field(None, ge=1, description="least number of assistant messages")
    max_turns: int | None = Field(None, ge=1, description="most number of assistant messages")
    language: Listed[str] = Field((), description="allowed languages, such as `[en, zh]`; rows whose language is not sure are kept")
    language_min_chars: int = Field(
        MIN_CHARACTERS, ge=1, description="shorter texts tell their language only by their script (Chinese, Japanese, Korean)"
    )
    pattern: str | None = Field(None, description="regular expression that some text must match")
    not_pattern: str | None = Field(None, description="regular expression that no text may match")
    meta: dict[str, list[Any]] = Field(default_factory=dict, description="allowed values by meta key")

    @field_validator("pattern", "not_pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return value

    @field_validator("language")
    @classmethod
    def _codes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [code for code in value if not re.fullmatch(r"[a-z]{2,3}", code)]:
            raise ValueError(f"'{wrong[0]}' is no language code; write en, zh, de ...")
        return value

    @model_validator(mode="after")
    def _ordered(self) -> FilterConfig:
        for what in ("words", "chars", "turns"):
            low, high = getattr(self, f"min_{what}"), getattr(self, f"max_{what}")
            if low is not None and high is not None and low > high:
                raise ValueError(f"min_{what} is above max_{what}: nothing would be left")
        return self


def filter_rows(records: Iterable[Record], config: FilterConfig, ctx: DataContext) -> Iterator[Record]:
    """Drop rows that break a condition, counted by condition.

    Raises:
        DataError: ``min_turns`` or ``max_turns`` and a row that is no conversation.
    """
    for record in records:
        if reason := _refusal(record, config, ctx):
            ctx.drop(reason, record.id)
        else:
            yield record


def _refusal(record: Record, config: FilterConfig, ctx: DataContext) -> str:
    everything, what = record.text, "text"
    if isinstance(record, Labelled):
        if config.min_turns or config.max_turns:
            raise DataError("filter: min_turns and max_turns are for conversations; these rows have none. Take the option out")
        measured, turns, spoken = [everything], 0, everything
    else:
        measured, what = [m.content for m in record.messages if m.role == "assistant"], "answer"
        turns = len(measured)
        spoken = "\n".join(m.content for m in record.messages if m.role in ("user", "assistant"))
    lengths = [len(text_tools.words(text)) for text in measured]
    checks = {
        f"{what} shorter than min_words": config.min_words is not None and any(n < config.min_words for n in lengths),
        f"{what} longer than max_words": config.max_words is not None and any(n > config.max_words for n in lengths),
        "shorter than min_chars": config.min_chars is not None and len(everything) < config.min_chars,
        "longer than max_chars": config.max_chars is not None and len(everything) > config.max_chars,
        "fewer turns than min_turns": config.min_turns is not None and turns < config.min_turns,
        "more turns than max_turns": config.max_turns is not None and turns > config.max_turns,
        "pattern does not match": config.pattern is not None and not re.search(config.pattern, everything),
        "not_pattern matches": config.not_pattern is not None and bool(re.search(config.not_pattern, everything)),
    }
    for key, allowed in config.meta.items():
        checks[f"meta {key} not allowed"] = record.meta.get(key) not in allowed
    if reason := next((reason for reason, broken in checks.items() if broken), ""):
        return reason
    if config.language:
        found = language(spoken, config.language_min_chars)
        if not found:
            ctx.change("language not sure, kept")
        elif found not in config.language:
            return f"language {found} not allowed"
    return ""
