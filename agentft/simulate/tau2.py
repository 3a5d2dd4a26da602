"""tau2-bench as a suite: tasks, policy and database from the user's own copy of it, scored as tau2-bench scores.

Nothing of the benchmark is part of this package. What differs from the original is listed in ``docs/benchmarks-agents.md``.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from agentft.environments import Environment, Episode, Outcome, SimTask, SuiteContext, ToolAnswer, User, Violation
from agentft.errors import DataError, UserError, did_you_mean
from agentft.records import Message
from agentft.simulate import tau2_airline, tau2_mock, tau2_retail
from agentft.simulate.tables import Tables
from agentft.simulate.tau2_score import Verdicts, score
from agentft.simulate.tau2_users import Caller, scenario
from agentft.simulate.toolbox import Refused, Tool, use
from agentft.validation import Model

TOOLS: dict[str, Mapping[str, Tool]] = {"airline": tau2_airline.TOOLS, "retail": tau2_retail.TOOLS, "mock": tau2_mock.TOOLS}
USER_TOOLS: dict[str, Mapping[str, Tool]] = {"mock": tau2_mock.USER_TOOLS}
HELPERS = {"mock": tau2_mock.HELPERS}
# Domains of tau2-bench that are not rebuilt, and what it would take.
MISSING = {
    "telecom": "its tools and its users' telephones",
    "banking_knowledge": "its tools, and the search in the documents that most of them are found in",
}


class Tau2Config(Model):
    """Options of the environment ``tau2``."""

    path: str = Field(description="Your copy of tau2-bench, or its folder `data/tau2/domains`, or any folder with the domains in it.")
    domain: Literal["retail", "mock", "airline", "telecom", "banking_knowledge"] = Field(
        "retail", description="Which domain; `retail`, `airline` and `mock` are built in, the others say what is missing."
    )
    split: str = Field("base", description="Which tasks, as `split_tasks.json` of the domain divides them; `base` is all of them.")
    basis: Literal["task", "all"] = Field(
        "task",
        description="`task`: what the task's `reward_basis` names has to be right, as in tau2-bench. `all`: database, assertions, "
        "actions and what is to be told, whatever it names.",
    )
    judge: str | None = Field(
        None,
        description="Model or server that decides assertions in words (NL_ASSERTION). Default: they are left out, and the result says so.",
    )
    patience: int = Field(8, ge=1, description="Answers that the scripted user gives before it leaves.")


class Tau2Environment:
    """A domain's tools over its database, and the user's side of it."""

    def __init__(self, domain: str, agent: Tables, user: Tables, task: Mapping[str, Any]) -> None:
        self.domain, self.agent, self.side, self.task = domain, agent, user, task

    @property
    def tools(self) -> Sequence[Mapping[str, Any]]:
        return [found.schema() for found in TOOLS[self.domain].values()]

    @property
    def violations(self) -> Sequence[Violation]:
        return ()

    def call(self, name: str, arguments: Mapping[str, Any]) -> ToolAnswer:
        return use(TOOLS[self.domain], self.agent, name, arguments)

    def call_as_user(self, name: str, arguments: Mapping[str, Any]) -> ToolAnswer:
        """What the user does on its own side."""
        return use(USER_TOOLS.get(self.domain, {}), self.side, name, arguments)

    def helper(self, call: Mapping[str, Any]) -> Any:
        """A function of the environment that is no tool, or a tool that sets the state up: ``{"env_type", "func_name", "arguments"}``.

        Raises:
            DataError: it is not known, or refuses.
        """
        name, state = call["func_name"], self.agent if call["env_type"] == "assistant" else self.side
        found = HELPERS.get(self.domain, {}).get(name)
        box = TOOLS[self.domain] if call["env_type"] == "assistant" else USER_TOOLS.get(self.domain, {})
        run = found or (box[name].run if name in box else None)
        if run is None:
            raise DataError(f"tau2: the domain '{self.domain}' has no function '{name}', which task '{self.task['id']}' calls")
        try:
            return run(state, **call.get("arguments") or {})
        except Refused as refusal:
            raise DataError(f"tau2: task '{self.task['id']}': {name}: {refusal}") from None

    def state(self) -> str:
        """Digests of both databases, and one digit per assertion of the task (1: met).

        What the user does at its own side, dismissing a notification say, it does when the conversation is over.
        """
        self.user_acts()
        return f"{self.agent.digest()}/{self.side.digest()}/{''.join(str(int(met)) for met in self.assertions())}"

    def user_acts(self) -> None:
        for action in user_actions(self.task):
            self.call_as_user(action["name"], action["arguments"])

    def assertions(self) -> list[bool]:
        found = []
        for assertion in criteria(self.task).get("env_assertions") or ():
            try:
                found.append(self.helper(assertion) == assertion.get("assert_value", True))
            except DataError:  # it asks for something that is not there (any more, or yet): not met
                found.append(False)
        return found

    def close(self) -> None: ...


def criteria(task: Mapping[str, Any]) -> Mapping[str, Any]:
    return task.get("evaluation_criteria") or {}


def user_actions(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What the user does at its own side: its reference actions, and what an assertion about its inbox asks for."""
    actions = [action for action in criteria(task).get("actions") or () if action.get("requestor") == "user"]
    for assertion in criteria(task).get("env_assertions") or ():
        if assertion["func_name"] == "assert_notification_status" and assertion["arguments"].get("expected_status") == "read":
            actions.append({"name": "dismiss_notification", "arguments": {"notification_id": assertion["arguments"]["notification_id"]}})
    return actions


class Tau2Suite:
    """The tasks of one domain."""

    def __init__(self, config: Tau2Config, ctx: SuiteContext) -> None:
        self.config, self.ctx = config, ctx
        if config.domain in MISSING:
            lacking = MISSING[config.domain]
            raise UserError(f"tau2: the domain '{config.domain}' is not built in ({lacking} are missing); use {', '.join(TOOLS)}")
        self.folder = domains_folder(config.path, ctx.base, config.domain)
        self.policy = (self.folder / "policy.md").read_text("utf-8") if (self.folder / "policy.md").is_file() else ""
        rows = _load(self.folder / "tasks.json")
        kept = set(self._split(rows))
        self._rows = {str(row["id"]): row for row in rows if str(row["id"]) in kept}
        self.tasks = [self._task(row) for row in self._rows.values()]

    @cached_property
    def _databases(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        user = self.folder / "user_db.json"
        return _load(self.folder / "db.json"), _load(user) if user.is_file() else {}

    def _split(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        file, split = self.folder / "split_tasks.json", self.config.split
        splits = _load(file) if file.is_file() else {}
        if split in splits:
            return [str(name) for name in splits[split]]
        if split == "base":
            return [str(row["id"]) for row in rows]
        raise UserError(f"tau2: there is no split '{split}' in {file} ({did_you_mean(split, [*splits, 'base'])})")

    def _task(self, row: Mapping[str, Any]) -> SimTask:
        actions = [action for action in criteria(row).get("actions") or () if action.get("requestor", "assistant") == "assistant"]
        writes = any(TOOLS[self.config.domain][action["name"]].writes for action in actions if action["name"] in TOOLS[self.config.domain])
        asserted = bool(criteria(row).get("nl_assertions")) and "NL_ASSERTION" in basis(row)
        return SimTask(
            id=str(row["id"]),
            slices={
                "writes": "some" if writes else "none",
                "words": ("judged" if self.config.judge else "left out") if asserted else "none",
            },
            actions=[{"name": action["name"], "arguments": dict(action["arguments"])} for action in actions],
            facts=[[info] for info in criteria(row).get("communicate_info") or ()],
            data={"goal": scenario(row)},
            history=history(row),
        )

    def open(self, task: SimTask) -> Environment:
        return self._open(self._rows[task.id])

    def _open(self, row: Mapping[str, Any]) -> Tau2Environment:
        initial = row.get("initial_state") or {}
        changes = initial.get("initialization_data") or {}
        agent, side = (
            Tables(_merged(base, changes.get(key) or {})) for base, key in zip(self._databases, ("agent_data", "user_data"), strict=True)
        )
        environment = Tau2Environment(self.config.domain, agent, side, row)
        for call in initial.get("initialization_actions") or ():
            environment.helper(call)
        for message in initial.get("message_history") or ():
            for call in message.get("tool_calls") or ():
                environment.call(call["name"], call["arguments"])
        return environment

    def user(self, task: SimTask, seed: int) -> User:
        return Caller(self._rows[task.id], self.config.patience)

    def judge(self, task: SimTask, episode: Episode) -> Outcome:
        if episode.fault:
            return Outcome({}, episode.fault)
        row = self._rows[task.id]
        wanted = set(basis(row)) if self.config.basis == "task" else {"DB", "ENV_ASSERTION", "ACTION", "COMMUNICATE"}
        return score(row, episode, wanted | ({"NL_ASSERTION"} & set(basis(row))), self._reference(task), self._words())

    def _reference(self, task: SimTask) -> str:
        """The state after the reference actions."""
        environment = self._open(self._rows[task.id])
        for action in task.actions:
            environment.call(action["name"], action["arguments"])
        return environment.state()

    def _words(self) -> Verdicts | None:
        if self.config.judge is None:
            return None
        if self.ctx.open_model is None:
            raise UserError("tau2: the option 'judge' needs a model, and none can be opened here")
        return Verdicts(self.ctx.open_model(self.config.judge))


# As in tau2-bench, where a task says nothing.
DEFAULT_BASIS = ("DB", "COMMUNICATE")


def basis(row: Mapping[str, Any]) -> Sequence[str]:
    return criteria(row).get("reward_basis") or DEFAULT_BASIS


def history(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """What was said before the task begins."""
    names: dict[str, str] = {}
    found = []
    for message in (row.get("initial_state") or {}).get("message_history") or ():
        calls = message.get("tool_calls") or ()
        names |= {call["id"]: call["name"] for call in calls}
        name = names.get(message.get("id", "")) if message["role"] == "tool" else None
        plain = tuple({"name": call["name"], "arguments": call["arguments"]} for call in calls)
        found.append(Message(message["role"], message.get("content") or "", name, plain))
    return tuple(found)


def domains_folder(path: str, base: Path, domain: str) -> Path:
    """The folder of ``domain`` in a copy of tau2-bench.

    Raises:
        UserError: it is not there, or incomplete; the message names the file.
    """
    root = base / Path(path).expanduser()
    for inside in (".", "data/tau2/domains", "tau2/domains", "domains"):
        folder = root / inside / domain
        if folder.is_dir():
            for name in ("tasks.json", "db.json"):
                if not (folder / name).is_file():
                    raise UserError(f"tau2: {folder / name} is missing; a complete copy of tau2-bench has it")
            return folder
    raise UserError(f"tau2: there is no domain '{domain}' in {root}; `path` is a copy of tau2-bench or its folder data/tau2/domains")


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from None


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Mapping[str, Any]:
    """``base`` with ``changes`` laid over it, mapping by mapping; ``base`` itself where there are none."""
    if not changes:
        return base
    merged = dict(base)
    for key, value in changes.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else copy.deepcopy(value)
    return merged


def tau2(config: Tau2Config, ctx: SuiteContext) -> Tau2Suite:
    """The environment ``tau2``."""
    return Tau2Suite(config, ctx)
