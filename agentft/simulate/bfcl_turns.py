"""BFCL's conversations of several turns (multi_turn_base), on the Python classes of BFCL's own package.

The classes (a file system, a trading bot, a car ...) are not rebuilt here: the distribution ``bfcl-eval`` has them. After every turn their
state is compared with that after the expected calls, and what the expected calls answer must be among what the agent's calls answered.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence, Set
from importlib import import_module
from pathlib import Path
from typing import Any

from agentft.data.jsonl import BadRows, iter_json
from agentft.environments import Environment, Episode, Outcome, SimTask, ToolAnswer, User, Violation
from agentft.errors import DataError, MissingDependency
from agentft.simulate.bfcl import Asker, as_tool, said
from agentft.simulate.outcome import from_tools

_PACKAGE = "bfcl_eval.eval_checker.multi_turn_eval.func_source_code"
# Class -> its module, which is also the name of the file that describes its functions.
MODULES = {
    "GorillaFileSystem": "gorilla_file_system",
    "MathAPI": "math_api",
    "MessageAPI": "message_api",
    "TwitterAPI": "posting_api",
    "TicketAPI": "ticket_api",
    "TradingBot": "trading_bot",
    "TravelAPI": "travel_booking",
    "VehicleControlAPI": "vehicle_control",
}
INSTALL = "pip install --no-deps bfcl-eval mpmath"


class Classes:
    """Fresh objects of BFCL's classes in the state that a task begins in, and calls to them."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.objects: dict[str, Any] = {}
        for name in row["involved_classes"]:
            made = _class(name)()
            if hasattr(made, "_load_scenario"):
                made._load_scenario(copy.deepcopy(row["initial_config"].get(name, {})), long_context=False)
            self.objects[name] = made

    def method(self, name: str) -> Any:
        """None where no class has such a function, or where it is private."""
        if name.startswith("_"):
            return None
        # As in BFCL: where two classes have a function of one name, the later one's is called.
        found = [getattr(one, name) for one in self.objects.values() if inspect.ismethod(getattr(one, name, None))]
        return found[-1] if found else None

    def call(self, name: str, /, *args: Any, **arguments: Any) -> str:
        """What the function answers, as BFCL writes it."""
        method = self.method(name)
        if method is None:
            return f"Error during execution: name '{name}' is not defined"
        try:
            # Some classes keep the lists that they are given and write to them later; the conversation must not change with them.
            result = method(*copy.deepcopy(args), **copy.deepcopy(arguments))
        except Exception as error:  # whatever a class of BFCL makes of odd arguments is what the agent gets to read
            return f"Error during execution: {error}"
        if isinstance(result, dict):
            try:
                return json.dumps(result)
            except TypeError:
                return str(result)
        return str(result)

    def named(self, call: str) -> dict[str, Any]:
        """An expected call such as ``sort('a.txt')`` with its arguments by name."""
        name, args, arguments = parsed(call)
        bound = inspect.signature(self.method(name)).bind(*args, **arguments)
        return {"name": name, "arguments": dict(bound.arguments)}

    def parts(self) -> dict[str, Any]:
        """What BFCL compares: everything that is not private."""
        return {name: {key: value for key, value in vars(one).items() if not key.startswith("_")} for name, one in self.objects.items()}


def _class(name: str) -> Any:
    try:
        return getattr(import_module(f"{_PACKAGE}.{MODULES[name]}"), name)
    except ImportError as error:
        raise MissingDependency(f"bfcl: multi_turn_base runs on BFCL's own classes, and {error.name} is not installed: {INSTALL}") from None
    except KeyError:
        raise DataError(f"bfcl: a task needs the class '{name}'; known: {', '.join(MODULES)}") from None


def parsed(call: str) -> tuple[str, list[Any], dict[str, Any]]:
    """A call in Python's syntax, without running anything.

    Raises:
        DataError: it is no call of a function with plain values.
    """
    try:
        node = ast.parse(call, mode="eval").body
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            raise ValueError("no call of a function")
        arguments = {str(one.arg): ast.literal_eval(one.value) for one in node.keywords}
        return node.func.id, [ast.literal_eval(one) for one in node.args], arguments
    except (SyntaxError, ValueError) as error:
        raise DataError(f"bfcl: the expected call {call!r} cannot be read ({error})") from None


class TurnEnvironment:
    """The functions of a task's classes."""

    def __init__(self, row: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]) -> None:
        self.tools, self._names = tools, {tool["name"] for tool in tools}
        self.classes = Classes(row)
        self.violations: Sequence[Violation] = ()

    def call(self, name: str, arguments: Mapping[str, Any]) -> ToolAnswer:
        if name not in self._names:
            return ToolAnswer(f"There is no function '{name}'.", error=True)
        if not isinstance(arguments, Mapping):
            return ToolAnswer("The arguments are not an object.", error=True)
        answer = self.classes.call(name, **arguments)
        return ToolAnswer(answer, error=answer.startswith(("Error during execution", '{"error"')))

    def state(self) -> str:
        return hashlib.sha256(repr(self.classes.parts()).encode()).hexdigest()[:16]

    def close(self) -> None: ...


class BfclTurns:
    """The tasks of multi_turn_base."""

    policy = ""

    def __init__(self, folder: Path, rows: Sequence[Mapping[str, Any]], answers: Mapping[str, Sequence[Sequence[str]]]) -> None:
        self._rows, self._answers, self._folder = {row["id"]: row for row in rows}, answers, folder
        self._documents: dict[str, list[dict[str, Any]]] = {}
        self.tasks = [self._task(row) for row in rows]

    def _task(self, row: Mapping[str, Any]) -> SimTask:
        slices = {"classes": " + ".join(row["involved_classes"]), "turns": str(len(row["question"]))}
        classes = Classes(row)
        calls = [classes.named(call) for turn in self._answers[row["id"]] for call in turn]
        return SimTask(row["id"], slices, calls)

    def open(self, task: SimTask) -> Environment:
        row = self._rows[task.id]
        hidden = set(row.get("excluded_function") or ())
        described = [one for name in row["involved_classes"] for one in self._described(name) if one["name"] not in hidden]
        return TurnEnvironment(row, [as_tool(one) for one in described])

    def _described(self, name: str) -> list[dict[str, Any]]:
        if name not in self._documents:
            folder, stem = self._folder / "multi_turn_func_doc", MODULES[name]
            file = next((path for ending in ("json", "jsonl") if (path := folder / f"{stem}.{ending}").is_file()), folder / f"{stem}.json")
            bad = BadRows()
            self._documents[name] = [row for _, row in iter_json(file, bad)]
            bad.raise_if_any("the files of BFCL are JSON lines, whatever they are called")
        return self._documents[name]

    def user(self, task: SimTask, seed: int) -> User:
        return Asker([said(turn) for turn in self._rows[task.id]["question"]])

    def expected(self, task: SimTask) -> list[list[dict[str, Any]]]:
        """The expected calls of each turn, with arguments by name."""
        classes = Classes(self._rows[task.id])
        return [[classes.named(call) for call in turn] for turn in self._answers[task.id]]

    def judge(self, task: SimTask, episode: Episode) -> Outcome:
        """Replays the calls beside the expected ones and compares after each turn, as BFCL does."""
        if episode.fault:
            return Outcome({}, episode.fault)
        turns, row = calls_by_turn(episode), self._rows[task.id]
        mine, theirs, answered = Classes(row), Classes(row), list[str]()
        tools = {tool["name"] for tool in self.open(task).tools}
        for number, expected in enumerate(self._answers[task.id], 1):
            calls = turns[number - 1] if number <= len(turns) else []
            answered += [mine.call(call["name"], **call["arguments"]) for call in calls if _fits(call, tools)]
            wanted = []
            for call in expected:
                name, args, arguments = parsed(call)
                wanted.append(theirs.call(name, *args, **arguments))
            if not expected:
                continue
            if not calls:
                return Outcome({"calls": False}, f"turn {number}: no call")
            if different := [name for name, one in theirs.parts().items() if mine.parts()[name] != one]:
                return Outcome({"state": False}, f"turn {number}: the state of {', '.join(different)} is another one")
            if lacking := _without(wanted, answered):
                return Outcome({"answers": False}, f"turn {number}: no call answered {lacking[0][:200]}")
        return Outcome({"calls": True, "state": True, "answers": True})


def _fits(call: Mapping[str, Any], tools: Set[str]) -> bool:
    return call["name"] in tools and isinstance(call["arguments"], Mapping)


def calls_by_turn(episode: Episode) -> list[list[Mapping[str, Any]]]:
    """The agent's calls after each message of the user."""
    turns: list[list[Mapping[str, Any]]] = []
    for message in episode.messages:
        if message.role == "user" and not from_tools(message):
            turns.append([])
        elif message.role == "assistant" and turns:
            turns[-1] += message.tool_calls
    return turns


def _without(wanted: Sequence[str], there: Sequence[str]) -> list[str]:
    """What is wanted and is not there, each as often as it is wanted."""
    left, lacking = list(there), []
    for one in wanted:
        if one in left:
            left.remove(one)
        else:
            lacking.append(one)
    return lacking
