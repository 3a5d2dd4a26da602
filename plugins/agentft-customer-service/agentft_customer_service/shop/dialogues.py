"""The source ``customer-service/tool-dialogues``: demonstrations with tool calls, drawn anew from a seed.

Every conversation has a customer and orders of its own, none of which is in the seed that the tasks use; products and rules are those
of the same shop.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

from pydantic import Field

from agentft.catalog import resource
from agentft.contracts import DataContext
from agentft.errors import DataError, did_you_mean
from agentft.records import Example
from agentft.validation import Listed, Model
from agentft_customer_service.shop.database import SEED, seed
from agentft_customer_service.shop.scene import Scene
from agentft_customer_service.shop.scenes import SCENES

INTENTS = {scene.__name__.rstrip("_").replace("_", "-"): scene for scene in SCENES}


class ToolDialoguesConfig(Model):
    """Options of ``customer-service/tool-dialogues``."""

    count: int = Field(default=480, ge=1, le=20000, description="conversations")
    seed: int | None = Field(default=None, ge=0, description="of all drawing; default: the recipe's")
    intents: Listed[str] = Field(default=(), description="only these kinds of conversations; default: all, in fixed shares")


def tool_dialogues(config: ToolDialoguesConfig, ctx: DataContext) -> Iterator[Example]:
    """Conversations that end with the agent, with ``tools`` and ``tool_calls``.

    Raises:
        DataError: an intent that does not exist.
    """
    for intent in config.intents:
        if intent not in INTENTS:
            raise DataError(f"there are no conversations of intent '{intent}'; {did_you_mean(intent, INTENTS)}")
    ctx.files.append(resource(SEED))
    drawn = ctx.seed if config.seed is None else config.seed
    wanted = {name: SCENES[INTENTS[name]] for name in config.intents or INTENTS}
    seen: set[str] = set()
    for number, intent in enumerate(_shared_out(wanted, config.count)):
        for attempt in range(20):  # short wordings meet again; two customers who say the same teach nothing new
            example = _conversation(f"{drawn}:{number}:{attempt}", intent, f"td-{drawn}-{number:05d}")
            if example.text not in seen:
                break
        seen.add(example.text)
        yield example


def _conversation(drawing: str, intent: str, key: str) -> Example:
    rng = random.Random(drawing)
    scene = Scene(seed(), rng, frozen=intent == "frozen")
    INTENTS[intent](scene)
    return scene.done(key, intent)


def _shared_out(shares: dict[str, int], count: int) -> list[str]:
    """``count`` intents in these shares, spread evenly: the one that lags most behind its share comes next."""
    total, given = sum(shares.values()), Counter[str]()
    found: list[str] = []
    for number in range(1, count + 1):
        name = max(shares, key=lambda one: shares[one] * number / total - given[one])
        given[name] += 1
        found.append(name)
    return found
