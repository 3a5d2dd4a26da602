"""The Berkeley Function-Calling Leaderboard as a suite: tasks from the user's own copy of it, scored by its rules.

Single-turn categories ask one question and look at the calls of the first answer; ``irrelevance`` wants none. Nothing of the benchmark is
part of this package; what differs from the original is listed in ``docs/benchmarks-agents.md``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from agentft.data.jsonl import BadRows, iter_json
from agentft.environments import Environment, Episode, Outcome, SimTask, Suite, SuiteContext, ToolAnswer, User, UserTurn, Violation
from agentft.errors import DataError, UserError
from agentft.records import Message
from agentft.simulate.bfcl_match import mismatch, public_name, reference_calls
from agentft.validation import Model

Category = Literal[
    "simple_python",
    "multiple",
    "parallel",
    "parallel_multiple",
    "irrelevance",
    "live_simple",
    "live_multiple",
    "live_parallel",
    "live_parallel_multiple",
    "live_irrelevance",
    "multi_turn_base",
]
# BFCL's words for types -> those of JSON schema.
_TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}


class BfclConfig(Model):
    """Options of the environment ``bfcl``."""

    path: str = Field(
        description="Your copy of the gorilla repository, its folder `bfcl_eval/data`, or a folder with the files `BFCL_v*_CATEGORY.json`."
    )
    category: Category = Field("simple_python", description="Which category of Python functions; the JSON lines of it are read.")


def schema(described: Mapping[str, Any]) -> dict[str, Any]:
    """BFCL's description of parameters as a JSON schema."""
    found = {key: value for key, value in described.items() if key not in ("optional", "properties", "items")}
    found["type"] = _TYPES.get(described.get("type", "any"), described.get("type", "string"))
    if "properties" in described:
        found["properties"] = {name: schema(one) for name, one in described["properties"].items()}
    if isinstance(described.get("items"), Mapping):
        found["items"] = schema(described["items"])
    return found


def as_tool(function: Mapping[str, Any]) -> dict[str, Any]:
    """A function of BFCL as a tool; a name with dots gets underscores."""
    parameters = {"properties": {}} | schema(function["parameters"]) | {"type": "object"}
    return {"name": public_name(function["name"]), "description": function.get("description", ""), "parameters": parameters}


class Recorder:
    """Functions that nobody wrote: calls are taken down and answered by a word of thanks."""

    def __init__(self, functions: Sequence[Mapping[str, Any]]) -> None:
        self.tools: Sequence[Mapping[str, Any]] = [as_tool(function) for function in functions]
        self.calls: list[dict[str, Any]] = []
        self.violations: Sequence[Violation] = ()

    def call(self, name: str, arguments: Mapping[str, Any]) -> ToolAnswer:
        if name not in [tool["name"] for tool in self.tools]:
            return ToolAnswer(f"There is no function '{name}'.", error=True)
        self.calls.append({"name": name, "arguments": dict(arguments)})
        return ToolAnswer("The call was received.")

    def state(self) -> str:
        return hashlib.sha256(json.dumps(self.calls, sort_keys=True, default=str).encode()).hexdigest()[:16] if self.calls else ""

    def close(self) -> None: ...


class Asker:
    """Says the messages of a task one after the other, whatever the agent answers, and leaves."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._left = list(texts)

    def opens(self) -> UserTurn:
        return UserTurn(self._left.pop(0))

    def answers(self, conversation: Sequence[Message]) -> UserTurn:
        return UserTurn(self._left.pop(0)) if self._left else UserTurn("Thank you.", done=True)


def said(turn: Sequence[Mapping[str, Any]]) -> str:
    """What a turn says; a system message of a task stands in front of its question."""
    return "\n\n".join(message["content"] for message in turn)


class BfclSuite:
    """The tasks of a category with one turn."""

    policy = ""

    def __init__(self, config: BfclConfig, rows: Sequence[Mapping[str, Any]], answers: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        self.irrelevant = config.category.endswith("irrelevance")
        self._rows = {row["id"]: row for row in rows}
        self._answers = answers
        if not self.irrelevant and (lacking := [key for key in self._rows if key not in answers]):
            raise DataError(f"bfcl: there is no possible answer for {lacking[0]} ({len(lacking)} of {len(rows)} tasks)")
        self.tasks = [self._task(row, config.category) for row in rows]

    def _task(self, row: Mapping[str, Any], category: str) -> SimTask:
        names = [public_name(function["name"]) for function in row["function"]]
        if len(set(names)) < len(names):
            raise DataError(f"bfcl: {row['id']}: two functions have one name where dots are underscores")
        expected = () if self.irrelevant else reference_calls(row["function"], self._answers[row["id"]])
        slices = {"category": category, "functions": str(len(names)) if len(names) < 5 else "5 and more", "calls": str(len(expected))}
        return SimTask(row["id"], slices, expected, data={"together": True})

    def open(self, task: SimTask) -> Environment:
        return Recorder(self._rows[task.id]["function"])

    def user(self, task: SimTask, seed: int) -> User:
        return Asker([said(self._rows[task.id]["question"][0])])

    def judge(self, task: SimTask, episode: Episode) -> Outcome:
        """By the first answer alone, as BFCL does; a call that could not be read is none."""
        if episode.fault:
            return Outcome({}, episode.fault)
        first = next((message for message in episode.messages if message.role == "assistant"), None)
        if first is None:
            return Outcome({"answered": False}, episode.error or "there is no answer")
        if self.irrelevant:
            names = ", ".join(call["name"] for call in first.tool_calls)
            return Outcome({"no_call": not first.tool_calls}, names and f"called: {names}")
        problem = mismatch(self._rows[task.id]["function"], first.tool_calls, self._answers[task.id])
        return Outcome({"calls": not problem}, problem)


def data_folder(path: str, base: Path) -> Path:
    """The folder with the questions in a copy of BFCL.

    Raises:
        UserError: there is none.
    """
    root = base / Path(path).expanduser()
    for inside in (".", "data", "bfcl_eval/data", "berkeley-function-call-leaderboard/bfcl_eval/data"):
        if list((root / inside).glob("BFCL_v*_*.json*")):
            return root / inside
    where = "`path` is a copy of the gorilla repository or its folder bfcl_eval/data"
    raise UserError(f"bfcl: there are no files BFCL_v*_CATEGORY.json in {root}; {where}")


def read_rows(folder: Path, category: str) -> list[dict[str, Any]]:
    """Rows of the newest version of a category.

    Raises:
        UserError: there is no such file.
        DataError: a line that is not JSON.
    """
    named = re.compile(rf"BFCL_v(\d+)_{category}\.jsonl?")
    versions = {int(match[1]): path for path in folder.glob("BFCL_v*") if (match := named.fullmatch(path.name))}
    if not versions:
        raise UserError(f"bfcl: there is no file BFCL_v*_{category}.json (or .jsonl) in {folder}")
    bad = BadRows()
    rows = [row for _, row in iter_json(versions[max(versions)], bad)]
    bad.raise_if_any("the files of BFCL are JSON lines, whatever they are called")
    return rows


def read_answers(folder: Path, category: str) -> dict[str, Any]:
    """Task id -> what BFCL holds to be right."""
    return {row["id"]: row["ground_truth"] for row in read_rows(folder / "possible_answer", category)}


def bfcl(config: BfclConfig, ctx: SuiteContext) -> Suite:
    """The environment ``bfcl``."""
    folder = data_folder(config.path, ctx.base)
    rows = read_rows(folder, config.category)
    if config.category == "multi_turn_base":
        from agentft.simulate.bfcl_turns import BfclTurns

        return BfclTurns(folder, rows, read_answers(folder, config.category))
    irrelevant = config.category.endswith("irrelevance")
    return BfclSuite(config, rows, {} if irrelevant else read_answers(folder, config.category))
