"""The sessions that travel inside the package."""

from __future__ import annotations

from collections.abc import Iterator

from agentft.contracts import DataContext
from agentft.data.packaged import PackagedConfig, read_packaged
from agentft.records import Example


def sessions(config: PackagedConfig, ctx: DataContext) -> Iterator[Example]:
    """Demonstrations: sessions that end with the tutor; ``meta.answer`` is the answer that the tutor keeps back."""
    return read_packaged("agentft_tutoring:data/sessions.jsonl", config, ctx)


def prompts(config: PackagedConfig, ctx: DataContext) -> Iterator[Example]:
    """Sessions that end with the student."""
    return read_packaged("agentft_tutoring:data/prompts.jsonl", config, ctx)


def queries(config: PackagedConfig, ctx: DataContext) -> Iterator[Example]:
    """Sessions that end with the student, to practise on in rounds of feedback; none of them is in ``prompts``."""
    return read_packaged("agentft_tutoring:data/queries.jsonl", config, ctx)
