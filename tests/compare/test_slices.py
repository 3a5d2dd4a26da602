"""Results broken down, by hand and under Holm's adjustment."""

from __future__ import annotations

import math

import pytest

from agentft.evaluate.common import score_from
from agentft.evaluate.slices import NONE, paired_slices, slice_table, slices_of
from agentft.records import Example, Message


def prompt(name: str, **meta: object) -> Example:
    return Example(name, (Message("user", "Hello?"),), meta=meta)


def test_values_of_any_kind_become_names() -> None:
    found = slices_of([prompt("a", kind="x", hard=True, tags=["u", "v"]), prompt("b", kind=3)], ["kind", "hard", "tags"])
    assert found == {"a": {"kind": "x", "hard": "yes", "tags": "u, v"}, "b": {"kind": "3", "hard": NONE, "tags": NONE}}


def test_means_per_slice_with_the_unscored_counted() -> None:
    slices = {f"s{n}": {"kind": "big" if n < 6 else "small"} for n in range(8)}
    values = {f"s{n}": float(n) for n in range(8)} | {"s0": math.nan}
    rows = slice_table([score_from("m", values, unit="points"), score_from("m/part", values)], slices, {})
    assert [(row["slice"], row["score"], row["value"], row["n"], row["unscored"]) for row in rows] == [
        ("big", "m", 3.0, 5, 1),
        ("small", "m", 6.5, 2, 0),
    ]


def test_one_slice_of_many_needs_more_than_chance() -> None:
    """A difference that is clear by itself is not, as one of forty slices; a large one still is."""
    slices, before, after = {}, {}, {}
    for group in range(40):
        for n in range(20):
            name = f"{group}-{n}"
            slices[name] = {"kind": f"k{group:02d}"}
            before[name] = 0.0
            after[name] = float(n < 7) if group == 0 else float(n < 17) if group == 1 else float(n == 0) - float(n == 1)
    rows = {row["slice"]: row for row in paired_slices([score_from("m", before)], [score_from("m", after)], slices, {})}
    assert rows["k00"]["p"] < 0.05 < rows["k00"]["adjusted_p"] and rows["k00"]["verdict"] == "inconclusive"
    assert rows["k01"]["adjusted_p"] < 0.01 and rows["k01"]["verdict"] == "better"
    assert rows["k01"]["difference"] == pytest.approx(17 / 20) and rows["k02"]["verdict"] == "inconclusive"


def test_less_can_be_better() -> None:
    slices = {f"{n}": {"kind": "all"} for n in range(30)}
    ones, zeros = ({f"{n}": value for n in range(30)} for value in (1.0, 0.0))
    (row,) = paired_slices([score_from("leak", ones, direction="lower")], [score_from("leak", zeros, direction="lower")], slices, {})
    assert (row["difference"], row["verdict"]) == (-1.0, "better")
