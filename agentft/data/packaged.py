"""Data that travels inside a plugin: one line of code turns a packaged JSON-lines file into a source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from agentft.catalog import resource
from agentft.contracts import DataContext
from agentft.data.jsonl import read_examples
from agentft.errors import DataError
from agentft.records import Example


class PackagedConfig(BaseModel):
    """Options of a plugin's packaged data."""

    model_config = ConfigDict(extra="forbid")

    personas: list[str] | Literal["all"] | None = Field(
        None, description="Rows of these personas (bare names) or `all`. Default: those of the recipe's persona and its parents."
    )
    language: Literal["en", "zh"] | None = Field(None, description="Only rows in this language.")
    intents: list[str] | None = Field(None, description="Only rows with these intents.")
    limit: int | None = Field(None, gt=0, description="Take only the first rows.")


def read_packaged(path: str, config: PackagedConfig, ctx: DataContext) -> Iterator[Example]:
    """Rows of ``path`` (``package:data/file.jsonl``) that belong to the recipe's persona.

    Rows that are left out are counted, so that nobody wonders where they went.

    Raises:
        DataError: no row is left.
    """
    file = resource(path)
    ctx.files.append(file)
    if config.personas is None and ctx.persona is not None:
        wanted: set[str] | None = {name.rpartition("/")[2] for name in ctx.persona.lineage}
    else:
        wanted = None if config.personas in (None, "all") else set(config.personas or ())
    count, seen = 0, set()
    for example in read_examples(file):
        persona = example.meta.get("persona")
        seen.add(str(persona))
        if wanted is not None and persona is not None and persona not in wanted:
            ctx.drop("for another persona", example.id)
        elif config.language is not None and example.meta.get("language", config.language) != config.language:
            ctx.drop("in another language", example.id)
        elif config.intents is not None and example.meta.get("intent") not in config.intents:
            ctx.drop("another intent", example.id)
        elif config.limit is None or count < config.limit:
            count += 1
            yield example
        else:
            ctx.drop("over the limit", example.id)
    if not count:
        raise DataError(
            f"{file.name}: no row is left for persona {sorted(wanted or ())} (it has rows for: {', '.join(sorted(seen))}; see `personas:`)"
        )
