"""Numbers in running text by value, so that ``1,200``, ``twelve hundred`` and ``一千二百`` are one number.

For evaluators that compare what an answer says with what is known. Reads digits (thousands commas, decimals, fractions,
signs, 万 and 亿), English number words up to the millions and Chinese numerals. Does not read Roman numerals, "a dozen",
"half", ordinal words, or a single Chinese numeral without a measure word ("一起" is no number); a percentage and a price
are their figure.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

_UNITS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SMALL = {word: value for value, word in enumerate(_UNITS)} | {word: 10 * value for value, word in enumerate(_TENS, 2)}
_LARGE = {"hundred": 100, "thousand": 1000, "million": 1_000_000}
_BELOW_100 = rf"(?:(?:{'|'.join(_TENS)})(?:[\s-](?:{'|'.join(_UNITS[1:10])}))?|{'|'.join(sorted(_UNITS, key=len, reverse=True))})"
_SCALE = f"(?:{'|'.join(_LARGE)})"
_WORDS_RE = re.compile(rf"\b(?:{_BELOW_100}|{_SCALE})\b(?:\s+{_SCALE}\b(?:\s+(?:and\s+)?{_BELOW_100}\b)?)*", re.IGNORECASE)

_DIGITS_RE = re.compile(
    r"(?P<sign>(?<![\w)\]])[-−])?(?<![A-Za-z_\d^])(?P<whole>\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?P<decimals>\.\d+)?"
    r"(?:/(?P<below>\d+)(?!\d|[/.]\d))?(?P<large>[万亿])?"
)
# A clock time is its hour and its minutes, however it is written: 7.30 pm, 7:30pm, 7点30.
_TIME_RE = re.compile(r"(?<![\d.:])(\d{1,2})(?::(\d{2})(?!\d)|\.(\d{2})(?=\s?[ap]\.?m\b))", re.IGNORECASE)

_DATE_RE = re.compile(r"\d+(?:/\d+){2,}")

_ZH_DIGIT = {c: v for v, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_ZH_UNIT = {"十": 10, "百": 100, "千": 1000}
_ZH_LARGE = {"万": 10_000, "亿": 100_000_000}
_ZH_RE = re.compile("[零〇一二两三四五六七八九十百千万亿]+")
_MEASURE = "个只本元块位名次天日月号年岁点人件条张页分秒米斤公里杯瓶辆间层家组道盒支棵袋朵颗双句行段题步"
_NARROW = str.maketrans("０１２３４５６７８９．，／－：", "0123456789.,/-:")
_VULGAR_RE = re.compile("[¼½¾⅐-⅞]")


@dataclass(frozen=True)
class Number:
    """A number of a text: its exact value and how it was written there."""

    value: Fraction
    text: str

    @property
    def digits(self) -> bool:
        """Whether it was written with digits."""
        return any(character.isdigit() and character.isascii() for character in self.text)


def numbers(text: str) -> list[Number]:
    """Every number of ``text``: first those in digits, then English number words, then Chinese numerals."""
    plain = _VULGAR_RE.sub(lambda m: " " + unicodedata.normalize("NFKC", m[0]).replace("⁄", "/"), text.translate(_NARROW))
    plain = _DATE_RE.sub(lambda m: m[0].replace("/", " "), plain)
    plain = _TIME_RE.sub(lambda m: f"{m[1]} {m[2] or m[3]}", plain)
    found = [Number(_digits(match), match.group(0).strip()) for match in _DIGITS_RE.finditer(plain)]
    found += [Number(Fraction(_english(match.group(0))), match.group(0)) for match in _WORDS_RE.finditer(plain)]
    for match in _ZH_RE.finditer(plain):
        before, after = plain[: match.start()][-1:], plain[match.end() :][:1]
        value = _chinese(match.group(0))
        counted = len(match.group(0)) > 1 or (
            bool(after) and after in _MEASURE and (match.group(0) + after) not in ("十分", "一点", "万分")
        )
        if value is not None and counted and not before.isdigit():
            found.append(Number(Fraction(value), match.group(0)))
    return found


def values(text: str) -> set[Fraction]:
    """The values of :func:`numbers`."""
    return {number.value for number in numbers(text)}


def _digits(match: re.Match[str]) -> Fraction:
    value = Fraction(match["whole"].replace(",", "") + (match["decimals"] or ""))
    if match["below"] and int(match["below"]):
        value /= int(match["below"])
    return value * _ZH_LARGE.get(match["large"] or "", 1) * (-1 if match["sign"] else 1)


def _english(text: str) -> int:
    total, current = 0, 0
    for word in re.findall(r"[a-z]+", text.lower()):
        if word in _SMALL:
            current += _SMALL[word]
        elif word == "hundred":
            current = max(1, current) * 100
        elif word in _LARGE:
            total += max(1, current) * _LARGE[word]
            current = 0
    return total + current


def _chinese(text: str) -> int | None:
    """Value of a numeral, None for a run of characters that is none (万一, 千万)."""
    if text in ("万一", "千万", "百万", "一一", "十万", "万", "亿", "千", "百"):
        return {"百万": 1_000_000, "十万": 100_000}.get(text)
    if all(character in _ZH_DIGIT for character in text) and len(text) > 1:
        return int("".join(str(_ZH_DIGIT[c]) for c in text)) if len(text) > 2 else None  # 二〇二四; but 三四 is "three or four"
    total = section = digit = 0
    for character in text:
        if character in _ZH_DIGIT:
            digit = _ZH_DIGIT[character]
        elif character in _ZH_UNIT:
            section += max(1, digit) * _ZH_UNIT[character]
            digit = 0
        else:
            total += max(1, section + digit) * _ZH_LARGE[character]
            section = digit = 0
    return total + section + digit
