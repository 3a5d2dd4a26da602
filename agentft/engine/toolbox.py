"""An agent's tools at work: what it calls is checked, run, answered and counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agentft.environments import ToolAnswer, ToolContext
from agentft.records import Message, Response
from agentft.tool_schema import check_call

if TYPE_CHECKING:
    from agentft.catalog import Catalog

Call = Mapping[str, Any]
MOST_CALLS = 8  # of one turn: a model that calls the same function over and over must come to an end


class ToolBox:
    """Runs the tools of a persona.

    Args:
        tools: as a persona has them: ``name``, ``description``, ``parameters``, and ``use`` for a plugin's function.
        catalog: where ``use`` is looked up; needed only if a tool has it.
        ctx: what the functions may use besides their arguments.
        ask: answers calls of tools without code, for example a person; None where nobody can.

    Attributes:
        counts: ``calls`` made, ``errors`` answered, and ``malformed`` texts that meant to call a tool.

    Raises:
        PluginError: a function is not installed or cannot be imported.
    """

    def __init__(
        self,
        tools: Sequence[Mapping[str, Any]],
        catalog: Catalog | None = None,
        ctx: ToolContext | None = None,
        ask: Callable[[Call], str | None] | None = None,
    ):
        self.tools = tuple(tools)
        self.ctx, self.counts = ctx or ToolContext(), Counter[str]()
        self._ask = ask
        self._functions: dict[str, Callable[..., Any]] = {}
        for tool in self.tools:
            if "use" in tool and catalog is not None:
                self._functions[tool["name"]] = catalog.target(catalog.get("tool", tool["use"]))

    def runs(self, name: str) -> bool:
        """Whether there is code behind a tool."""
        return name in self._functions

    def call(self, name: str, arguments: Mapping[str, Any]) -> ToolAnswer:
        """The answer to a call. Whatever goes wrong, in the call or in the function, is an answer with ``error``, never raised."""
        self.counts["calls"] += 1
        answer = self._answer({"name": name, "arguments": arguments})
        self.counts["errors"] += answer.error
        return answer

    def misread(self, response: Response) -> Message:
        """What the model is told about a text that meant to call a tool and could not be read."""
        self.counts["malformed"] += 1
        return Message("user", f"Your call could not be read: {response.malformed}. Write it again.")

    def _answer(self, call: Call) -> ToolAnswer:
        if problem := check_call(call, self.tools):
            return ToolAnswer(f"Error: {problem}", error=True)
        function = self._functions.get(call["name"])
        if function is None:
            said = self._ask(call) if self._ask is not None else None
            return ToolAnswer(f"Error: '{call['name']}' is not available here", error=True) if said is None else ToolAnswer(said)
        try:
            said = function(dict(call["arguments"]), self.ctx)
        except Exception as error:  # a function of somebody else: the model is told, and the conversation goes on
            return ToolAnswer(f"Error: {error or type(error).__name__}", error=True)
        return ToolAnswer(said if isinstance(said, str) else json.dumps(said, ensure_ascii=False, default=str))


def respond(
    ask: Callable[[Sequence[Message]], Response],
    box: ToolBox,
    *,
    limit: int = MOST_CALLS,
    watch: Callable[[Call, ToolAnswer], None] | None = None,
) -> list[Message]:
    """One turn of an agent: everything from its first word or call to the words that call nothing more.

    Args:
        ask: what the agent says next, given what this turn consists of so far; it raises what ends the turn.
        limit: calls, malformed ones too; the turn then ends with the last answer of a tool.
        watch: is shown each call with its answer; a malformed one has no ``name``, and its text as ``text``.

    Returns: assistant's messages with calls, tools' answers, and what the agent is told about calls that cannot be read.
    """
    turn: list[Message] = []
    made = 0
    while made < limit:
        response = ask(turn)
        turn.append(response.message)
        if response.malformed:
            made += 1
            turn.append(box.misread(response))
            if watch:
                watch({"text": response.text}, ToolAnswer(turn[-1].content, error=True))
            continue
        if not response.calls:
            break
        for call in response.calls:
            made += 1
            answer = box.call(call["name"], call["arguments"])
            turn.append(Message("tool", answer.content, name=call["name"]))
            if watch:
                watch(call, answer)
    return turn
