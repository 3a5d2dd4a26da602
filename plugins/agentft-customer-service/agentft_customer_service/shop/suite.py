"""The environment ``customer-service/shop``: tasks with scripted customers at the shop's desk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal

from pydantic import Field

from agentft.catalog import resource
from agentft.environments import Environment, Episode, Outcome, SimTask, SuiteContext, User
from agentft.errors import UserError, did_you_mean
from agentft.validation import Listed, Model
from agentft_customer_service.shop.customers import script
from agentft_customer_service.shop.database import seed
from agentft_customer_service.shop.desk import ATTEMPTED, Desk
from agentft_customer_service.shop.rules import RULES
from agentft_customer_service.shop.tools import BY_NAME

TASKS = "agentft_customer_service:data/shop-tasks.jsonl"


class ShopConfig(Model):
    """Options of ``customer-service/shop``."""

    strict: bool = Field(
        default=False,
        description="the tools refuse what the rules forbid, and an attempt breaks no rule; default: it happens and the episode has failed",
    )
    tell_rules: bool = Field(
        default=False, description="tell the agent the rules, for one that does not play a persona which holds them, as desk does"
    )
    intents: Listed[str] = Field(default=(), description="only tasks with these intents; default: all")
    language: Literal["en", "zh", "all"] = Field(default="all", description="only tasks in this language")


@cache
def rows() -> tuple[Mapping[str, Any], ...]:
    """The tasks as they are written in the package; see :mod:`agentft_customer_service.shop.customers` for the form."""
    return tuple(json.loads(line) for line in resource(TASKS).read_text("utf-8").splitlines() if line)


def task_of(row: Mapping[str, Any]) -> SimTask:
    """A task of a row: slices, reference actions, facts, and the script of the customer under ``data``."""
    count = sum(BY_NAME[action["name"]].writes for action in row["actions"])
    writes = "none" if not count else "one" if count == 1 else "several"
    slices = {"intent": row["intent"], "writes": writes, "difficulty": row["difficulty"], "language": row["language"]}
    return SimTask(row["id"], slices, tuple(row["actions"]), tuple(map(tuple, row["facts"])), {"script": script(row)})


class ShopSuite:
    """A :class:`~agentft.environments.Suite`; each task starts with the seed's database."""

    def __init__(self, config: ShopConfig, ctx: SuiteContext):
        self._config = config
        known = sorted({row["intent"] for row in rows()})
        for intent in config.intents:
            if intent not in known:
                raise UserError(f"the shop has no task with intent '{intent}'; {did_you_mean(intent, known)}")
        self.tasks: Sequence[SimTask] = tuple(task_of(row) for row in rows() if self._wanted(row))
        if not self.tasks:
            raise UserError("no task of the shop has these intents in this language")

    def _wanted(self, row: Mapping[str, Any]) -> bool:
        config = self._config
        return (not config.intents or row["intent"] in config.intents) and config.language in ("all", row["language"])

    @property
    def policy(self) -> str:
        if not self._config.tell_rules:
            return ""
        opening = f"You work at the desk of an online shop. Today is {seed()['today']}. Check a customer's identity by email and postcode."
        return "\n".join([opening, "Rules:", *(f"- {text}" for text in RULES.values())])

    def open(self, task: SimTask) -> Environment:
        return Desk(seed(), strict=self._config.strict)

    def user(self, task: SimTask, seed: int) -> User:
        from agentft.simulate.users import ScriptedUser

        return ScriptedUser(task.data["script"], seed)

    def judge(self, task: SimTask, episode: Episode) -> Outcome:
        """State, facts and rules; an attempt that a strict desk refused breaks none."""
        from dataclasses import replace

        from agentft.simulate.outcome import by_state

        broken = tuple(one for one in episode.violations if not one.policy.startswith(ATTEMPTED))
        return by_state(self.open, task, replace(episode, violations=broken))


def shop(config: ShopConfig, ctx: SuiteContext) -> ShopSuite:
    """The environment's target."""
    return ShopSuite(config, ctx)
