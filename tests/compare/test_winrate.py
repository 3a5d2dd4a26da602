"""Win rates: counts by hand, the length-controlled estimator against another implementation, and what it must do by its nature."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import binomtest

from agentft.evaluate.winrate import RIDGE, Judged, length_controlled, win_rate


def test_counts_and_rates_by_hand() -> None:
    duels = [
        Judged("a", "second", ("second",), ("second",), (10, 20)),
        Judged("b", "second", ("second",), ("second",), (10, 12)),
        Judged("c", "first", ("first",), ("first",), (30, 20)),
        Judged("d", "tie", ("first",), ("second",), (30, 20)),  # what stands first, twice
        Judged("e", "tie", lengths=(5, 5), same=True),
        Judged("f", None, (None,), ("first",), (5, 6)),
    ]
    found = win_rate(duels)
    assert (found.n, found.wins, found.ties, found.losses, found.same, found.unread) == (5, 2, 2, 1, 1, 1)
    assert found.rate == pytest.approx((2 + 0.5 * 2) / 5)
    assert found.consistent == pytest.approx(3 / 4)  # the one with equal texts was not asked
    # a: forward second (not what stood first), backward second (which stood first): 1/2 each; d: 1
    assert found.first_share == pytest.approx((0.5 + 0.5 + 0.5 + 1) / 4)
    assert math.isnan(found.controlled.rate) and "at least 10" in found.controlled.note
    assert found.to_dict()["controlled"]["rate"] is None


def test_without_ties_the_p_value_is_that_of_the_sign_test() -> None:
    winners = ["second"] * 14 + ["first"] * 4
    found = win_rate([Judged(str(n), one, (one,), (one,), (n, 2 * n)) for n, one in enumerate(winners)])
    assert found.p == pytest.approx(binomtest(14, 18).pvalue)
    assert found.rate == pytest.approx(14 / 18) and found.ci is not None and found.ci[0] < 14 / 18 < found.ci[1]


def test_intervals_widen_where_duels_come_in_clusters() -> None:
    rng = random.Random(0)
    duels = [Judged(f"{n}", rng.choice(["first", "second"]), lengths=(n, n + 3 - n % 7)) for n in range(40)]
    repeated = [Judged(f"{one.id}-{k}", one.winner, lengths=one.lengths) for one in duels for k in range(4)]
    groups = {one.id: one.id.partition("-")[0] for one in repeated}
    alone, together = win_rate(repeated), win_rate(repeated, groups)
    assert alone.ci and together.ci and together.ci[1] - together.ci[0] > 1.6 * (alone.ci[1] - alone.ci[0])
    assert together.controlled.ci and alone.controlled.ci
    assert together.controlled.ci[1] - together.controlled.ci[0] > 1.4 * (alone.controlled.ci[1] - alone.controlled.ci[0])


def reference(y: np.ndarray, d: np.ndarray) -> tuple[float, float]:
    """The same optimum by a general minimiser of the penalised likelihood."""
    x = np.tanh(d / d.std())

    def loss(at: np.ndarray) -> float:
        z = at[0] + at[1] * x
        return float(np.logaddexp(0, z).sum() - (y * z).sum() + RIDGE / 2 * at[1] ** 2)

    theta, phi = minimize(loss, np.zeros(2), method="BFGS", options={"gtol": 1e-9}).x
    return 1 / (1 + math.exp(-theta)), float(phi)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(12, 120), st.floats(-1.5, 1.5), st.floats(-3, 3), st.floats(-40, 40))
def test_it_is_the_optimum_that_another_method_finds(seed: int, n: int, theta: float, phi: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    d = np.round(rng.normal(shift, 60, n))
    p = 1 / (1 + np.exp(-(theta + phi * np.tanh(d / d.std()))))
    y = np.where(rng.random(n) < 0.15, 0.5, (rng.random(n) < p).astype(float))
    if y.min() == y.max():
        return
    found = length_controlled(y, d, resamples=50)
    rate, effect = reference(y, d)
    assert found.rate == pytest.approx(rate, abs=2e-4) and found.effect == pytest.approx(effect, abs=2e-3)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.15, 0.85))
def test_without_an_effect_of_length_it_is_the_plain_rate_within_noise(seed: int, p: float) -> None:
    rng = np.random.default_rng(seed)
    d, y = rng.normal(0, 50, 600), (rng.random(600) < p).astype(float)
    found = length_controlled(y, d, resamples=50)
    assert abs(found.rate - y.mean()) < 0.05  # four standard errors of what the length takes along


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(-60, 60), st.floats(0.5, 3))
def test_a_pure_effect_of_length_gives_one_half(seed: int, shift: float, strength: float) -> None:
    """Also where one agent is mostly the longer one, and the plain rate is far from one half."""
    rng = np.random.default_rng(seed)
    d = rng.normal(shift, 60, 3000)
    y = (rng.random(3000) < 1 / (1 + np.exp(-strength * np.tanh(d / d.std())))).astype(float)
    assert abs(length_controlled(y, d, resamples=50).rate - 0.5) < 0.1
    if abs(shift) > 40 and strength > 2:
        assert abs(y.mean() - 0.5) > 0.1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(-200, 200)), min_size=10, max_size=60), st.integers(0, 99))
def test_exchanging_the_agents_turns_it_round_and_nothing_breaks(pairs: list[tuple[float, int]], seed: int) -> None:
    y, d = [one[0] for one in pairs], [float(one[1]) for one in pairs]
    there = length_controlled(y, d, seed=seed, resamples=100)
    back = length_controlled([1 - value for value in y], [-value for value in d], seed=seed, resamples=100)
    if math.isnan(there.rate):
        assert math.isnan(back.rate) and there.note
        return
    assert there.rate == pytest.approx(1 - back.rate, abs=1e-6) and 0 <= there.rate <= 1
    assert there.ci and back.ci and there.ci[0] <= there.rate <= there.ci[1]
    assert there.ci == pytest.approx((1 - back.ci[1], 1 - back.ci[0]), abs=1e-6)


def test_small_and_degenerate_samples_say_why_there_is_no_figure() -> None:
    assert "at least 10" in length_controlled([1.0] * 9, list(range(9))).note
    constant = length_controlled([1.0, 0.0] * 10, [7.0] * 20)
    assert math.isnan(constant.rate) and "the same 7" in constant.note
    equal = length_controlled([1.0, 0.0, 1.0, 1.0] * 5, [0.0] * 20)
    assert equal.rate == 0.75 and equal.ci
    longer = length_controlled([1.0, 0.0, 1.0, 1.0] * 5, [5.0, 6.0, 7.0, 90.0] * 5)
    assert "longer in all duels" in longer.note and 0 < longer.rate < 1
    won = length_controlled([1.0] * 20, list(range(-10, 10)))
    assert won.rate == 1.0
