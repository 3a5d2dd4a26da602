"""The texts that travel inside the package."""

from __future__ import annotations

from collections.abc import Iterator

from agentft.contracts import DataContext
from agentft.data.packaged import PackagedConfig, read_packaged
from agentft.records import Example


def texts(config: PackagedConfig, ctx: DataContext) -> Iterator[Example]:
    """Demonstrations: a text or notes, and the piece in the persona's style."""
    return read_packaged("agentft_content_style:data/texts.jsonl", config, ctx)


def prompts(config: PackagedConfig, ctx: DataContext) -> Iterator[Example]:
    """Further texts and notes without an answer; ``meta.source`` is the text, ``meta.facts`` what must survive."""
    return read_packaged("agentft_content_style:data/prompts.jsonl", config, ctx)
