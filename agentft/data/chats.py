"""``chats``: conversations in the shapes in which they are usually published for fine-tuning.

| format | row |
|---|---|
| ``openai`` | ``messages`` with ``role`` and ``content`` (text, or parts of it), ``tool_calls``, ``tools`` |
| ``sharegpt`` | ``conversations`` (or ``conversation``, ``items``) with ``from`` and ``value``; ``system``, ``tools`` |
| ``alpaca`` | ``instruction``, ``input``, ``output``; ``system``, ``history`` (pairs of earlier questions and answers) |

In the first two a message may have ``weight`` (OpenAI's name) or ``train`` (axolotl's): 0 or false is not learned, another number is
the weight of its loss, see :class:`~agentft.records.Message`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from agentft.contracts import DataContext
from agentft.data.files import FileOptions, Left, converted, rows_of
from agentft.errors import DataError
from agentft.records import Example, train_from

Format = Literal["auto", "openai", "sharegpt", "alpaca"]
_ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "assistant": "assistant", "bot": "assistant",
    "model": "assistant", "system": "system", "function_call": "assistant", "tool_call": "assistant", "observation": "tool",
    "tool": "tool", "function": "tool", "tool_response": "tool", "function_response": "tool",
}  # fmt: skip
_CALLS = ("function_call", "tool_call")
_TURNS = ("conversations", "conversation", "items")


class ChatsConfig(FileOptions):
    """Options of the source ``chats``."""

    format: Format = Field("auto", description="shape of the rows; `auto`: told from each row's keys")
    columns: dict[str, str] = Field(
        default_factory=dict, description="our name -> the file's name for it, such as `{instruction: question, output: reply}`"
    )
    system: Literal["keep", "drop"] = Field("keep", description="what becomes of the system messages in the data")
    group: str | None = Field(None, description="column that a split must not separate")


def read_chats(config: ChatsConfig, ctx: DataContext) -> Iterator[Example]:
    """Conversations from files; those without an answer are dropped and counted.

    Raises:
        DataError: with file and line of every row that cannot be used, unless ``on_bad: skip``.
    """
    return converted(config, ctx, rows_of, lambda row, name: conversation(row, name, config))


def conversation(row: Any, default_id: str, config: ChatsConfig) -> Example:
    """One row as an example.

    Raises:
        Left: nothing in it is answered.
        DataError: it cannot be read.
    """
    if not isinstance(row, Mapping):
        raise DataError(f"a row must be an object, not {type(row).__name__}")
    if missing := next((name for name in (*config.columns.values(), config.group) if name is not None and name not in row), None):
        raise DataError(f"no column '{missing}' (columns: {', '.join(map(str, row))})")
    renamed = {**row, **{ours: row[theirs] for ours, theirs in config.columns.items()}}
    shape = config.format if config.format != "auto" else shape_of(renamed)
    messages = [message for message in _READERS[shape](renamed) if config.system == "keep" or message["role"] != "system"]
    if not any(message["role"] == "assistant" for message in messages):
        raise Left("nothing is answered")
    data: dict[str, Any] = {"messages": messages, "id": row.get("id"), "meta": {"source": "chats"}}
    data["group"] = row[config.group] if config.group is not None else None
    if tools := _listed(renamed.get("tools"), "tools"):
        data["tools"] = tools
    return Example.from_dict(data, default_id)


def shape_of(row: Mapping[str, Any]) -> str:
    """The format that a row's keys tell.

    Raises:
        DataError: none that we know.
    """
    if "messages" in row:
        return "openai"
    if any(name in row for name in _TURNS):
        return "sharegpt"
    if "instruction" in row and "output" in row:
        return "alpaca"
    raise DataError(f"no conversation in the keys {', '.join(map(str, row))} (name them with columns:, or set format:)")


def _openai(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    for message in _sequence(row.get("messages"), "messages"):
        if not isinstance(message, Mapping):
            raise DataError(f"a message must be an object with role and content, not {type(message).__name__}")
        data: dict[str, Any] = {"role": "system" if message.get("role") == "developer" else message.get("role")}
        data["content"] = _text(message.get("content"))
        data |= {key: message[key] for key in ("name", "tool_calls") if message.get(key) is not None}
        found.append(data | _train(message))
    return found


def _sharegpt(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    key = next((name for name in _TURNS if name in row), "conversations")
    found = _head(row)
    for turn in _sequence(row.get(key), key):
        if not isinstance(turn, Mapping):
            raise DataError(f"a turn must be an object with from and value, not {type(turn).__name__}")
        speaker, value = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
        role = _ROLES.get(str(speaker).lower())
        if role is None:
            raise DataError(f"unknown speaker {speaker!r} (known: {', '.join(_ROLES)})")
        if str(speaker).lower() in _CALLS:
            calls = _listed(value, "the tool call")
            found.append({"role": role, "content": "", "tool_calls": calls, **_train(turn)})
        else:
            found.append({"role": role, "content": value, **_train(turn)})
    return found


def _train(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message's ``train``, from ``train`` and ``weight``; whichever says more: "not learned", then a weight, then "learned"."""
    said = {train_from(message.get(key), key) for key in ("train", "weight")} - {None}
    weights = [one for one in said if not isinstance(one, bool)]
    if len(weights) > 1:
        raise DataError(f"'train' and 'weight' of a message differ: {message['train']!r} and {message['weight']!r}")
    return {"train": False if False in said else weights[0] if weights else True} if said else {}


def _alpaca(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = _head(row)
    for earlier in _sequence(row.get("history") or [], "history"):
        if not isinstance(earlier, Sequence) or isinstance(earlier, str) or len(earlier) != 2:
            raise DataError("'history' must hold pairs of a question and its answer")
        found += [{"role": "user", "content": earlier[0]}, {"role": "assistant", "content": earlier[1]}]
    asked, more = row.get("instruction"), row.get("input")
    if not isinstance(asked, str) or not asked.strip():
        raise DataError("column 'instruction' is empty")
    if not str(row.get("output") or "").strip():
        raise Left("nothing is answered")
    return [*found, {"role": "user", "content": f"{asked}\n{more}" if more else asked}, {"role": "assistant", "content": row["output"]}]


_READERS = {"openai": _openai, "sharegpt": _sharegpt, "alpaca": _alpaca}


def _head(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "system", "content": row["system"]}] if row.get("system") else []


def _sequence(value: Any, name: str) -> Sequence[Any]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise DataError(f"'{name}' must be a list")
    return value


def _text(content: Any) -> Any:
    """Content in parts as one text; other than text it cannot hold anything."""
    if not isinstance(content, list):
        return content
    kinds = {part.get("type") for part in content if isinstance(part, Mapping)} - {"text"}
    if kinds or not all(isinstance(part, Mapping) for part in content):
        raise DataError(
            f"a message with parts of type {', '.join(map(str, sorted(map(str, kinds)))) or 'unknown'}; only text can be learned from"
        )
    return "".join(str(part.get("text", "")) for part in content)


def _listed(value: Any, name: str) -> list[Any]:
    """A list, an object (a list of one), or either as JSON text; nothing gives an empty list."""
    if not value:
        return []
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise DataError(f"{name}: not JSON: {error}") from None
    found = [value] if isinstance(value, Mapping) else value
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        raise DataError(f"{name} must be objects")
    return found
