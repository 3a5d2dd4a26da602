"""Reading JSON-plain data that may have holes, and writing numbers the way a reader expects them.

A report is made from whatever a run left behind, an interrupted run included. The readers here turn "absent, null,
NaN or of another type" into one thing, None or empty, so that the pages never guess and never fail on a hole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

ABSENT = "–"
MINUS = "−"
NBSP = "\u00a0"  # between a number and % or pp, so that a line never ends between them

# C0 controls (but tab and newline), DEL and C1 would be dropped or mangled by a browser or a terminal.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def mapping(value: Any) -> Mapping[str, Any]:
    """``value`` if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def rows(value: Any) -> list[Mapping[str, Any]]:
    """The mappings in a list; an empty list for anything else."""
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, Sequence) and not isinstance(value, str) else []


def strings(value: Any) -> list[str]:
    """The list as texts; a bare string is a list of one."""
    if isinstance(value, str):
        return [value] if value else []
    return [string(one) for one in value if one is not None] if isinstance(value, Sequence) else []


def string(value: Any, default: str = "") -> str:
    """``value`` as text, ``default`` for None."""
    return default if value is None else value if isinstance(value, str) else str(value)


def number(value: Any) -> float | None:
    """A finite number, else None (null, NaN, infinity, text, truth values, and what is too large to be a measurement)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if abs(value) < 1e300 else None


def pair(value: Any) -> tuple[float, float] | None:
    """A ``[low, high]`` interval of finite numbers, else None."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        return None
    low, high = number(value[0]), number(value[1])
    return None if low is None or high is None else (min(low, high), max(low, high))


def both(first: Any, second: Any) -> tuple[float, float] | None:
    """Two finite numbers in the given order, or None."""
    one, two = number(first), number(second)
    return None if one is None or two is None else (one, two)


def counts(value: Any) -> list[tuple[str, int]]:
    """``{reason: count}`` as pairs, most frequent first, zero counts left out."""
    pairs = [(string(key), int(n)) for key, raw in mapping(value).items() if (n := number(raw))]
    return sorted(pairs, key=lambda one: (-one[1], one[0]))


def printable(text: str) -> str:
    """``text`` with control characters made visible and lone surrogates replaced, so that it can be shown and saved."""
    text = _CONTROL.sub(
        lambda found: chr(0x2400 + ord(found.group(0))) if ord(found.group(0)) < 0x20 else "\ufffd", text.replace("\r\n", "\n")
    )
    return _SURROGATE.sub("\ufffd", text)


def integer(value: Any) -> str:
    """``12,345`` or a dash."""
    n = number(value)
    return ABSENT if n is None else f"{n:,.0f}".replace("-", MINUS)


def seconds(value: Any) -> str:
    """A duration: ``0.4 s``, ``12 s``, ``3 min 05 s``, ``2 h 10 min`` or a dash."""
    n = number(value)
    if n is None or n < 0:
        return ABSENT
    if n < 9.95:
        return f"{n:.1f} s"
    whole = round(n)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def decimals(value: float) -> str:
    """About three significant digits, without an exponent where a reader would stumble over one."""
    length = abs(value)
    if length and (length < 0.001 or length >= 1e9):
        return f"{value:.2e}".replace("-", MINUS)
    places = 0 if length >= 100 else 1 if length >= 10 else 2 if length >= 1 else 3
    shown = f"{value:,.{places}f}"
    return (shown if float(shown.replace(",", "")) else shown.lstrip("-")).replace("-", MINUS)


def amount(value: float | None, unit: str) -> str:
    """A level of a metric: a ``share`` as percent, anything else with its unit (``points`` stays bare)."""
    if value is None:
        return ABSENT
    if unit == "share":
        return f"{_fixed(100 * value)}{NBSP}%"
    return _with_unit(_in(value, unit), unit)


def change(value: float | None, unit: str) -> str:
    """A difference, always with its sign; differences of shares are in percentage points (``pp``)."""
    if value is None:
        return ABSENT
    shown = f"{_fixed(100 * value)}{NBSP}pp" if unit == "share" else _with_unit(_in(value, unit), unit)
    # Nothing but zeros after rounding: a sign in front of it would only confuse.
    return f"+{shown}" if value > 0 and any(digit in shown for digit in "123456789") else shown


def interval(bounds: tuple[float, float] | None, unit: str, *, signed: bool = False) -> str:
    """``[12.0, 15.5]`` in the metric's unit, without repeating the unit; a dash if there is none."""
    if bounds is None:
        return ABSENT
    shown = [change(bound, unit) if signed else amount(bound, unit) for bound in bounds]
    bare = [one.replace(NBSP, " ").split(" ")[0] for one in shown]
    return f"[{bare[0]}, {bare[1]}]"


def size(value: float | None, unit: str) -> str:
    """A difference in words for a sentence, without a sign: ``26.1 percentage points``, ``3.2 words``."""
    if value is None:
        return ABSENT
    length = abs(value)
    if unit == "share":
        return f"{_fixed(100 * length)} percentage points"
    return f"{_fixed(length)} points" if unit == "points" else _with_unit(decimals(length), unit)


def _fixed(value: float) -> str:
    if abs(value) >= 1e9:
        return decimals(value)
    shown = f"{value:,.1f}"
    return (shown if float(shown.replace(",", "")) else shown.lstrip("-")).replace("-", MINUS)


def _in(value: float, unit: str) -> str:
    # One decimal on a 0-100 scale, so that a column of them lines up.
    return _fixed(value) if unit == "points" else decimals(value)


def _with_unit(shown: str, unit: str) -> str:
    return shown if unit in ("", "points", "none", "ratio") else f"{shown} {unit}"
