"""Tools for a chat template that knows none: described in the system prompt, called and answered in ordinary messages (Hermes' form)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agentft.errors import DataError
from agentft.records import Message
from agentft.render.tool_calls import HERMES
from agentft.tool_schema import function_of

Calls = tuple[Mapping[str, Any], ...]


def described(tools: Iterable[Mapping[str, Any]]) -> str:
    """What the system prompt says about ``tools``, and how to call one."""
    lines = [json.dumps(_plain(tool), ensure_ascii=False) for tool in tools]
    if not lines:
        return ""
    return "\n".join(
        (
            "You can call functions. Their signatures are within <tools></tools>:",
            "<tools>",
            *lines,
            "</tools>",
            "Call one by writing its name and its arguments like this:",
            HERMES.example(),
        )
    )


def folded(messages: Sequence[Message]) -> list[tuple[Message, Calls]]:
    """``messages`` without calls and tool messages, each beside the calls that are written out in it.

    A call follows the words of its message. Answers of tools stand in a message of the user, one after the other; what the user says
    right behind them follows in the same message, because many templates want roles to alternate.

    Raises:
        DataError: a tool message answers no call.
    """
    found: list[tuple[Message, Calls]] = []
    waiting = 0
    previous = ""
    for message in messages:
        calls = message.tool_calls
        waiting += len(calls)
        if calls:
            text = "\n".join([*([message.content] if message.content else []), *map(HERMES.write, calls)])
            message = replace(message, content=text, tool_calls=())
        follows = previous == "tool" and message.role in ("tool", "user")
        previous = message.role
        if message.role == "tool":
            if not waiting:
                raise DataError("a tool message does not follow a tool call")
            waiting -= 1
            message = Message("user", f"<tool_response>\n{message.content}\n</tool_response>")
        if follows:
            before = found.pop()[0]
            message = replace(before, content=f"{before.content}\n{message.content}")
        found.append((message, calls))
    return found


def _plain(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = function_of(tool)
    return {key: function[key] for key in ("name", "description", "parameters") if key in function}
