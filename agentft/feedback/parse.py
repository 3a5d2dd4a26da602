"""Reading what a judge wrote. What cannot be read is None: it is counted, and never guessed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

Choice = Literal["first", "second", "tie"]

_YES = re.compile(r"yes|pass(?:ed|es)?|true|ok|是|对|符合|通过|满足", re.IGNORECASE)
_NO = re.compile(r"no|fail(?:ed|s)?|false|否|不是|不对|不符合|未通过|不满足", re.IGNORECASE)
_NA = re.compile(r"n\.?/?a\.?|not applicable|不适用", re.IGNORECASE)
_LINE = re.compile(r"^[\s\-*•>#\d.)]*[`\"'“]?(?P<item>[a-z0-9][a-z0-9-]*)[`\"'”]?\s*[:：=]\s*(?P<rest>.+)$", re.IGNORECASE)
_NOUN = "reply|answer|response|one|回答|答案"
_MARKS = r"[\[(\"'“「*_]*"
_PAIR = re.compile(
    # "Reply A ...", "the better one is B ..."
    rf"^\W*(?=the\b|better|best|winn|{_NOUN})(?:the\s+)?(?:(?:better|best|winn\w+)\s*)?(?:(?:{_NOUN})\s*)?(?:(?:is|:)\s*)?{_MARKS}(?P<named>A|B)\b"
    # "A", "[[B]]", "B: because ...", "A is better"; not "A lot depends"
    rf"|^\W*{_MARKS}(?P<bare>A|B)(?=\W*$|[\])\"'”」*_]*[.:,;，。：\-–—]|\s+(?:is|wins|because)\b)"
    rf"|^\W*{_MARKS}(?P<tie>tie|neither|both|equal|平局|一样|相同)\W*$",
    re.IGNORECASE,
)


def parse_items(text: str, items: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Item -> (``pass`` / ``fail`` / ``n.a.``, evidence) for every item that has a readable line.

    A line is ``item: yes | evidence``. An item that is named twice with different answers is left out.
    """
    known = {item.lower(): item for item in items}
    found: dict[str, tuple[str, str]] = {}
    twice: set[str] = set()
    for line in text.splitlines():
        match = _LINE.match(line)
        item = known.get(match["item"].lower()) if match else None
        if match is None or item is None:
            continue
        answer, _, evidence = match["rest"].partition("|")
        verdict = _verdict(answer)
        if verdict is None:
            continue
        if item in found and found[item][0] != verdict:
            twice.add(item)
        found.setdefault(item, (verdict, evidence.strip().strip("\"'“”")))
    return {item: value for item, value in found.items() if item not in twice}


def _verdict(answer: str) -> str | None:
    """The verdict that ``answer`` begins with."""
    word = answer.strip().strip("*_`\"'“”[]() ")
    for verdict, pattern in (("n.a.", _NA), ("fail", _NO), ("pass", _YES)):
        match = pattern.match(word)
        # "nothing" is no "no", and "yesterday" no "yes".
        if match and not re.match(r"[a-z]", word[match.end() :], re.IGNORECASE):
            return verdict
    return None


def parse_pair(text: str) -> Choice | None:
    """Which of two replies a judge prefers, from the beginning of what it wrote, or from its last line alone."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    for line in lines[:1] + lines[-1:]:
        match = _PAIR.match(line.strip())
        if match:
            letter = (match["named"] or match["bare"] or "").upper()
            return "first" if letter == "A" else "second" if letter == "B" else "tie"
    return None
