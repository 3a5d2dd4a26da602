"""The transform ``pii``: personal data replaced by placeholders such as ``[EMAIL]``, masked, or dropped with its row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import accumulate
from typing import Any, Literal, get_args

from pydantic import Field

from agentft.contracts import DataContext
from agentft.data.pii_patterns import TYPES, Found, PiiType, find
from agentft.errors import MissingDependency
from agentft.labelled import Labelled, Record
from agentft.records import Message
from agentft.validation import Listed, Model

Finder = Callable[[str], list[Found]]


class PiiConfig(Model):
    """Options of the transform ``pii``."""

    types: Listed[PiiType] = Field(get_args(PiiType), min_length=1, description="what is looked for; default: all of them")
    replace: Literal["placeholder", "mask", "drop"] = Field(
        "placeholder", description="`[EMAIL]`, stars of the same length, or leave the whole row out"
    )
    engine: Literal["patterns", "presidio"] = Field(
        "patterns",
        description="own patterns with checksums, or these and Presidio (extra `pii`), which also finds names and places",
    )


def pii(records: Iterable[Record], config: PiiConfig | None, ctx: DataContext) -> Iterator[Record]:
    """Replace personal data in the texts, tool calls and meta data of every row, or drop the rows that have any.

    What was replaced is counted by type. Ids and groups stay as they are: they are not trained on.

    Raises:
        MissingDependency: ``engine: presidio`` without the extra.
    """
    config = config or PiiConfig.model_validate({})
    finder = finder_of(config)
    for record in records:
        scrubber = _Scrubber(finder, config.replace)
        cleaned = scrubber.record(record)
        if config.replace == "drop" and scrubber.counts:
            ctx.drop(f"personal data: {', '.join(sorted(scrubber.counts))}", record.id)
            continue
        for kind, times in scrubber.counts.items():
            ctx.change(kind, times)
        yield cleaned


def scrub(text: str, finder: Finder = find, how: str = "placeholder", counts: Counter[str] | None = None) -> str:
    """``text`` without personal data; what was found is added to ``counts`` by type.

    Searched until nothing more is found, since a number may have hidden behind the one beside it.
    """
    while found := finder(text):
        if counts is not None:
            counts.update(one.kind for one in found)
        for start, end, kind in reversed(found):
            text = text[:start] + _instead(text[start:end], kind, how) + text[end:]
    return text


def finder_of(config: PiiConfig) -> Finder:
    """What looks for personal data, by the options."""

    def patterns(text: str) -> list[Found]:
        return find(text, config.types)

    return patterns if config.engine == "patterns" else _with_presidio(patterns, config.types)


def _instead(piece: str, kind: str, how: str) -> str:
    return "".join("*" if character.isalnum() else character for character in piece) if how == "mask" else f"[{kind.upper()}]"


class _Scrubber:
    """Scrubs all texts of one record and counts what it finds."""

    def __init__(self, finder: Finder, how: str):
        self.finder, self.how = finder, how
        self.counts: Counter[str] = Counter()

    def text(self, text: str) -> str:
        return scrub(text, self.finder, self.how, self.counts)

    def record(self, record: Record) -> Record:
        meta = self.inside(dict(record.meta))
        if isinstance(record, Labelled):
            if "tokens" in record.inputs:
                return replace(record, inputs={"tokens": self.tokens(record.inputs["tokens"])}, meta=meta)
            return replace(record.mapped(self.text), meta=meta)
        return replace(record, messages=tuple(self.message(message) for message in record.messages), meta=meta)

    def message(self, message: Message) -> Message:
        calls = tuple({**call, "arguments": self.inside(call.get("arguments"))} for call in message.tool_calls)
        return replace(message, content=self.text(message.content), tool_calls=calls)

    def tokens(self, tokens: list[str]) -> list[str]:
        """One tag per token must stay: each token of a number that was split ("4111 1111 ...") is replaced for itself."""
        tokens = list(tokens)
        while found := self.finder(" ".join(tokens)):
            sizes = [len(token) for token in tokens]
            starts = [0, *accumulate(size + 1 for size in sizes)]
            for start, end, kind in reversed(found):  # from the right, so that places to the left stay
                self.counts[kind] += 1
                for index, (place, size) in enumerate(zip(starts, sizes, strict=False)):
                    first, last = max(0, start - place), min(size, end - place)
                    if first < last:
                        token = tokens[index]
                        tokens[index] = token[:first] + _instead(token[first:last], kind, self.how) + token[last:]
        return tokens

    def inside(self, value: Any) -> Any:
        """All texts in JSON data; a number is changed where it is personal data, and becomes text."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self.inside(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.inside(one) for one in value]
        if isinstance(value, int) and not isinstance(value, bool):
            text = str(value)
            return value if (new := self.text(text)) == text else new
        return value


# Presidio's names -> ours; the last two only it can find.
_PRESIDIO = {
    "EMAIL_ADDRESS": "email",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "PHONE_NUMBER": "phone",
    "IP_ADDRESS": "ip",
    "US_SSN": "ssn",
    "PERSON": "name",
    "LOCATION": "location",
}


def _with_presidio(patterns: Finder, types: tuple[str, ...]) -> Finder:
    """Our patterns, and what Presidio finds beside them (English)."""
    try:
        from presidio_analyzer import AnalyzerEngine
    except ImportError:
        raise MissingDependency("pii: engine presidio needs Presidio: pip install 'agentft[pii]'") from None
    analyzer = AnalyzerEngine()
    # Names and places are looked for unless the recipe narrows the types down.
    wanted = [name for name, kind in _PRESIDIO.items() if kind in types or set(types) == set(TYPES)]
    placeholders = {f"[{kind.upper()}]" for kind in (*TYPES, *_PRESIDIO.values())}

    def both(text: str) -> list[Found]:
        found = patterns(text)
        for result in analyzer.analyze(text=text, language="en", entities=wanted, score_threshold=0.5):
            piece = text[result.start : result.end]
            free = not any(result.start < other.end and other.start < result.end for other in found)
            # A placeholder, or a part of one, may look like a name; to replace it again would never end.
            if free and not any(piece.strip("[]") in mark for mark in placeholders) and any(c.isalnum() for c in piece):
                found.append(Found(result.start, result.end, _PRESIDIO[result.entity_type]))
        return sorted(found)

    return both
