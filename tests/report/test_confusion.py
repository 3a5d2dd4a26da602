"""The table of confusions shows all of it, or says what it leaves out."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.report.confusion import confusion_svg, confusion_text

LABELS = ["refund", "$x$ <b>", "退款"]
COUNTS = [[40, 3, 0], [5, 30, 1], [0, 9, 12]]


def wide(svg: str) -> str:
    return svg.split('class="plot narrow"')[0]


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_cells_are_shares_of_the_true_class() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = confusion_svg(LABELS, COUNTS)
    found = texts(wide(svg))
    assert {"1 refund", "3 退款", "2 $x$ &lt;b&gt;", "93", "7", "14", "83", "43", "57"} <= set(found) and "<1" not in found
    assert "var(--better)" in svg and "var(--worse)" in svg and 'class="plot narrow"' in svg
    assert "82 of 100 rows right" in svg and "<b>" not in svg


def test_text_has_the_most_frequent_first() -> None:
    lines = confusion_text(LABELS, COUNTS, top=2)
    assert lines == ["9 of 21 (43 %)  退款 -> $x$ <b>", "5 of 36 (14 %)  $x$ <b> -> refund"]
    assert confusion_text(["a", "b"], [[3, 0], [0, 2]]) == []


def test_of_77_classes_the_most_confused_are_shown() -> None:
    labels = [f"class-{i}" for i in range(77)]
    counts = [[10 if i == j else 0 for j in range(77)] for i in range(77)]
    for i in range(30):
        counts[i][(i + 1) % 30] = 30 - i  # the last ones are confused least
    svg = confusion_svg(labels, counts)
    found = texts(wide(svg))
    assert "1 class-0" in found and "26 (other classes)" in found and not any("class-76" in one for one in found)
    assert any("The 25 of 77 classes" in one and "confusions among the others" in one for one in found)
    assert len(svg) < 200_000


@pytest.mark.parametrize("counts", [[[1]], [[1, 0]], [[1, 0], [0]]])
def test_a_table_of_another_shape_is_refused(counts: Any) -> None:
    with pytest.raises(ValueError, match="2 labels need a table"):
        confusion_svg(["a", "b"], counts)


def test_nothing_to_draw() -> None:
    assert confusion_svg([], []) == "" == confusion_svg(["a", "b"], [[0, 0], [0, 0]])


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 6), st.data())
def test_any_table_draws(size: int, data: Any) -> None:
    counts = data.draw(st.lists(st.lists(st.integers(0, 5), min_size=size, max_size=size), min_size=size, max_size=size))
    labels = data.draw(st.lists(st.text(max_size=20), min_size=size, max_size=size))
    assert bool(confusion_svg(labels, counts)) == any(map(any, counts))
    assert len(confusion_text(labels, counts)) <= 10
