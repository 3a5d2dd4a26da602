"""Small changes of a text that keep its meaning: the operations of the transform ``augment``.

Synonym replacement, random insertion, swap and deletion are EDA (Wei and Zou 2019, "EDA: Easy Data Augmentation Techniques for
Boosting Performance on Text Classification Tasks"); typing errors and changes of case are added. Where EDA would change what
is meant, we differ: numbers and negations are never touched, nor is anything that is not a plain word (links, placeholders).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from typing import Literal, get_args

from agentft.text import CJK, is_chinese

Operation = Literal["synonym", "insert", "swap", "delete", "typos", "case"]
OPERATIONS: tuple[str, ...] = get_args(Operation)
Synonyms = Callable[[str], list[str]]
# (text, share of the words to change, random numbers, synonyms) -> the changed text
_Change = Callable[[str, float, Random, Synonyms], str]

# A plain word with the punctuation around it.
_PLAIN = re.compile(r"([\"'“‘(]*)([^\W\d_]+(?:['’-][^\W\d_]+)*)([.,!?;:\"'”’)。，！？；：]*)")
_NEGATION = re.compile(
    r"(?:no|not|none|nor|never|nothing|nobody|neither|without|cannot|.*n['’]t"
    r"|(?:do|ca|wo|is|are|was|were|does|did|has|have|had|could|should|would)nt)",
    re.IGNORECASE,
)
_FUNCTION = frozenset(
    """
    a about after all an and any are as at be been before but by can could did do does for from had has have he her him his how i if in
    into is it its just like may me might more most must my of off on or our out over own please shall she
    should so some still than that the their them
    then there these they this those to too under up us very was we were what when where which who whom whose why will with would you
    yet your
    """.split()  # noqa: SIM905
)
# Chinese characters that carry the sense by themselves: negations, numerals and the measure of numbers.
_ZH_FIXED = frozenset("不没无未别勿非莫否零〇一二三四五六七八九十百千万亿两半几第元角分年月日号点")
_CJK = re.compile(f"[{CJK}]")
_HAN = re.compile("[㐀-䶿一-鿿]")
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def neighbours(letter: str) -> str:
    """Keys beside ``letter`` on a QWERTY keyboard, lower case; empty for what is no basic letter."""
    for row, keys in enumerate(_KEYS):
        if letter.lower() in keys and letter:
            place = keys.index(letter.lower())
            near = [(row, place - 1), (row, place + 1), (row - 1, place), (row - 1, place + 1), (row + 1, place - 1), (row + 1, place)]
            return "".join(_KEYS[r][p] for r, p in near if 0 <= r < len(_KEYS) and 0 <= p < len(_KEYS[r]))
    return ""


def apply(operation: str, text: str, rate: float, rng: Random, synonyms: Synonyms) -> str:
    """``text`` with about ``rate`` of its words changed, one at the least; the same text where the operation finds nothing to do.

    Chinese texts (at least half of the letters): ``swap`` exchanges two neighbouring characters and ``delete`` takes one out, never
    a numeral or a negation; ``synonym`` and ``insert`` find nothing; ``typos`` and ``case`` change Latin words in them.
    """
    if is_chinese(text):
        if operation in ("swap", "delete"):
            return _zh(operation, text, rate, rng)
        if operation in ("synonym", "insert"):
            return text
    return _CHANGES[operation](text, rate, rng, synonyms)


class _Words:
    """A text as words and what stands between them."""

    def __init__(self, text: str):
        self.pieces = re.split(r"(\s+)", text)

    def plain(self, least: int = 1, fixed: bool = True) -> list[int]:
        """Places of plain words of at least ``least`` letters that are no negation; without ``fixed`` no function words either."""
        found = []
        for place in range(0, len(self.pieces), 2):
            match = None if _CJK.search(self.pieces[place]) else _PLAIN.fullmatch(self.pieces[place])
            if match and len(match[2]) >= least and not _NEGATION.fullmatch(match[2]) and (fixed or match[2].lower() not in _FUNCTION):
                found.append(place)
        return found

    def core(self, place: int) -> str:
        match = _PLAIN.fullmatch(self.pieces[place])
        return match[2] if match else ""

    def put(self, place: int, word: str) -> None:
        match = _PLAIN.fullmatch(self.pieces[place])
        assert match is not None, "only plain words are replaced"
        self.pieces[place] = match[1] + word + match[3]

    def text(self) -> str:
        return "".join(self.pieces)


def _some(places: list[int], rate: float, rng: Random) -> list[int]:
    """A share of the places, one at the least, in their order."""
    return sorted(rng.sample(places, min(len(places), max(1, round(rate * len(places))))))


def _like(word: str, model: str) -> str:
    """``word`` with the capitals of ``model``."""
    if len(model) > 1 and model.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if model[:1].isupper() else word


def _synonym(text: str, rate: float, rng: Random, synonyms: Synonyms) -> str:
    words = _Words(text)
    able = [(place, found) for place in words.plain(3, fixed=False) if (found := synonyms(words.core(place)))]
    chosen = set(_some([place for place, _ in able], rate, rng)) if able else set()
    for place, found in able:
        if place in chosen:
            words.put(place, _like(rng.choice(found), words.core(place)))
    return words.text()


def _insert(text: str, rate: float, rng: Random, synonyms: Synonyms) -> str:
    words = _Words(text)
    able = [found for place in words.plain(3, fixed=False) if (found := synonyms(words.core(place)))]
    for _ in range(max(1, round(rate * len(words.plain()))) if able else 0):
        place = 2 * rng.randrange((len(words.pieces) + 1) // 2)
        words.pieces[place:place] = [rng.choice(rng.choice(able)), " "]
    return words.text()


def _swap(text: str, rate: float, rng: Random, synonyms: Synonyms) -> str:
    words = _Words(text)
    places = words.plain()
    for _ in range(max(1, round(rate * len(places))) if len(places) > 1 else 0):
        left, right = rng.sample(places, 2)
        first, second = words.core(left), words.core(right)
        words.put(left, second)
        words.put(right, first)
    return words.text()


def _delete(text: str, rate: float, rng: Random, synonyms: Synonyms) -> str:
    words = _Words(text)
    places = words.plain()
    if len(places) < 2:
        return text
    for place in _some(places, min(rate, 1 - 1 / len(places)), rng):
        match = _PLAIN.fullmatch(words.pieces[place])
        assert match is not None, "only plain words are deleted"
        # Punctuation stays with the word before; at the beginning there is none, and only what opens a quotation stays.
        words.pieces[place] = match[1] + match[3] if place else match[1]
        beside = place - 1 if place else 1
        if beside < len(words.pieces):
            words.pieces[beside] = ""
    return words.text() if text[:1].isspace() else words.text().lstrip()


def _typos(text: str, rate: float, rng: Random, synonyms: Synonyms) -> str:
    words = _Words(text)
    places = words.plain(4)
    for place in _some(places, rate, rng) if places else ():
        word = words.core(place)
        at = rng.randrange(1, len(word) - 1)  # the first letter is seldom mistyped
        kind = rng.choice(("neighbour", "swap", "leave out", "double"))
        near = neighbours(word[at])
        if kind == "neighbour" and near:
            new = rng.choice(near)
            word = word[:at] + (new.upper() if word[at].isupper() else new) + word[at + 1 :]
        elif kind == "swap" and word[at] != word[at + 1]:
            word = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        elif kind == "leave out":
            word = word[:at] + word[at + 1 :]
        else:
            word = word[:at] + word[at] + word[at:]
        words.put(place, word)
    return words.text()


def _case(text: str, rate: float, rng: Random, synonyms: Synonyms) -> str:
    words = _Words(text)
    able = [place for place in words.plain() if words.core(place).lower() != words.core(place).upper()]
    for place in _some(able, rate, rng) if able else ():
        word = words.core(place)
        forms = [form for form in (word.lower(), word.upper(), word.capitalize()) if form != word and len(form) == len(word)]
        if forms:
            words.put(place, rng.choice(forms))
    return words.text()


def _zh(operation: str, text: str, rate: float, rng: Random) -> str:
    characters = list(text)
    free = [place for place, one in enumerate(characters) if _HAN.match(one) and one not in _ZH_FIXED]
    if operation == "delete":
        # A character beside a digit is its unit (5公斤), and one more than half of a short text would be too much.
        free = [place for place in free if not (place and characters[place - 1].isdigit())]
        if len(free) < 3:
            return text
        gone = set(_some(free, min(rate, 0.5), rng))
        return "".join(one for place, one in enumerate(characters) if place not in gone)
    pairs = [place for place in free if place + 1 in set(free) and characters[place] != characters[place + 1]]
    last = -2
    for place in _some(pairs, rate, rng) if pairs else ():
        if place > last + 1:  # no character is moved twice
            characters[place], characters[place + 1] = characters[place + 1], characters[place]
            last = place
    return "".join(characters)


_CHANGES: dict[str, _Change] = {
    "synonym": _synonym,
    "insert": _insert,
    "swap": _swap,
    "delete": _delete,
    "typos": _typos,
    "case": _case,
}
