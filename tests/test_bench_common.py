"""The helpers of the benchmarks: arms take turns, ratios are taken within a round, memory is that of the call."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "benchmarks" / "common.py"


@pytest.fixture(scope="module")
def common():
    spec = importlib.util.spec_from_file_location("bench_common", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_arms_take_turns_forwards_and_backwards(common):
    seen = []
    times = common.compare({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, repeats=3)
    assert "".join(seen) == "ab" + "ab" + "ba" + "ab"
    assert [len(arm["runs"]) for arm in times.values()] == [3, 3]
    assert all(arm["min"] <= arm["median"] <= arm["max"] for arm in times.values())
    with pytest.raises(ValueError, match="at least 1"):
        common.compare({}, repeats=0)


def test_ratios_are_those_of_one_round(common):
    times = {"slow": {"runs": [4.0, 40.0, 4.0]}, "fast": {"runs": [2.0, 10.0, 1.0]}}
    assert common.ratios(times, "slow")["fast"] == {"median": 4.0, "min": 2.0, "max": 4.0, "runs": [2.0, 4.0, 4.0]}
    assert common.rounded({"x": [1.23456, 3]}) == {"x": [1.235, 3]}


def test_machine_measures_both_precisions(common):
    found = common.machine(size=64, seconds=0.01)
    assert found["fp32_gflops"] > 0 and found["bf16_gflops"] > 0 and found["threads"] >= 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_is_that_of_the_call_and_stays_in_the_child(common):
    mib, kept = 2**20, []

    def takes(size):
        kept.append(bytearray(b"x") * size)

    assert 60 * mib < common.peak_rss(lambda: takes(64 * mib)) < 90 * mib
    assert common.peak_rss(lambda: None, before=lambda: takes(64 * mib)) < 10 * mib
    assert not kept
    with pytest.raises(RuntimeError, match="KeyError: 'x'"):
        common.peak_rss(lambda: {}["x"])
