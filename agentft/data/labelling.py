"""The transform ``label``: conversations become labelled rows, by what their meta data say of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import Field

from agentft.contracts import DataContext
from agentft.labelled import Labelled, Record
from agentft.records import Example
from agentft.validation import Model


class LabelConfig(Model):
    """Options of the transform ``label``."""

    by: str = Field(min_length=1, description="key of `meta` that holds the label: a class, a list of classes, or a number")
    text: Literal["first_user", "last_user", "user", "all"] = Field(
        "last_user", description="what is to be recognised: the user's first or last message, all of the user's, or the conversation"
    )


def label(records: Iterable[Record], config: LabelConfig, ctx: DataContext) -> Iterator[Record]:
    """Conversations as rows for `classify` or `regress`; those without the key, or without text, are dropped. Others pass."""
    for record in records:
        if not isinstance(record, Example):
            yield record
            continue
        value, text = record.meta.get(config.by), _text(record, config.text)
        if value is None or value == "":
            ctx.drop(f"no meta '{config.by}'", record.id)
        elif not text.strip():
            ctx.drop("no text to recognise anything in", record.id)
        else:
            yield Labelled(record.id, {"text": text}, value, record.group, record.meta)


def _text(example: Example, which: str) -> str:
    if which == "all":
        return example.text
    said = [message.content for message in example.messages if message.role == "user"]
    return "\n".join(said) if which == "user" else next(iter(said[:1] if which == "first_user" else said[-1:]), "")
