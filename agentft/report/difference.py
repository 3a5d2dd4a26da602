"""Two texts side by side with the words marked that differ; a Chinese character is a word."""

from __future__ import annotations

import difflib
import re

from agentft.text import CJK

# Words, single CJK characters, runs of white space, single marks: joined again they are the text.
_TOKEN = re.compile(rf"[{CJK}]|[^\W_{CJK}]+(?:['’][^\W_{CJK}]+)*|\s+|.", re.DOTALL)

Piece = tuple[str, bool]


def marked(before: str, after: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts as (text, differs) pieces. What is equal but for upper and lower case counts as different; white space does not."""
    one, other = _TOKEN.findall(before), _TOKEN.findall(after)
    matcher = difflib.SequenceMatcher(None, one, other, autojunk=False)
    left: list[Piece] = []
    right: list[Piece] = []
    for kind, i, j, k, m in matcher.get_opcodes():
        _add(left, "".join(one[i:j]), kind != "equal")
        _add(right, "".join(other[k:m]), kind != "equal")
    return _joined(left), _joined(right)


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Marked words with nothing but space between them become one marked passage."""
    result: list[Piece] = []
    for index, (text, differs) in enumerate(pieces):
        between = text.isspace() and 0 < index < len(pieces) - 1 and pieces[index - 1][1] and pieces[index + 1][1]
        _add(result, text, differs or between, keep=True)
    return result


def _add(pieces: list[Piece], text: str, differs: bool, *, keep: bool = False) -> None:
    if not text:
        return
    differs = differs and (keep or not text.isspace())
    if pieces and pieces[-1][1] == differs:
        pieces[-1] = (pieces[-1][0] + text, differs)
    else:
        pieces.append((text, differs))
