"""Intervals and tests against hand-computed values, scipy, and properties."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.evaluate.statistics import (
    discordant_sd,
    holm,
    mcnemar_exact,
    mean_ci,
    paired_difference,
    paired_permutation,
    prompts_needed,
    smallest_detectable_effect,
    wilson,
    zero_failures_bound,
)

FEW = {"resamples": 300}
numbers = st.floats(-100, 100, allow_subnormal=False).map(lambda value: round(value, 3))
values = st.lists(numbers, min_size=2, max_size=30)
pairs = st.lists(st.tuples(numbers, numbers, st.sampled_from("abcdef")), min_size=2, max_size=30)


def test_wilson_against_the_published_example() -> None:
    # Newcombe 1998, Statistics in Medicine 17, 857-872, table I: 81 of 263 and 0 of 20 (method 3).
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(20, 20) == pytest.approx((0.8389, 1.0), abs=1e-4)
    with pytest.raises(ValueError, match="successes"):
        wilson(3, 2)


def test_bca_agrees_with_scipy() -> None:
    from scipy.stats import bootstrap

    data = np.random.default_rng(1).exponential(size=60)
    theirs = bootstrap((data,), np.mean, method="BCa", n_resamples=20_000, random_state=2).confidence_interval
    ours = mean_ci(data, seed=3, resamples=20_000)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.01)
    percentile = mean_ci(data, seed=3, resamples=20_000, method="percentile")
    assert percentile is not None and ours is not None
    assert ours[1] > percentile[1] + 0.01  # the long tail on the right is what BCa corrects for


def test_yes_no_values_get_wilson_and_clusters_do_not_hide_behind_a_certain_outcome() -> None:
    assert mean_ci([1, 0, 0, 1]) == wilson(2, 4)
    assert mean_ci([1.0] * 12, list("aaabbbcccddd")) == wilson(4, 4)  # four customers, not twelve
    assert mean_ci([0.5]) is None
    assert mean_ci([0.5, 0.7], ["a", "a"]) is None


def test_clusters_widen_the_interval_as_the_design_effect_says() -> None:
    rng = np.random.default_rng(5)
    level = rng.normal(size=60)
    data = np.repeat(level, 5)  # five copies of each: 60 independent facts, not 300
    groups = np.repeat(np.arange(60), 5).tolist()
    low, high = mean_ci(data, groups) or (0, 0)
    assert (high - low) / 2 == pytest.approx(1.96 * level.std(ddof=1) / math.sqrt(60), rel=0.1)
    low_alone, high_alone = mean_ci(data) or (0, 0)
    assert (high - low) / (high_alone - low_alone) == pytest.approx(math.sqrt(5), rel=0.1)


def test_nine_of_ten_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(6)
    hits = 0
    for trial in range(300):
        low, high = mean_ci(rng.gamma(2, size=40), seed=trial, resamples=500) or (0, 0)
        hits += low <= 2 <= high
    assert 0.90 <= hits / 300 <= 0.98  # nominal 0.95


@given(values, st.lists(st.sampled_from("abcd"), min_size=30, max_size=30))
@settings(max_examples=60, deadline=None)
def test_an_interval_holds_its_mean_and_lies_within_the_data(data: list[float], labels: list[str]) -> None:
    found = mean_ci(data, labels[: len(data)], **FEW)
    if found is not None:
        assert found[0] <= np.mean(data) + 1e-9 and found[1] >= np.mean(data) - 1e-9
        if not set(data) <= {0.0, 1.0}:
            assert min(data) - 1e-9 <= found[0] and found[1] <= max(data) + 1e-9


@given(pairs)
@settings(max_examples=60, deadline=None)
def test_exchanging_the_agents_turns_the_sign_and_nothing_else(data: list[tuple[float, float, str]]) -> None:
    left, right, groups = [list(column) for column in zip(*data, strict=True)]
    there = paired_difference(left, right, groups, permutations=200, **FEW)
    back = paired_difference(right, left, groups, permutations=200, **FEW)
    assert back.difference == pytest.approx(-there.difference)
    assert back.p == there.p and 0 < there.p <= 1
    assert back.smallest_detectable == pytest.approx(there.smallest_detectable, nan_ok=True)
    if there.ci and back.ci:
        assert back.ci == pytest.approx((-there.ci[1], -there.ci[0]), abs=1e-6)
        assert there.ci[0] <= there.difference <= there.ci[1]


def test_the_seed_decides_everything() -> None:
    data = np.random.default_rng(7).normal(size=30)
    assert mean_ci(data, seed=1) == mean_ci(data, seed=1) != mean_ci(data, seed=2)


def test_mcnemar_by_hand_and_against_scipy() -> None:
    from scipy.stats import binomtest

    first = [0] * 9 + [1] * 2 + [1] * 20
    second = [1] * 9 + [0] * 2 + [1] * 20
    # 9 won and 2 lost: 2 * (C(11,0) + C(11,1) + C(11,2)) / 2^11 = 134 / 2048
    assert mcnemar_exact(first, second) == pytest.approx(134 / 2048)
    assert mcnemar_exact(first, second) == pytest.approx(binomtest(2, 11).pvalue)
    assert mcnemar_exact([1, 0], [1, 0]) == 1.0
    assert 0 < mcnemar_exact([0] * 2000 + [1] * 1800, [1] * 2000 + [0] * 1800) < 0.01  # 2 ** 3800 is no float
    paired = paired_difference(first, second)
    assert paired.test == "mcnemar" and paired.p == pytest.approx(134 / 2048)


def test_permutation_by_hand_against_scipy_and_by_cluster() -> None:
    from scipy.stats import permutation_test

    assert paired_permutation([1, 2, 3]) == pytest.approx(2 / 8)  # only +++ and --- reach 6
    assert paired_permutation([0.0, 0.0]) == 1.0
    assert paired_permutation([1, 1, 1, 1], ["a", "a", "b", "b"]) == pytest.approx(2 / 4)  # two customers, four sign patterns
    data = np.random.default_rng(8).normal(0.3, 1, size=40)
    theirs = permutation_test(
        (data, np.zeros(40)), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=9999, random_state=0
    )
    assert paired_permutation(data) == pytest.approx(theirs.pvalue, abs=0.01)


def test_false_alarms_stay_at_the_level() -> None:
    rng = np.random.default_rng(9)
    alarms = sum(paired_permutation(rng.normal(size=25), permutations=199) < 0.05 for _ in range(400))
    assert alarms / 400 < 0.085


def test_smallest_detectable_effect_and_the_sample_sizes_it_stands_for() -> None:
    assert smallest_detectable_effect(0.5, 100) == pytest.approx(2.8016 * 0.05, abs=1e-4)
    # 30, 20 and 15 % of the prompts answered differently: 10, 5 and 3 points. With the factor rounded to 2.80
    # these are the often quoted 227, 619 and 1,299.
    for effect, discordant, exact, quoted in ((0.10, 0.30, 228, 227), (0.05, 0.20, 621, 619), (0.03, 0.15, 1301, 1299)):
        sd = discordant_sd(effect, discordant)
        assert prompts_needed(effect, sd) == exact
        assert round((2.8 * sd / effect) ** 2) == quoted
        assert smallest_detectable_effect(sd, exact) <= effect < smallest_detectable_effect(sd, exact - 1)
    with pytest.raises(ValueError, match="discordant"):
        discordant_sd(0.3, 0.2)


def test_the_promised_power_is_there() -> None:
    rng = np.random.default_rng(10)
    effect = smallest_detectable_effect(1.0, 80)
    found = sum(paired_permutation(rng.normal(effect, 1.0, size=80), permutations=199) < 0.05 for _ in range(400))
    assert 0.72 <= found / 400 <= 0.88


def test_detectable_effect_of_data_counts_customers_not_rows() -> None:
    rng = np.random.default_rng(11)
    level = rng.normal(size=40)
    alone = paired_difference(np.zeros(40), level)
    copies = paired_difference(np.zeros(160), np.repeat(level, 4), np.repeat(np.arange(40), 4).tolist())
    assert alone.smallest_detectable == pytest.approx(smallest_detectable_effect(level.std(ddof=1), 40))
    assert copies.smallest_detectable == pytest.approx(alone.smallest_detectable)
    assert (copies.n, copies.clusters) == (160, 40)
    assert math.isnan(paired_difference([0.2, 0.4], [0.3, 0.5]).smallest_detectable)  # no scatter, nothing to say


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_no_failure_in_n_is_bounded_by_about_three_over_n() -> None:
    assert zero_failures_bound(100) == pytest.approx(0.03, abs=0.001)


def test_nan_and_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        mean_ci([1.0, math.nan])
    with pytest.raises(ValueError, match="same length"):
        paired_difference([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="one group per value"):
        mean_ci([1.0, 2.0], ["a"])
    with pytest.raises(ValueError, match="at least one"):
        mean_ci([])


def test_a_full_evaluation_takes_a_moment() -> None:
    rng = np.random.default_rng(12)
    first, second = rng.normal(size=(2, 25, 200))
    started = time.process_time()
    for left, right in zip(first, second, strict=True):
        mean_ci(left)
        mean_ci(right)
        paired_difference(left, right)
    assert time.process_time() - started < 3  # 0.5 s on an idle laptop core
