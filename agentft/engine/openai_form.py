"""Messages and tool calls in the form of OpenAI's interface, there and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from agentft.records import Message
from agentft.render.tool_calls import CallError, Reading, called


def to_openai(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as a request has them: tool calls have ids, which the tools' answers name in their order."""
    found: list[dict[str, Any]] = []
    open_: list[str] = []
    for place, message in enumerate(messages):
        row: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            calls = to_calls(message.tool_calls, f"call_{place}")
            open_ = [call["id"] for call in calls]
            row["tool_calls"] = calls
        if message.role == "tool":
            row["tool_call_id"] = open_.pop(0) if open_ else f"call_{place}"
        found.append(row)
    return found


def to_calls(calls: Sequence[Mapping[str, Any]], prefix: str = "call") -> list[dict[str, Any]]:
    """Calls as an assistant's message has them; arguments are JSON text, and ids ``{prefix}_{number}``."""
    return [
        {
            "id": f"{prefix}_{number}",
            "type": "function",
            "function": {"name": call["name"], "arguments": json.dumps(call["arguments"], ensure_ascii=False)},
        }
        for number, call in enumerate(calls)
    ]


def read_calls(content: str, calls: Sequence[Any]) -> Reading:
    """What an assistant's message says and calls. Arguments that are no JSON make it malformed; the text then shows the calls too."""
    found = []
    for call in calls:
        function = call.get("function", call) if isinstance(call, Mapping) else {}
        function = function if isinstance(function, Mapping) else {}
        try:
            found.append(called(function.get("name"), function.get("arguments")))
        except CallError as error:
            written = "\n".join(part for part in (content.strip(), json.dumps(list(calls), ensure_ascii=False)) if part)
            return Reading(written, (), str(error), error.kind)
    return Reading(content.strip(), tuple(found))
