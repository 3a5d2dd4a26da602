"""The transform ``augment``: more rows, made from those that are there by small changes and by templates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

from pydantic import Field, field_validator, model_validator

from agentft.contracts import DataContext
from agentft.data.noise import Operation, Synonyms, apply
from agentft.data.synonyms import wordnet
from agentft.labelled import Labelled, Record
from agentft.validation import Listed, Model

_ALIGNED = ("synonym", "typos", "case")  # one token stays one token


class AugmentConfig(Model):
    """Options of the transform ``augment``."""

    copies: int = Field(1, ge=1, le=100, description="new rows for each row")
    rate: float = Field(0.1, gt=0, le=1, description="share of the words that an operation changes; one word at the least")
    operations: Listed[Operation] = Field(
        ("synonym", "insert", "swap", "delete"), description="what may be done to a copy; one of them is drawn for each"
    )
    templates: Listed[str] = Field((), description="texts with `{text}` in them, such as `Please help: {text}`; drawn like an operation")

    @field_validator("templates")
    @classmethod
    def _has_place(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [one for one in value if one.count("{text}") != 1 or one.strip() == "{text}"]:
            raise ValueError(f"'{wrong[0]}' must hold {{text}} once, with something around it")
        return value

    @model_validator(mode="after")
    def _something(self) -> AugmentConfig:
        if not self.operations and not self.templates:
            raise ValueError("name operations, templates or both")
        return self


def augment(records: Iterable[Record], config: AugmentConfig | None, ctx: DataContext) -> Iterator[Record]:
    """Every row, followed by ``copies`` changed ones.

    Conversations: what the user says is changed (a template: the first message), never an answer. Tags: only operations that
    keep one token per tag, and synonyms only for tokens tagged ``O``. Spans: nothing inside an answer is changed; a template
    is put around the question. Two texts: operations change both, a template goes around the first.

    A copy has the id ``ID+a1``, the group of its row, so that no split separates them, and ``meta.augmented``. Counted: copies by
    what was done, and those that could not be made because nothing (new) in the row could be changed. Rows that are copies themselves
    are not copied again. A copy depends on the seed and the row's id only, not on the other rows.
    """
    config = config or AugmentConfig.model_validate({})
    synonyms = _synonyms(config, ctx)
    made: set[str] = set()
    for record in records:
        if "augmented" in record.meta:
            # A copy that an earlier step made may bear the id that the copies of this one got.
            yield replace(record, id=_free(record.id, made)) if record.id in made else record
            continue
        yield record
        texts = {record.text}
        for number in range(1, config.copies + 1):
            rng = Random(f"{ctx.seed}:augment:{record.id}:{number}")
            copy, what = _copy(record, config, rng, synonyms, texts)
            if copy is None:
                ctx.change("no copy: nothing new could be made")
                continue
            ctx.change(what)
            made.add(name := f"{record.id}+a{number}")
            yield replace(copy, id=name, group=record.group_key, meta={**record.meta, "augmented": record.id})


def _free(name: str, taken: set[str]) -> str:
    stem, number = name.rpartition("+a")[0], 1
    while f"{stem}+a{number}" in taken:
        number += 1
    taken.add(f"{stem}+a{number}")
    return f"{stem}+a{number}"


def _synonyms(config: AugmentConfig, ctx: DataContext) -> Synonyms:
    if {"synonym", "insert"} & set(config.operations):
        found = wordnet()
        ctx.notes["synonyms"] = "WordNet" if found else "none: no WordNet on this machine (Debian: apt install wordnet-base)"
        if found:
            return found.synonyms
    return lambda word: []


def _copy(record: Record, config: AugmentConfig, rng: Random, synonyms: Synonyms, texts: set[str]) -> tuple[Any, str]:
    """A copy that reads like none of ``texts``, and what was done; operations are tried in a drawn order until one gives such a copy."""
    ways = [*config.operations, *(["template"] if config.templates else [])]
    for way in rng.sample(ways, len(ways)):
        if way == "template":
            copy = _around(record, rng.choice(config.templates))
        else:
            copy = _changed(record, way, lambda text, way=way: apply(way, text, config.rate, rng, synonyms))  # type: ignore[misc]
        if copy is not None and copy.text not in texts:
            texts.add(copy.text)
            return copy, way
    return None, ""


def _around(record: Record, template: str) -> Record | None:
    """The row with the template around its first text; None for tags, whose tokens could not stay aligned."""
    if isinstance(record, Labelled):
        name = next(iter(record.inputs))
        if name == "tokens":
            return None
        return replace(record, inputs={**record.inputs, name: template.replace("{text}", record.inputs[name])})
    place = next((index for index, message in enumerate(record.messages) if message.role == "user"), None)
    if place is None:
        return None
    message = record.messages[place]
    messages = [*record.messages]
    messages[place] = replace(message, content=template.replace("{text}", message.content))
    return replace(record, messages=tuple(messages))


def _changed(record: Record, way: str, change: Callable[[str], str]) -> Record | None:
    if not isinstance(record, Labelled):
        return replace(record, messages=tuple(replace(m, content=change(m.content)) if m.role == "user" else m for m in record.messages))
    if "tokens" in record.inputs:
        return _tokens(record, way, change) if way in _ALIGNED else None
    if "context" in record.inputs and record.label:
        inside = _inside(record.inputs["context"], record.label)
        return record.mapped(lambda text: text if text in inside else change(text))
    return record.mapped(change)


def _tokens(record: Labelled, way: str, change: Callable[[str], str]) -> Labelled:
    """Tokens changed as one text, so that the rate is that of the row; what would not stay one token each stays as it was."""
    tokens = record.inputs["tokens"]
    free = [not (way == "synonym" and record.label is not None and record.label[index] != "O") for index in range(len(tokens))]
    free = [able and not any(character.isspace() for character in token) for able, token in zip(free, tokens, strict=True)]
    changed = change(" ".join(token for token, able in zip(tokens, free, strict=True) if able)).split(" ")
    if len(changed) != sum(free) or not all(changed):
        return record
    new = iter(changed)
    return replace(record, inputs={"tokens": [next(new) if able else token for token, able in zip(tokens, free, strict=True)]})


def _inside(context: str, spans: Sequence[Any]) -> set[str]:
    """The pieces of the context that lie inside a span, cut and stripped as :meth:`Labelled.mapped` does."""
    cuts = sorted({0, len(context), *(s["start"] for s in spans), *(s["start"] + len(s["text"]) for s in spans)})
    return {
        context[start:end].strip()
        for start, end in pairwise(cuts)
        if any(s["start"] <= start and end <= s["start"] + len(s["text"]) for s in spans)
    }
