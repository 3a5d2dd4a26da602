"""Base against tuned: pairing, directions, families, unscored samples."""

from __future__ import annotations

import json
import math
import random

import pytest

from agentft.errors import PluginError
from agentft.evaluate.common import score_from
from agentft.evaluate.compare import compare
from agentft.records import Direction, Score


def graded(name: str, shift: float, n: int = 60, direction: Direction = "higher", seed: int = 0) -> Score:
    rng = random.Random(seed)
    return score_from(name, {f"s{i}": rng.random() + shift for i in range(n)}, direction=direction, unit="points")


def test_verdicts_follow_the_direction() -> None:
    base = [graded("up", 0), graded("down", 0, direction="lower"), graded("look", 0, direction="none"), graded("same", 0)]
    tuned = [
        graded("up", 0.5, seed=1),
        graded("down", 0.5, direction="lower", seed=1),
        graded("look", 0.5, direction="none", seed=1),
        graded("same", 0.01, seed=1),
    ]
    found = {one.name: one for one in compare(base, tuned)}
    assert [one.verdict for one in found.values()] == ["better", "worse", "info", "inconclusive"]
    assert found["up"].difference > 0.3
    assert found["up"].difference == pytest.approx(found["up"].tuned - found["up"].base)
    assert found["look"].adjusted_p is None and found["look"].ci is not None
    assert found["up"].ci is not None and found["up"].ci[0] > 0 and found["up"].test == "permutation"
    assert found["up"].base_ci is not None and found["up"].base_ci[0] < found["up"].base < found["up"].base_ci[1]


def test_only_samples_scored_in_both_count_and_the_rest_is_counted() -> None:
    nan = math.nan
    base = score_from("m", {"a": 0.0, "b": 1.0, "c": nan, "d": 0.0, "e": 1.0})
    tuned = score_from("m", {"a": 1.0, "b": nan, "c": 1.0, "d": 1.0, "f": 1.0})
    (one,) = compare([base], [tuned])
    assert (one.n, one.base, one.tuned, one.difference) == (2, 0.0, 1.0, 1.0)  # a and d
    assert (one.unscored_base, one.unscored_tuned) == (1, 1)
    assert one.verdict == "inconclusive"  # two prompts prove nothing, however large the difference
    assert (one.base_value, one.tuned_value) == (0.5, 1.0)


def test_turning_the_agents_round_turns_the_result_round() -> None:
    base, tuned = [graded("m", 0)], [graded("m", 0.4, seed=3)]
    (there,), (back,) = compare(base, tuned), compare(tuned, base)
    assert back.difference == pytest.approx(-there.difference)
    assert there.ci and back.ci and back.ci == pytest.approx((-there.ci[1], -there.ci[0]))
    assert (there.verdict, back.verdict) == ("better", "worse")


def test_the_order_of_samples_changes_nothing() -> None:
    base, tuned = graded("m", 0), graded("m", 0.1, seed=4)
    groups = {f"s{i}": f"g{i % 20}" for i in range(60)}
    turned = Score("m", tuned.value, tuned.n, per_sample=dict(reversed(tuned.per_sample.items())), unit="points")
    assert compare([base], [tuned], groups, 5)[0] == compare([base], [turned], dict(reversed(groups.items())), 5)[0]


def test_groups_take_certainty_away() -> None:
    base = score_from("m", {f"s{i}": 0.5 for i in range(40)})
    tuned = score_from("m", {f"s{i}": 0.6 if i % 40 < 26 else 0.5 - 0.05 * (i > 35) for i in range(40)})
    alone = compare([base], [tuned])[0]
    together = compare([base], [tuned], {f"s{i}": f"g{i // 10}" for i in range(40)})[0]
    assert alone.verdict == "better" and together.verdict == "inconclusive"  # four customers cannot reach p < 0.05
    assert alone.difference == pytest.approx(together.difference)


def test_parts_of_a_metric_are_a_family_of_their_own() -> None:
    def scores(shift: float, seed: int) -> list[Score]:
        return [graded("head", shift, seed=seed)] + [graded(f"head/{i}", shift * (i == 0), seed=seed + i) for i in range(12)]

    found = compare(scores(0, 0), scores(0.16, 50))
    assert found[0].adjusted_p == found[0].p  # alone among the headlines: the twelve items cost it nothing
    assert found[1].p is not None and found[1].adjusted_p is not None and found[1].adjusted_p > found[1].p
    assert all(one.adjusted_p is not None for one in found)


def test_corpus_figures_are_shown_without_a_verdict() -> None:
    (one,) = compare([Score("perplexity", 20.0, 5, "lower")], [Score("perplexity", 12.0, 5, "lower")])
    assert (one.base, one.tuned, one.difference, one.verdict, one.p, one.ci) == (20.0, 12.0, -8.0, "info", None, None)


def test_a_score_of_one_agent_only_is_listed() -> None:
    found = compare([graded("old", 0)], [graded("new", 0)])
    assert [(one.name, one.n, one.verdict) for one in found] == [("old", 0, "inconclusive"), ("new", 0, "inconclusive")]
    assert math.isnan(found[0].difference) and not math.isnan(found[0].base_value)


def test_everything_unscored_is_inconclusive_and_never_zero() -> None:
    nothing = score_from("m", {"a": math.nan, "b": math.nan})
    (one,) = compare([nothing], [nothing])
    assert math.isnan(nothing.value) and math.isnan(one.difference) and one.verdict == "inconclusive"
    assert (one.n, one.unscored_base, one.unscored_tuned) == (0, 2, 2)


def test_names_must_be_unique_and_directions_agree() -> None:
    with pytest.raises(PluginError, match="two scores of the base evaluation are called 'm'"):
        compare([graded("m", 0), graded("m", 0)], [graded("m", 0)])
    with pytest.raises(PluginError, match="'higher' for the base model and 'lower'"):
        compare([graded("m", 0)], [graded("m", 0, direction="lower")])


def test_to_dict_is_json() -> None:
    found = compare([graded("m", 0), score_from("x", {"a": math.nan})], [graded("m", 0.1), score_from("x", {"a": 1.0})])
    text = json.dumps([one.to_dict() for one in found], allow_nan=False)
    first, second = json.loads(text)
    assert first["ci"] == list(found[0].ci or ()) and first["verdict"] == found[0].verdict
    assert second["difference"] is None and second["ci"] is None and second["unscored_base"] == 1
