"""The conversations that travel inside the package."""

from __future__ import annotations

from collections.abc import Iterator

from agentft.contracts import DataContext
from agentft.data.packaged import PackagedConfig, read_packaged
from agentft.records import Example


def dialogues(config: PackagedConfig, ctx: DataContext) -> Iterator[Example]:
    """Demonstrations: conversations that end with the agent."""
    return read_packaged("agentft_customer_service:data/dialogues.jsonl", config, ctx)


def prompts(config: PackagedConfig, ctx: DataContext) -> Iterator[Example]:
    """Conversations that end with the customer; ``meta.facts`` says what a good answer tells."""
    return read_packaged("agentft_customer_service:data/prompts.jsonl", config, ctx)


def queries(config: PackagedConfig, ctx: DataContext) -> Iterator[Example]:
    """Conversations that end with the customer, to practise on in rounds of feedback; none of them is in ``prompts``."""
    return read_packaged("agentft_customer_service:data/queries.jsonl", config, ctx)
