"""The shapes of OpenAI's chat completions: requests in, completions, chunks and errors out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agentft.engine.openai_form import to_calls
from agentft.errors import DataError
from agentft.records import Example, Message, Response
from agentft.serve.answering import Refusal
from agentft.serve.gateway_state import Limits


class _Shape(BaseModel):
    # Fields that we do not know are left alone, as OpenAI's interface grows; those that would change the answer are refused below.
    model_config = ConfigDict(extra="allow", strict=True)


class StreamOptions(_Shape):
    include_usage: bool = False


class ChatRequest(_Shape):
    """The body of ``POST /v1/chat/completions``."""

    model: str
    messages: list[dict[str, Any]] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    n: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    variables: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None


# Field -> values that change nothing. Whoever sends another one would not get what he asks for.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (None, 0, 0.0),
    "presence_penalty": (None, 0, 0.0),
    "logit_bias": (None, {}),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "response_format": (None, {"type": "text"}),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "prediction": (None,),
    "web_search_options": (None,),
}


def parse(body: bytes, limits: Limits) -> ChatRequest:
    """The request in ``body``.

    Raises:
        Refusal: 400: no JSON, a wrong value, or something that the gateway cannot do.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, "The body is not valid JSON.", "invalid_json") from None
    if not isinstance(data, dict):
        raise Refusal(400, "The body must be a JSON object.", "invalid_json")
    try:
        request = ChatRequest.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"] if not isinstance(step, str) or "[" not in step)
        field = str(first["loc"][0])
        missing = first["type"] == "missing"
        message = f"Missing required parameter: '{field}'." if missing else f"Invalid value for '{place}': {first['msg']}."
        raise Refusal(400, message, "missing_required_parameter" if missing else "invalid_value", field) from None
    for name, harmless in _UNSUPPORTED.items():
        if data.get(name) not in harmless:
            raise Refusal(400, f"'{name}' is not supported here.", "unsupported_parameter", name)
    if (request.n or 1) > limits.choices:
        raise Refusal(400, f"'n' may be {limits.choices} at most.", "invalid_value", "n")
    if len(request.messages) > limits.messages:
        raise Refusal(400, f"A conversation may have {limits.messages} messages at most.", "invalid_value", "messages")
    wanted = request.max_completion_tokens or request.max_tokens or 0
    if wanted > limits.new_tokens:
        name = "max_completion_tokens" if request.max_completion_tokens else "max_tokens"
        raise Refusal(400, f"'{name}' may be {limits.new_tokens} at most.", "invalid_value", name)
    stops(request, limits)
    return request


def stops(request: ChatRequest, limits: Limits) -> tuple[str, ...]:
    """Texts that end the answer."""
    found = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
    if len(found) > limits.stops:
        raise Refusal(400, f"'stop' may have {limits.stops} texts at most.", "invalid_value", "stop")
    if any(not text or len(text) > 200 for text in found):
        raise Refusal(400, "Each text of 'stop' needs 1 to 200 characters.", "invalid_value", "stop")
    return found


def conversation(request: ChatRequest, limits: Limits) -> tuple[Message, ...]:
    """The messages as records: instructions of the caller in one system message in front, tools' answers in the order of their calls.

    Raises:
        Refusal: 400: a role, a content or an order that cannot be answered.
    """
    instructions: list[str] = []
    found: list[Message] = []
    open_: dict[str, str] = {}  # id -> name of the calls that are not answered yet, in order
    answers: dict[str, str] = {}

    def answered() -> None:
        if not answers:
            return
        if missing := [id for id in open_ if id not in answers]:
            raise _wrong(f"tool call '{missing[0]}' has no answer (a message with role 'tool')")
        found.extend(Message("tool", answers[id], name) for id, name in open_.items())
        open_.clear()
        answers.clear()

    for place, data in enumerate(request.messages):
        role = data.get("role")
        if role in ("system", "developer"):
            if not limits.caller_system:
                raise _wrong(f"messages with role '{role}' are not allowed here: this agent has its instructions", place)
            instructions.append(_text(data.get("content"), place))
            continue
        if role == "tool":
            id = str(data.get("tool_call_id") or "")
            if id not in open_:
                raise _wrong(f"'tool_call_id' {id!r} names no call of the message before", place)
            answers[id] = _text(data.get("content"), place)
            continue
        answered()
        if open_:
            raise _wrong(f"tool call '{next(iter(open_))}' has no answer (a message with role 'tool')", place)
        if role == "user":
            found.append(Message("user", _text(data.get("content"), place)))
        elif role == "assistant":
            calls = data.get("tool_calls") or []
            text = "" if calls and data.get("content") is None else _text(data.get("content"), place)
            message = _assistant(text, calls, place)
            found.append(message)
            ids = [str(call.get("id") or f"call_{place}_{number}") for number, call in enumerate(calls)]
            if len(set(ids)) < len(ids):
                raise _wrong("two tool calls have the same id", place)
            open_.update(zip(ids, (call["name"] for call in message.tool_calls), strict=True))
        else:
            raise _wrong(f"'role' must be system, developer, user, assistant or tool, not {role!r}", place)
    answered()
    if open_:
        raise _wrong(f"tool call '{next(iter(open_))}' has no answer (a message with role 'tool')")
    if not found or found[-1].role == "assistant":
        raise _wrong("the last message must be the user's or a tool's")
    front = [Message("system", "\n\n".join(text for text in instructions if text))] if any(instructions) else []
    return (*front, *found)


def _assistant(text: str, calls: Any, place: int) -> Message:
    if not isinstance(calls, list):
        raise _wrong("'tool_calls' must be a list", place)
    try:
        message = Message.from_dict({"role": "assistant", "content": text, "tool_calls": calls})
    except DataError as error:
        raise _wrong(str(error), place) from None
    if any(not isinstance(call["arguments"], Mapping) for call in message.tool_calls):
        raise _wrong("'arguments' of a tool call must be a JSON object", place)
    return message


def _text(content: Any, place: int) -> str:
    """Text, or parts that are all text."""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and content:
        parts = [part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None for part in content]
        if all(isinstance(part, str) for part in parts):
            return "\n".join(map(str, parts))
        raise _wrong("only parts of type 'text' can be read", place)
    raise _wrong("'content' must be text", place)


def _wrong(message: str, place: int | None = None) -> Refusal:
    where = "messages" if place is None else f"messages.{place}"
    return Refusal(400, f"Invalid '{where}': {message}.", "invalid_value", where)


def tools(request: ChatRequest, own: Sequence[Mapping[str, Any]], limits: Limits) -> tuple[tuple[Mapping[str, Any], ...], str]:
    """The tools that the model is shown, those of the persona first, and OpenAI's ``tool_choice`` as a word.

    Raises:
        Refusal: 400: a tool without a name or with one that is taken, or a choice that cannot be made.
    """
    choice = request.tool_choice or "auto"
    if isinstance(choice, Mapping):
        function = choice.get("function")
        choice = str(function.get("name")) if isinstance(function, Mapping) else ""
    offered: list[Mapping[str, Any]] = [*own]
    if request.tools and not limits.caller_tools:
        raise Refusal(400, "'tools' is not allowed here: this agent has its tools.", "unsupported_parameter", "tools")
    names = {str(tool["name"]) for tool in own}
    for place, tool in enumerate(request.tools or ()):
        function = tool.get("function")
        if tool.get("type") != "function" or not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise Refusal(400, "A tool looks like {'type': 'function', 'function': {'name': ...}}.", "invalid_value", f"tools.{place}")
        if function["name"] in names:
            raise Refusal(400, f"There are two tools called '{function['name']}'.", "invalid_value", f"tools.{place}")
        parameters = function.get("parameters") or {"type": "object", "properties": {}}
        if not isinstance(parameters, Mapping):
            raise Refusal(400, "'parameters' of a tool is a JSON schema.", "invalid_value", f"tools.{place}")
        names.add(function["name"])
        offered.append({"name": function["name"], "description": str(function.get("description") or ""), "parameters": dict(parameters)})
    if choice not in ("auto", "none", "required") and choice not in names:
        raise Refusal(400, f"'tool_choice' names no tool: {choice!r}.", "invalid_value", "tool_choice")
    return (() if choice == "none" else tuple(offered)), choice


def prompt_of(request: ChatRequest, id: str, own: Sequence[Mapping[str, Any]], limits: Limits) -> tuple[Example, str]:
    """The conversation to answer, and the word for ``tool_choice``."""
    shown, choice = tools(request, own, limits)
    return Example(id, conversation(request, limits), shown), choice


# Answers


def call_rows(calls: Sequence[Mapping[str, Any]], id: str) -> list[dict[str, Any]]:
    """Tool calls of an answer; their ids are unique, as the answer's is."""
    return to_calls(calls, f"call_{id.removeprefix('chatcmpl-')}")


def finish_of(response: Response) -> Literal["stop", "length", "tool_calls"]:
    if response.calls:
        return "tool_calls"
    return "length" if response.finish == "length" else "stop"


def usage(prompt: int, completion: int, cached: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def completion(id: str, model: str, responses: Sequence[Response], used: Mapping[str, Any]) -> dict[str, Any]:
    """The whole answer."""
    choices = []
    for index, response in enumerate(responses):
        message: dict[str, Any] = {"role": "assistant", "content": response.text or (None if response.calls else ""), "refusal": None}
        if response.calls:
            message["tool_calls"] = call_rows(response.calls, id if len(responses) == 1 else f"{id}_{index}")
        choices.append({"index": index, "message": message, "logprobs": None, "finish_reason": finish_of(response)})
    return {"id": id, "object": "chat.completion", "created": int(time.time()), "model": model, "choices": choices, "usage": dict(used)}


class Chunks:
    """Pieces of a streamed answer as lines of an event stream."""

    def __init__(self, id: str, model: str, with_usage: bool):
        self._head = {"id": id, "object": "chat.completion.chunk", "created": int(time.time()), "model": model}
        self.id, self._with_usage = id, with_usage

    def _line(self, choices: list[dict[str, Any]], **rest: Any) -> bytes:
        none = {"usage": None} if self._with_usage else {}
        return event(self._head | {"choices": choices} | none | rest)

    def delta(self, index: int, delta: Mapping[str, Any], finish: str | None = None) -> bytes:
        return self._line([{"index": index, "delta": dict(delta), "logprobs": None, "finish_reason": finish}])

    def first(self, index: int) -> bytes:
        return self.delta(index, {"role": "assistant", "content": ""})

    def calls(self, index: int, calls: Sequence[Mapping[str, Any]], id: str) -> Iterable[bytes]:
        for number, row in enumerate(call_rows(calls, id)):
            yield self.delta(index, {"tool_calls": [{"index": number, **row}]})

    def usage(self, used: Mapping[str, Any]) -> bytes:
        return self._line([], usage=dict(used))


DONE = b"data: [DONE]\n\n"


def event(data: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def error_body(refusal: Refusal) -> dict[str, Any]:
    return {"error": {"message": refusal.message, "type": refusal.type, "param": refusal.param, "code": refusal.code}}


def model_row(name: str, created: int, version: str = "") -> dict[str, Any]:
    """An agent in the list of models; ``version`` (of a run) is a field of our own, which clients pass on."""
    row = {"id": name, "object": "model", "created": created, "owned_by": "agentft"}
    return {**row, "version": version} if version else row
