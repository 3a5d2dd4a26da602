"""A conversation as the chat template gets it: persona in front, control tokens disarmed, tool calls in the usual form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agentft.errors import DataError
from agentft.records import Example, Message

Chat = list[dict[str, Any]]


def with_system(messages: Sequence[Message], system: str, fold: bool) -> tuple[Message, ...]:
    """``messages`` with the system prompt in front of them.

    A system message that the conversation brings itself follows ours in the same message, after an empty line, because
    templates accept only one. With ``fold`` (the template knows no system role) the text comes in front of the first
    message, ``"<system>\\n\\n<user text>"``, or is a user message of its own where the user does not begin.
    """
    own = [m.content for m in messages[:1] if m.role == "system"]
    rest = tuple(messages[len(own) :])
    text = "\n\n".join(part for part in (system, *own) if part)
    if not text:
        return rest
    if not fold:
        return (Message("system", text), *rest)
    if rest and rest[0].role == "user":
        return (replace(rest[0], content=f"{text}\n\n{rest[0].content}"), *rest[1:])
    return (Message("user", text), *rest)


def to_chat(messages: Sequence[Message], arguments_as_text: bool = False) -> Chat:
    """The dictionaries that chat templates expect.

    Tool calls get ids (``call00000`` ...: some templates want exactly nine letters or digits) and tool messages name the
    call that they answer, in order. ``arguments_as_text`` writes arguments as JSON, which a few templates demand.

    Raises:
        DataError: a tool message answers no call.
    """
    chat: Chat = []
    count, waiting = 0, []
    for message in messages:
        entry: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.name is not None:
            entry["name"] = message.name
        if message.tool_calls:
            entry["tool_calls"] = []
        for call in message.tool_calls:
            arguments = json.dumps(call["arguments"], ensure_ascii=False) if arguments_as_text else call["arguments"]
            waiting.append((f"call{count:05d}", call["name"]))
            entry["tool_calls"].append(
                {"id": waiting[-1][0], "type": "function", "function": {"name": call["name"], "arguments": arguments}}
            )
            count += 1
        if message.role == "tool":
            if not waiting:
                raise DataError("a tool message does not follow a tool call")
            entry["tool_call_id"], name = waiting.pop(0)
            entry.setdefault("name", name)
        chat.append(entry)
    return chat


def to_tools(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]] | None:
    """Tools as ``{"type": "function", "function": {...}}``; None if there are none."""
    return [dict(tool) if "function" in tool else {"type": "function", "function": dict(tool)} for tool in tools] or None


class Disarm:
    """Takes the power from control tokens that somebody typed into a message.

    ``<|im_end|>`` in a customer's text would end the turn and let him write the next one himself. A space behind the first
    character, ``< |im_end|>``, leaves it readable and makes it ordinary text. The same happens in training and at
    inference, and :attr:`Encoded.disarmed` counts the messages. A template that marks turns with ordinary text (``### User:``)
    cannot be protected like this.

    Control tokens are the tokenizer's special tokens and, in what users and tools say, also those other added tokens that
    the template writes itself (``<tool_call>``, ``<think>``); an assistant may use the latter. ``marks`` are ordinary text that is
    treated like these.
    """

    def __init__(self, tokenizer: Any, template: str, marks: Iterable[str] = ()):
        added = tokenizer.added_tokens_decoder.values()
        special = {token.content for token in added if token.special} | set(tokenizer.all_special_tokens)
        written = {token.content for token in added if token.content in template and token.content.strip()}
        self.special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or "(?!)")
        self._special = _starts_of(special)
        self._any = _starts_of(special | written | set(marks))

    def message(self, message: Message) -> Message:
        pattern = self._any if message.role in ("user", "tool") else self._special
        calls = tuple({"name": call["name"], "arguments": _disarm(call["arguments"], self._special)} for call in message.tool_calls)
        name = message.name and _disarm(message.name, self._any)
        content = _disarm(message.content, pattern)
        if not calls and content == message.content and name == message.name:
            return message
        return replace(message, content=content, name=name, tool_calls=calls)

    def text(self, text: str) -> str:
        """``text`` of the persona's author: without special tokens, other added tokens are his to use."""
        return str(_disarm(text, self._special))

    def tools(self, tools: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        return [_disarm(dict(tool), self._special) for tool in tools]


def _starts_of(tokens: set[str]) -> re.Pattern[str]:
    # A look-ahead finds overlapping tokens too; a single character cannot be broken up.
    alternatives = "|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True) if len(token) > 1)
    return re.compile(f"(?=(?:{alternatives}))(.)", re.DOTALL) if alternatives else re.compile("(?!)()")


def _disarm(value: Any, pattern: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return pattern.sub(r"\1 ", value)
    if isinstance(value, Mapping):
        return {key: _disarm(item, pattern) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_disarm(item, pattern) for item in value]
    return value


def check_kept(messages: Iterable[Message], text: str) -> None:
    """Raise :class:`DataError` if the template left out what ``messages`` say.

    White space does not count, and a tool's answer may be rewritten (as JSON) as long as its words are there.
    """
    flat = ""
    for message in messages:
        missing = message.content not in text  # if it is there as it is, it is there without white space too
        if missing:
            flat = flat or _flat(text)
            missing = _flat(message.content) not in flat
        if missing and message.role == "tool":
            missing = any(word not in text for word in re.findall(r"\w+", message.content))
        if missing:
            raise DataError(f"the chat template leaves out or changes what a message with role '{message.role}' says")
        if any(call["name"] not in text for call in message.tool_calls):
            raise DataError("the chat template leaves out tool calls")


def _flat(text: str) -> str:
    return "".join(text.split())


def context_of(example: Example, index: int) -> Example:
    """``example`` up to and with message ``index``, only that message supervised."""
    kept = tuple(m if i == index else replace(m, train=False) for i, m in enumerate(example.messages[: index + 1]))
    return replace(example, messages=kept)
