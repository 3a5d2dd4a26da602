"""Preference pairs in the form that TRL reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from agentft.errors import DataError
from agentft.records import Message, Preference


def trl_row(one: Preference) -> dict[str, Any]:
    """``{"prompt", "chosen", "rejected"}`` with messages: TRL's conversational form with an explicit prompt.

    Raises:
        DataError: a side is missing; see :func:`kto_rows`.
    """
    if one.chosen is None or one.rejected is None:
        raise DataError(f"{one.id}: a thumb without a partner is no pair; export it with --format kto")
    return _prompt(one) | {"chosen": [_message(one.chosen)], "rejected": [_message(one.rejected)]}


def kto_rows(one: Preference) -> Iterator[dict[str, Any]]:
    """``{"prompt", "completion", "label"}``: a row per side."""
    for message, label in ((one.chosen, True), (one.rejected, False)):
        if message is not None:
            yield _prompt(one) | {"completion": [_message(message)], "label": label}


def _prompt(one: Preference) -> dict[str, Any]:
    row: dict[str, Any] = {"prompt": [_message(message) for message in one.prompt.messages]}
    if one.prompt.tools:  # as text: Arrow fills the missing keys of mappings with nulls
        row["tools"] = json.dumps([dict(tool) for tool in one.prompt.tools], ensure_ascii=False)
    return row


def _message(message: Message) -> dict[str, Any]:
    row: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name is not None:
        row["name"] = message.name
    if message.tool_calls:
        row["tool_calls"] = [{"type": "function", "function": dict(call)} for call in message.tool_calls]
    return row
