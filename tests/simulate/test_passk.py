"""pass^k against enumeration, and what is compared."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentft.environments import Episode, Outcome
from agentft.simulate.passk import compare, counts, pass_at, pass_hat, rate, scores
from agentft.simulate.stored import Ended


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_pass_k_is_the_share_of_all_sets_of_k_trials(trials, data):
    k = data.draw(st.integers(1, len(trials)))
    sets = list(combinations(trials, k))
    assert pass_hat(sum(trials), len(trials), k) == pytest.approx(sum(map(all, sets)) / len(sets))
    assert pass_at(sum(trials), len(trials), k) == pytest.approx(sum(map(any, sets)) / len(sets))


@pytest.mark.parametrize(("won", "trials", "k"), [(2, 1, 1), (1, 2, 3), (1, 2, 0), (-1, 2, 1)])
def test_impossible_numbers_are_refused(won, trials, k):
    with pytest.raises(ValueError):
        pass_hat(won, trials, k)


def ended(task, trial, won, **changes):
    checks = {"state": won, "policy": True}
    episode = Episode(task, trial, (), changes.pop("end", "user"), **changes)
    return Ended(episode, Outcome({} if episode.fault else checks, "" if won else "wrong state"))


def test_rates_over_tasks_with_faults_left_out():
    found = [ended("a", t, t < 3) for t in range(4)] + [ended("b", t, False) for t in range(3)] + [ended("b", 3, False, fault="lost")]
    found += [ended("c", t, True, fault="lost") for t in range(4)]
    whole = counts(found)
    assert whole == {"a": (3, 4), "b": (0, 3), "c": (0, 0)}
    two = rate("pass^2", whole, 2)
    assert two.value == pytest.approx((math.comb(3, 2) / math.comb(4, 2) + 0) / 2) and two.n == 2 and two.unscored == 1
    assert two.ci[0] <= two.value <= two.ci[1]
    four = rate("pass^4", whole, 4)
    assert four.n == 1 and four.ci is None


def test_scores_have_a_value_for_each_task():
    found = [ended("a", 0, True), ended("a", 1, False), ended("b", 0, True, malformed=2), ended("b", 1, True, end="agent-error")]
    by_name = {score.name: score for score in scores(found)}
    assert by_name["success"].per_sample == {"a": 0.5, "b": 1.0} and by_name["success/pass^2"].per_sample == {"a": 0.0, "b": 1.0}
    assert by_name["success/state"].per_sample == {"a": 0.5, "b": 1.0} and by_name["success/policy"].value == 1.0
    assert by_name["success/readable-calls"].per_sample == {"a": 1.0, "b": 0.5} == by_name["success/answered"].per_sample


def test_two_simulations_are_paired_on_their_common_tasks():
    first = [ended(f"t{n}", 0, False) for n in range(30)]
    second = [ended(f"t{n}", 0, n % 3 > 0) for n in range(10, 40)]
    by_name = {one.name: one for one in compare(first, second)}
    assert by_name["success"].n == 20 and by_name["success"].verdict == "better" and by_name["success"].difference == pytest.approx(14 / 20)
    assert by_name["success/policy"].verdict == "inconclusive"
    back = {one.name: one for one in compare(second, first)}
    assert back["success"].difference == -by_name["success"].difference and back["success"].verdict == "worse"
