"""Two texts side by side with the words marked that differ; a Chinese character is a word."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence

from agentft.text import CJK

# Single CJK characters, numbers, words, single marks. White space belongs to the word before it, so that it never differs by itself.
_WORD = re.compile(rf"([{CJK}]|\d+(?:[.,:]\d+)+|[^\W_{CJK}]+(?:['’][^\W_{CJK}]+)*|\S)(\s*)")
# Comparing takes about as long as there are pairs of equal words. A model that repeats itself makes millions of them.
MOST_MATCHES = 100_000

Piece = tuple[str, bool]
Run = tuple[bool, int, int, int, int]


def marked(before: str, after: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts as (text, differs) pieces; joined, the pieces are the texts.

    Upper and lower case differ, white space does not. What lies between two changes and is no more than a mark, a word of up to
    three letters or one Chinese character counts as changed too: single words that happen to be equal make a text unreadable.
    """
    left, right = _WORD.findall(before), _WORD.findall(after)
    one = [word for word, _ in left]
    runs = _calmed(_runs(one, [word for word, _ in right]), one)
    return (
        _pieces(before, left, [(same, i, j) for same, i, j, _, _ in runs]),
        _pieces(after, right, [(same, k, m) for same, _, _, k, m in runs]),
    )


def _runs(one: Sequence[str], other: Sequence[str]) -> list[Run]:
    """``(same, i, j, k, m)``: words ``i:j`` of one text stand against words ``k:m`` of the other."""
    shorter = min(len(one), len(other))
    start = next((n for n in range(shorter) if one[n] != other[n]), shorter)
    rest = shorter - start
    end = next((n for n in range(rest) if one[-1 - n] != other[-1 - n]), rest)
    middle, against = one[start : len(one) - end], other[start : len(other) - end]
    counts, others = Counter(middle), Counter(against)
    if sum(n * others[word] for word, n in counts.items()) > MOST_MATCHES:
        codes = [("replace", 0, len(middle), 0, len(against))]
    else:
        codes = list(difflib.SequenceMatcher(None, middle, against, autojunk=False).get_opcodes())
    found = [(kind == "equal", start + i, start + j, start + k, start + m) for kind, i, j, k, m in codes]
    return [(True, 0, start, 0, start), *found, (True, len(one) - end, len(one), len(other) - end, len(other))]


def _calmed(runs: Sequence[Run], words: Sequence[str]) -> list[Run]:
    """Small equal runs between two changes become part of the change."""
    runs = [run for run in runs if run[1] < run[2] or run[3] < run[4]]
    found = []
    for index, (same, i, j, k, m) in enumerate(runs):
        between = 0 < index < len(runs) - 1
        found.append((same and not (between and _small(words[i:j])), i, j, k, m))
    return found


def _small(words: Sequence[str]) -> bool:
    letters = [word for word in words if any(char.isalnum() for char in word)]
    return not letters or (len(letters) == 1 and len(letters[0]) <= 3 and not letters[0][0].isdigit())


def _pieces(text: str, words: Sequence[tuple[str, str]], runs: Sequence[tuple[bool, int, int]]) -> list[Piece]:
    pieces: list[Piece] = []
    _add(pieces, text[: len(text) - len(text.lstrip())], False)
    differing = ""
    for same, i, j in runs:
        passage = "".join(word + space for word, space in words[i:j])
        if not same:
            differing += passage
            continue
        if passage:
            differing = _close(pieces, differing)
        _add(pieces, passage, False)
    _close(pieces, differing)
    return pieces


def _close(pieces: list[Piece], differing: str) -> str:
    """Adds a marked passage, the white space at its end unmarked."""
    body = differing.rstrip()
    _add(pieces, body, True)
    _add(pieces, differing[len(body) :], False)
    return ""


def _add(pieces: list[Piece], text: str, differs: bool) -> None:
    if not text:
        return
    if pieces and pieces[-1][1] == differs:
        pieces[-1] = (pieces[-1][0] + text, differs)
    else:
        pieces.append((text, differs))
