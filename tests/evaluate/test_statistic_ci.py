"""The bootstrap of corpus figures: against the interval of means, against scipy, and on what has no interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from agentft.evaluate.statistics import mean_ci, statistic_ci


def mean(sums: np.ndarray) -> np.ndarray:
    return sums[:, :1] / sums[:, 1:]


def as_parts(values: np.ndarray) -> np.ndarray:
    return np.column_stack([values, np.ones_like(values)])


@pytest.mark.parametrize("method", ["bca", "percentile"])
@pytest.mark.parametrize("clusters", [None, 20])
def test_of_a_mean_it_is_the_interval_of_the_mean(method: str, clusters: int | None) -> None:
    values = np.random.default_rng(0).exponential(size=80)
    groups = None if clusters is None else [i % clusters for i in range(80)]
    found = statistic_ci(mean, as_parts(values), groups, method=method, resamples=4000)[0]  # type: ignore[arg-type]
    assert found == pytest.approx(mean_ci(values, groups, method=method, resamples=4000), rel=1e-9)  # type: ignore[arg-type]


def test_against_scipy() -> None:
    x, y = np.random.default_rng(1).normal(size=(2, 60))
    y = y + x
    expected = stats.bootstrap((x, y), lambda a, b, axis: (a * b).sum(axis) / (a * a).sum(axis), paired=True, vectorized=True, rng=0)
    found = statistic_ci(lambda sums: sums[:, :1] / sums[:, 1:], np.column_stack([x * y, x * x]))[0]
    assert found == pytest.approx(tuple(expected.confidence_interval), abs=0.03)


def test_how_often_each_sample_was_drawn() -> None:
    values = np.random.default_rng(2).normal(size=40)
    groups = [i // 2 for i in range(40)]

    def weighted(times: np.ndarray) -> np.ndarray:
        return (times @ values / times.sum(axis=1))[:, None]

    for method in ("percentile", "bca"):
        left = statistic_ci(weighted, 40, groups, method=method)  # type: ignore[arg-type]
        assert left[0] == pytest.approx(statistic_ci(mean, as_parts(values), groups, method=method)[0])  # type: ignore[arg-type]


def test_coverage_of_a_ratio() -> None:
    rng, hits = np.random.default_rng(3), 0
    for trial in range(200):
        a = rng.exponential(size=40)
        b = 2 * a + rng.normal(size=40)
        found = statistic_ci(mean, np.column_stack([b, a]), seed=trial, resamples=400)[0]
        hits += found is not None and found[0] <= 2 <= found[1]
    assert 178 <= hits <= 199


def test_what_has_no_interval() -> None:
    values = np.arange(6.0)
    assert statistic_ci(mean, as_parts(values[:1])) == [None] and statistic_ci(mean, as_parts(values), ["g"] * 6) == [None]

    def half_defined(sums: np.ndarray) -> np.ndarray:
        return np.column_stack([sums[:, 0], np.full(len(sums), np.nan)])

    first, second = statistic_ci(half_defined, as_parts(values))
    assert first is not None and second is None
    with pytest.raises(ValueError, match="one group per value"):
        statistic_ci(mean, as_parts(values), ["g"])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=30), st.integers(0, 5))
def test_it_holds_the_value_and_repeats(values: list[float], seed: int) -> None:
    parts = as_parts(np.array(values))
    one, again = (statistic_ci(mean, parts, seed=seed, resamples=100) for _ in range(2))
    assert one == again and one[0] is not None and one[0][0] <= float(np.sum(parts[:, 0]) / len(parts)) <= one[0][1]
