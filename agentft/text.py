"""Splitting text into words and sentences, the same way for English and Chinese.

Everything that counts words (rules, lengths, ROUGE, distinct-2, readability) goes through here, so that "word"
means one thing in the whole product.
"""

from __future__ import annotations

import re

# Han, its extensions and the compatibility block. Kana and Hangul count too: they are written without spaces
# between the units that a length limit is about.
CJK = "㐀-䶿一-鿿豈-﫿぀-ヿ가-힯𠀀-𲎯"
_CJK_RE = re.compile(f"[{CJK}]")
# A word is one CJK character or a run of letters and digits that may be joined inside ("don't", "3.5", "e-mail").
_WORD_RE = re.compile(rf"[{CJK}]|[^\W_{CJK}]+(?:['’.,:/@-][^\W_{CJK}]+)*")
_LETTER_RE = re.compile(r"[^\W\d_]")
# Sentence ends: ASCII marks need a following space or the end (so that "3.5" and "e.g." inside do not always cut),
# fullwidth marks need nothing. Closing quotes and brackets belong to the sentence.
_SENTENCE_RE = re.compile(r"[^。！？!?.\n]*(?:(?:[.!?]+(?=[\"'”’)\]]*(?:\s|$))|[。！？]+)[\"'”’)\]」』]*|[.]|\n|$|[!?])")
_ABBREVIATION_RE = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|St|No|vs|e\.g|i\.e|etc|approx|a\.m|p\.m)|\b[A-Z])\.$", re.IGNORECASE)


def words(text: str) -> list[str]:
    """Words of ``text``; every CJK character is a word of its own."""
    return _WORD_RE.findall(text)


def sentences(text: str) -> list[str]:
    """Non-empty sentences of ``text``, stripped. A line break ends a sentence; common abbreviations do not."""
    result: list[str] = []
    open_part = ""
    for match in _SENTENCE_RE.finditer(text):
        piece = match.group(0)
        open_part += piece
        stripped = open_part.strip()
        closed = piece.endswith("\n") or bool(re.search(r"[.!?。！？][\"'”’)\]」』]*$", piece))
        inside_token = piece.endswith(".") and text[match.end() : match.end() + 1].strip() != ""
        if not closed or inside_token or (_ABBREVIATION_RE.search(stripped) and not _is_end(text, match.end())):
            continue
        if _has_content(stripped):
            result.append(stripped)
        elif stripped and result:
            result[-1] += stripped
        open_part = ""
    if _has_content(open_part):
        result.append(open_part.strip())
    return result


def _is_end(text: str, position: int) -> bool:
    rest = text[position:]
    return not rest.strip() or rest.lstrip(" ").startswith("\n")


def _has_content(piece: str) -> bool:
    return any(character.isalnum() for character in piece)


def cjk_share(text: str) -> float:
    """Share of the letters of ``text`` that are CJK, 0.0 when there are no letters."""
    letters = len(_LETTER_RE.findall(text))
    return len(_CJK_RE.findall(text)) / letters if letters else 0.0


def is_chinese(text: str) -> bool:
    """True when at least half of the letters are CJK."""
    return cjk_share(text) >= 0.5


def questions(text: str) -> int:
    """Number of question marks, a run such as ``??`` counted once."""
    return len(re.findall(r"[?？]+", text))


def shingles(text: str) -> frozenset[str]:
    """Character n-grams for near-duplicate search: 5 characters, 3 where the text is Chinese.

    Chinese words are one to three characters long, so that 5-character shingles miss short duplicates.
    """
    flat = " ".join(text.lower().split())
    size = 3 if is_chinese(flat) else 5
    return frozenset(flat[i : i + size] for i in range(max(1, len(flat) - size + 1)))


def near_duplicate_share(texts: list[str], threshold: float = 0.8) -> float:
    """Share of ``texts`` whose Jaccard similarity with another one is at least ``threshold``.

    Exact and quadratic: meant for the few hundred rows of a plugin's own data, not for a corpus.
    """
    sets = [shingles(text) for text in texts]
    duplicate: set[int] = set()
    for i, left in enumerate(sets):
        for j in range(i + 1, len(sets)):
            right = sets[j]
            if min(len(left), len(right)) < threshold * max(len(left), len(right)):
                continue
            common = len(left & right)
            if common >= threshold * (len(left) + len(right) - common):
                duplicate.update((i, j))
    return len(duplicate) / len(texts) if texts else 0.0
