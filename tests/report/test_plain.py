"""Numbers as a reader expects them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentft.report import plain


@pytest.mark.parametrize(
    ("value", "unit", "level", "difference"),
    [
        (0.612, "share", "61.2\u00a0%", "+61.2\u00a0pp"),
        (-0.02, "share", "−2.0\u00a0%", "−2.0\u00a0pp"),
        (-0.0001, "share", "0.0\u00a0%", "0.0\u00a0pp"),
        (0.0001, "share", "0.0\u00a0%", "0.0\u00a0pp"),
        (9.87, "points", "9.9", "+9.9"),
        (47.9, "words", "47.9 words", "+47.9 words"),
        (-3.1, "", "−3.10", "−3.10"),
        (12345.0, "", "12,345", "+12,345"),
        (0.00002, "", "2.00e−05", "+2.00e−05"),
        (0.0, "", "0.000", "0.000"),
        (None, "share", "–", "–"),
    ],
)
def test_levels_and_differences(value: float | None, unit: str, level: str, difference: str) -> None:
    assert plain.amount(value, unit) == level
    assert plain.change(value, unit) == difference


def test_an_interval_names_no_unit() -> None:
    assert plain.interval((-0.033, 0.089), "share", signed=True) == "[−3.3, +8.9]"
    assert plain.interval((1.0, 2.5), "words") == "[1.00, 2.50]"
    assert plain.interval(None, "share") == "–"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.04, "0.0 s"), (9.4, "9.4 s"), (59.9, "1 min 00 s"), (438.6, "7 min 19 s"), (7800, "2 h 10 min"), (-1, "–"), ("x", "–")],
)
def test_durations(value: Any, shown: str) -> None:
    assert plain.seconds(value) == shown


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, True, "3", [1], {}, 10**400])
def test_what_is_no_finite_number_is_none(value: Any) -> None:
    assert plain.number(value) is None


@given(st.floats() | st.integers() | st.none())
def test_any_number_can_be_shown(value: float | None) -> None:
    number = plain.number(value)
    for unit in ("share", "points", "words", ""):
        for shown in (plain.amount(number, unit), plain.change(number, unit), plain.size(number, unit)):
            assert shown and "nan" not in shown and "inf" not in shown and "-" not in shown


@given(st.text())
def test_printable_text_can_be_saved_and_is_stable(text: str) -> None:
    once = plain.printable(text)
    once.encode("utf-8")
    assert plain.printable(once) == once
    assert not any(ord(char) < 32 and char not in "\n\t" for char in once)
