"""Numbers in text, by value."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentft.evaluate.numbers import numbers, values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("no number here, not even one-sided", [1]),
        ("1,200 of 3.5", [1200, Fraction(7, 2)]),
        ("it is 12.", [12]),
        ("from 9-12, not -4 or (-3)", [9, 12, -4, -3]),
        ("3/4 and 2½", [Fraction(3, 4), 2, Fraction(1, 2)]),
        ("it is 3/4.", [Fraction(3, 4)]),
        ("16 / 22 / 30", [16, 22, 30]),
        ("1/2/2024", [1, 2, 2024]),
        ("at 7.30 pm or 7:30pm", [7, 30, 7, 30]),
        ("1.10 among", [Fraction(11, 10)]),
        ("x^2 and y2 and 5x", [5]),
        ("NW-203377, 12% of £4.99", [203377, 12, Fraction(499, 100)]),
        ("1/0", [1]),
        ("twenty-five and two hundred and five", [25, 205]),
        ("three thousand four hundred", [3400]),
        ("someone attended", []),
        ("６万元，5比2", [60000, 5, 2]),
        ("三百二十，十二，二〇二四", [320, 12, 2024]),
        ("三天，两个，一起，万一，十分，千万别", [3, 2]),
        ("两万三千", [23000]),
    ],
)
def test_values(text, expected):
    assert [number.value for number in numbers(text)] == expected


@given(st.integers(0, 10**9))
def test_a_number_reads_back_however_it_is_grouped(n):
    assert values(f"it is {n}.") == values(f"it is {n:,}!") == {n}


@given(st.integers(1, 10**6), st.integers(1, 99))
def test_a_number_is_never_part_of_another(n, more):
    assert n not in values(f"{n}{more} and {more}.{n}1") - {more}


@given(st.text())
def test_any_text_can_be_read(text):
    assert all(number.text for number in numbers(text))
