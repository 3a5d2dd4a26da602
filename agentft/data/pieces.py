"""Texts cut to a length: at paragraphs where that is enough, else at sentences, and inside of one only where there is no other way."""

from __future__ import annotations

import re
from collections.abc import Iterator

from agentft.text import sentence_ends, words

_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")


def cut(text: str, max_words: int) -> Iterator[tuple[int, str]]:
    """``text`` in pieces of at most ``max_words`` words (a Chinese character is a word), each with its place in ``text``.

    Nothing but white space between two pieces is lost.
    """
    start, count, end = 0, 0, 0
    for at, stop in _units(text, max_words):
        new = len(words(text[at:stop]))
        # The parts of a paragraph that is too long do not join its neighbours' pieces half-way: what fits goes in.
        if count and count + new > max_words:
            yield from _piece(text, start, end)
            start, count = at, 0
        count, end = count + new, stop
    yield from _piece(text, start, end)


def _piece(text: str, start: int, end: int) -> Iterator[tuple[int, str]]:
    piece = text[start:end]
    if piece.strip():
        yield start + len(piece) - len(piece.lstrip()), piece.strip()


def _units(text: str, max_words: int) -> Iterator[tuple[int, int]]:
    """Places of the smallest parts that need not be cut: paragraphs, sentences, or runs of words."""
    for start, end in _spans(0, len(text), [found.end() for found in _PARAGRAPH.finditer(text)]):
        if len(words(text[start:end])) <= max_words:
            yield start, end
            continue
        for at, stop in _spans(start, end, [start + place for place in sentence_ends(text[start:end])]):
            if len(words(text[at:stop])) <= max_words:
                yield at, stop
            else:
                yield from _spans(at, stop, _word_places(text, at, stop, max_words))


def _word_places(text: str, start: int, end: int, max_words: int) -> list[int]:
    """Where to cut a sentence that is too long: before every ``max_words``-th word."""
    places, at = [], start
    for index, word in enumerate(words(text[start:end])):
        at = text.index(word, at)
        if index and index % max_words == 0:
            places.append(at)
        at += len(word)
    return places


def _spans(start: int, end: int, places: list[int]) -> Iterator[tuple[int, int]]:
    for place in [*places, end]:
        if place > start:
            yield start, place
            start = place
