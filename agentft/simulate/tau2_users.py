"""Users of tau2-bench's tasks. In the original a large model plays them; the scripted one here is an approximation that needs none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from agentft.environments import UserTurn
from agentft.records import Message

_AGREES = "Yes, please go ahead."
_LEAVES = "Thank you, that is all. Goodbye."


def scenario(row: Mapping[str, Any]) -> str:
    """The whole scenario of a task, for a model that plays the user."""
    about = row.get("user_scenario") or {}
    instructions = about.get("instructions") or ""
    if isinstance(instructions, Mapping):
        titles = {
            "reason_for_call": "Why you call",
            "known_info": "What you know",
            "unknown_info": "What you do not know",
            "task_instructions": "How you behave",
        }
        instructions = "\n".join(f"{title}: {instructions[key]}" for key, title in titles.items() if instructions.get(key))
    return "\n".join(part for part in (about.get("persona") and f"Who you are: {about['persona']}", instructions) if part)


class Caller:
    """Says why it calls, then what it knows about itself, agrees to what it is asked, and leaves once it is asked nothing more.

    Args:
        row: a task of tau2-bench.
        patience: answers that it gives at most.
    """

    def __init__(self, row: Mapping[str, Any], patience: int) -> None:
        instructions = (row.get("user_scenario") or {}).get("instructions") or ""
        if isinstance(instructions, str):
            instructions = {"reason_for_call": instructions}
        self._reason = in_first_person(instructions.get("reason_for_call") or "")
        # Who the user is and what it does not know are said in one breath: a script cannot tell which of them was asked for.
        known = [instructions.get("known_info"), instructions.get("unknown_info")]
        self._about = " ".join(in_first_person(text) for text in known if text)
        self._patience = patience
        self._opened = False

    def opens(self) -> UserTurn:
        self._opened = True
        return UserTurn(self._reason)

    def answers(self, conversation: Sequence[Message]) -> UserTurn:
        if not self._opened:  # the conversation was under way already
            return self.opens()
        if self._patience == 0:
            return UserTurn(_LEAVES, done=True)
        self._patience -= 1
        if self._about:
            about, self._about = self._about, ""
            return UserTurn(about)
        return UserTurn(_AGREES) if _asks(conversation[-1].content) else UserTurn(_LEAVES, done=True)


def _asks(text: str) -> bool:
    return "?" in text or "confirm" in text.lower()


# You and your, as the scenarios have them, to I and my. Longer ones first.
_PERSONS = [
    (r"\byou are\b", "I am"),
    (r"\byou're\b", "I'm"),
    (r"\byou were\b", "I was"),
    (r"\b(for|to|with|from|of|at|by|about|give|send|tell|help|let) you\b", r"\1 me"),
    (r"\byourself\b", "myself"),
    (r"\byours\b", "mine"),
    (r"\byour\b", "my"),
    (r"\byou\b", "I"),
]


def in_first_person(text: str) -> str:
    """``You want your money back.`` -> ``I want my money back.`` A rough change of words, not of grammar."""
    for pattern, replacement in _PERSONS:
        text = re.sub(pattern, replacement, text, flags=re.IGNORECASE)
    return re.sub(r"(^|[.!?]\s+)(my|mine|myself)\b", lambda found: found[1] + found[2].capitalize(), text).strip()
