"""Is a fact told? Numbers, dates and spellings are compared by what they mean, in English and Chinese.

A text becomes a row of tokens: numbers by value (``1,299.00`` is ``1299`` is ``$1,299``; ``five`` is 5, ``三天`` is 3 天), dates by day
(``5 March 2024``, ``2024-03-05`` and ``2024年3月5日`` are one), words in lower case, Chinese characters. A fact is told where its
tokens stand in the text one after the other. Signs of numbers, currency signs and other punctuation are not looked at.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from agentft.evaluate.numbers import numbers
from agentft.text import CJK

Day = tuple[int | None, int, int]  # year (None: not said), month, day


class Token(NamedTuple):
    """``kind``: ``word``, ``number`` or ``date``. A date that can be read in two ways (03/05/2024) has both."""

    kind: str
    value: str | Fraction | frozenset[Day]


_NAMES = "january february march april may june july august september october november december".split()  # noqa: SIM905
_MONTHS = {name[:length]: number for number, name in enumerate(_NAMES, 1) for length in (3, len(name))} | {"sept": 9}
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_ORDINAL = r"(?:st|nd|rd|th)?"
_ZH_NUMERAL = "[零〇一二两三四五六七八九十百千万亿]"
_TOKEN = re.compile(
    rf"""
      (?<![\d.])(?P<y>\d{{4}})(?:[-/.]|年)(?P<m>\d{{1,2}})(?:[-/.]|月)(?P<d>\d{{1,2}})(?!\d)[日号]?
    | (?<![\d./-])(?P<n1>\d{{1,2}})[/.-](?P<n2>\d{{1,2}})[/.-](?P<ny>\d{{4}})(?!\d)
    | (?<!\d)(?P<zm>\d{{1,2}})月(?P<zd>\d{{1,2}})[日号]
    | (?<![\w.])(?P<ed>\d{{1,2}}){_ORDINAL}\s+(?:of\s+)?(?P<em>{_MONTH})\b\.?(?:,?\s+(?P<ey>\d{{4}})\b(?![,.]\d))?
    | \b(?P<am>{_MONTH})\b\.?\s+(?P<ad>\d{{1,2}}){_ORDINAL}\b(?![,.:]\d)(?:,?\s+(?P<ay>\d{{4}})\b(?![,.]\d))?
    | (?P<code>(?:[a-z]+\d|\d+[a-z]+\d)[a-z\d]*)
    | (?P<number>\d{{1,3}}(?:,\d{{3}})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?)(?P<large>[万亿])?
    | (?P<zh>{_ZH_NUMERAL}+)
    | (?P<percent>%)
    | (?P<word>[^\W\d_{CJK}]+(?:'[^\W\d_{CJK}]+)*)
    | (?P<cjk>[{CJK}])
    """,
    re.VERBOSE,
)
_LARGE = {"万": 10_000, "亿": 100_000_000}
_LONGEST_NUMBER = 12  # digits; what is longer is a card, a tracking number ...


def told(fact: str, text: str) -> bool:
    """Whether ``text`` says ``fact``.

    Words may be inflected at their ends where the fact is one plain phrase (``refund`` is found in ``refunded``); short words and
    numbers must stand alone, so that ``5`` is not found in ``15`` nor ``no`` in ``know``.
    """
    wanted, said = tokens(fact), tokens(text)
    if not wanted:
        return False
    width = len(wanted)
    if any(all(map(_same, wanted, said[start : start + width])) for start in range(len(said) - width + 1)):
        return True
    if any(token.kind != "word" for token in wanted) or len(str(wanted[0].value)) < (4 if str(wanted[0].value).isascii() else 1):
        return False
    return " ".join(str(token.value) for token in wanted) in " ".join(str(token.value) for token in said)


def missing(groups: Iterable[Sequence[str]], text: str) -> list[str]:
    """The groups of alternatives of which ``text`` tells none, each by its first alternative."""
    return [str(group[0]) for group in groups if group and not any(told(str(one), text) for one in group)]


@lru_cache(maxsize=512)
def tokens(text: str) -> tuple[Token, ...]:
    """``text`` as comparable tokens."""
    flat = unicodedata.normalize("NFKC", text).casefold().replace("’", "'").replace("‑", "-").replace("–", "-")
    flat = _in_digits(flat)
    return tuple(_token(match, flat) for match in _TOKEN.finditer(flat))


def _same(left: Token, right: Token) -> bool:
    if left.kind != right.kind:
        return False
    if left.kind != "date":
        return left.value == right.value
    assert isinstance(left.value, frozenset) and isinstance(right.value, frozenset)
    return any(one[1:] == two[1:] and (one[0] == two[0] or None in (one[0], two[0])) for one in left.value for two in right.value)


def _token(match: re.Match[str], text: str) -> Token:
    found = match.groupdict()
    for year, month, day in (("y", "m", "d"), ("", "zm", "zd"), ("ey", "em", "ed"), ("ay", "am", "ad")):
        if found[day] is not None:
            named = found[month]
            return _date([(found[year] if year else None, _MONTHS.get(named) or int(named), int(found[day]))])
    if found["ny"] is not None:
        first, second = int(found["n1"]), int(found["n2"])
        return _date([(found["ny"], first, second), (found["ny"], second, first)])
    if (digits := found["number"]) is not None:
        if len(digits.partition(".")[0].replace(",", "")) > _LONGEST_NUMBER or (
            digits.startswith("0") and digits.isdigit() and len(digits) > 1
        ):
            return Token("word", digits)  # a code: 007 is not 7
        return Token("number", Fraction(digits.replace(",", "")) * _LARGE.get(found["large"] or "", 1))
    if (numeral := found["zh"]) is not None:
        value = next((one.value for one in numbers(numeral + text[match.end() :][:1]) if one.text == numeral), None)
        return Token("word", numeral) if value is None else Token("number", value)
    if found["percent"]:
        return Token("word", "percent")
    return Token("word", match.group(0))


def _date(readings: Iterable[tuple[str | None, int, int]]) -> Token:
    return Token("date", frozenset((int(year) if year else None, month, day) for year, month, day in readings if month <= 12 and day <= 31))


def _in_digits(text: str) -> str:
    """English number words as digits; ``one`` stays, it is a pronoun more often than a number."""
    pieces, done = [], 0
    for number in numbers(text):
        if not number.text.isascii() or number.digits or number.text == "one":
            continue
        found = re.compile(rf"\b{re.escape(number.text)}\b").search(text, done)
        if found:
            pieces += [text[done : found.start()], str(number.value)]
            done = found.end()
    return "".join([*pieces, text[done:]])
