"""auc, ranking and calibration against scikit-learn and by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.errors import DataError
from agentft.evaluate.auc import area
from agentft.evaluate.ranking import ndcg, reciprocal_rank

NAMES = ["a", "b", "退款"]


def drawn(n: int, seed: int = 0, digits: int = 9) -> tuple[list[str], np.ndarray]:
    """Classes, and probabilities that know a little about them; few ``digits`` make ties."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 3, n)
    raw = rng.random((n, 3)) + 0.5 * np.eye(3)[true]
    return [NAMES[i] for i in true], np.round(raw / raw.sum(axis=1, keepdims=True), digits)


@pytest.fixture
def rows(make_prediction: Any) -> Any:
    def make(true: list[str], p: np.ndarray, **more: Any) -> list[Any]:
        pairs = [(t, dict(zip(NAMES, map(float, one), strict=True))) for t, one in zip(true, p, strict=True)]
        return [make_prediction(f"{i:04}", t, max(scores, key=lambda k: scores[k]), scores, **more) for i, (t, scores) in enumerate(pairs)]

    return make


@pytest.mark.parametrize("digits", [9, 1])
def test_auc_against_sklearn(part: Any, rows: Any, digits: int) -> None:
    from sklearn import metrics

    true, p = drawn(200, digits=digits)
    hot = np.array([[t == name for name in NAMES] for t in true])
    found = part("auc", rows(true, p))
    assert found["auc-roc"].value == pytest.approx(metrics.roc_auc_score(hot, p, average="macro"))
    assert found["auc-pr"].value == pytest.approx(metrics.average_precision_score(hot, p, average="macro"))
    for score in found.values():
        assert score.ci and score.ci[0] < score.value < score.ci[1] and score.unscored == 0
        assert np.mean(list(score.per_sample.values())) == pytest.approx(score.value)  # the mean of what is compared is the figure
        assert set(score.details["classes"]) == set(NAMES)


def test_auc_of_several_classes_against_sklearn(part: Any, make_prediction: Any) -> None:
    from sklearn import metrics

    rng = np.random.default_rng(5)
    hot = rng.random((90, 3)) < 0.4
    p = rng.random((90, 3)) + 0.3 * hot
    rows = [
        make_prediction(
            f"{i:02}", [n for n, h in zip(NAMES, one, strict=True) if h], [], dict(zip(NAMES, map(float, q), strict=True)), labels=NAMES
        )
        for i, (one, q) in enumerate(zip(hot, p, strict=True))
    ]
    assert part("auc", rows)["auc-roc"].value == pytest.approx(metrics.roc_auc_score(hot, p, average="macro"))


def test_auc_interval_is_that_of_a_plain_bootstrap(part: Any, rows: Any) -> None:
    from sklearn import metrics

    true, p = drawn(60, seed=3)
    hot = np.array([[t == name for name in NAMES] for t in true])
    rng, values = np.random.default_rng(1), []
    while len(values) < 150:
        pick = rng.integers(0, 60, 60)
        if hot[pick].any(axis=0).all():
            values.append(metrics.roc_auc_score(hot[pick], p[pick], average="macro"))
    assert part("auc", rows(true, p))["auc-roc"].ci == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.03)


def test_a_class_that_is_absent_has_no_curve_and_the_summary_says_so(part: Any, rows: Any) -> None:
    from sklearn import metrics

    true, p = drawn(60)
    kept = [i for i, t in enumerate(true) if t != "b"]
    score = part("auc", rows([true[i] for i in kept], p[kept]))["auc-roc"]
    two = [metrics.roc_auc_score([true[i] == name for i in kept], p[kept, k]) for k, name in enumerate(NAMES) if name != "b"]
    assert score.value == pytest.approx(np.mean(two)) and score.details["classes"]["b"] is None and "no curve for 'b'" in score.summary
    single = part("auc", rows(["a"] * 5, p[:5]))["auc-roc"]
    assert math.isnan(single.value) and single.ci is None and single.unscored == 5 and "2 more" in single.summary


def test_without_probabilities_everything_is_unscored_and_says_why(part: Any, make_prediction: Any) -> None:
    plain = [make_prediction(str(i), "a", "a") for i in range(3)]
    for name in ("auc", "ranking", "calibration"):
        for score in part(name, plain).values():
            assert math.isnan(score.value) and score.unscored == 3 and "no probabilities" in score.summary
        for score in part(name, []).values():
            assert math.isnan(score.value) and score.n == 0


def test_ranking_against_sklearn(part: Any, rows: Any) -> None:
    from sklearn import metrics

    true, p = drawn(150)
    hot = np.array([[t == name for name in NAMES] for t in true])
    found = part("ranking", rows(true, p), k=2)
    assert set(found) == {"mrr", "ndcg@2"}
    assert found["mrr"].value == pytest.approx(metrics.label_ranking_average_precision_score(hot, p))  # the same with one true class
    assert found["ndcg@2"].value == pytest.approx(metrics.ndcg_score(hot, p, k=2))
    assert found["mrr"].ci is not None


def test_ranking_with_ties_and_several_classes_by_hand() -> None:
    flat = {"a": 0.25, "b": 0.25, "c": 0.25, "d": 0.25}
    assert reciprocal_rank(flat, frozenset("a")) == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)  # no guess is no first place
    # Two of three tied: the first stands at place 1 (2 of 3 orders) or 2, behind one better class.
    assert reciprocal_rank({"x": 0.9, "a": 0.1, "b": 0.1, "c": 0.1}, frozenset("ab")) == pytest.approx(2 / 3 / 2 + 1 / 3 / 3)
    assert reciprocal_rank({"b": 1.0}, frozenset("a")) == 0 == ndcg({"b": 1.0}, frozenset("a"), 3)
    assert ndcg({"a": 0.6, "b": 0.4}, frozenset("b"), 10) == pytest.approx(1 / math.log2(3))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0.1, 0.2, 0.3]), min_size=3, max_size=6), st.data())
def test_ndcg_is_sklearns(values: list[float], data: Any) -> None:
    from sklearn.metrics import ndcg_score

    true = data.draw(st.sets(st.integers(0, len(values) - 1), min_size=1))
    k = data.draw(st.integers(1, 7))
    expected = ndcg_score([[int(i in true) for i in range(len(values))]], [values], k=k)
    assert ndcg({str(i): v for i, v in enumerate(values)}, frozenset(map(str, true)), k) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.1, 0.2, 0.5, 0.9])), min_size=2, max_size=30))
def test_areas_are_sklearns_with_any_ties(pairs: list[tuple[bool, float]]) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    truth, scores = (np.array(side) for side in zip(*pairs, strict=True))
    (roc, pr), _ = area(scores[:, None], truth[:, None])
    if truth.all() or not truth.any():
        assert math.isnan(roc) and math.isnan(pr)
    else:
        assert roc == pytest.approx(roc_auc_score(truth, scores)) and pr == pytest.approx(average_precision_score(truth, scores))


def test_calibration_by_hand(part: Any, make_prediction: Any) -> None:
    # Two bins: 0.9 (right, right, wrong) and 0.6 (right): (3 |0.9 - 2/3| + 1 |0.6 - 1|) / 4.
    given = [("a", "a", 0.9), ("a", "a", 0.9), ("b", "a", 0.9), ("b", "b", 0.6)]
    rows = [make_prediction(str(i), t, g, {g: p, "other": 1 - p}) for i, (t, g, p) in enumerate(given)]
    score = part("calibration", rows)["calibration"]
    assert score.value == pytest.approx((3 * abs(0.9 - 2 / 3) + 0.4) / 4) and score.direction == "lower" and score.ci is not None
    assert score.details["bins"] == [[1, pytest.approx(0.6), 1.0], [3, pytest.approx(0.9), pytest.approx(2 / 3)]]
    assert list(score.per_sample.values()) == pytest.approx([0.01, 0.01, 0.81, 0.16])
    sure = [make_prediction(str(i), "a", "a", {"a": 1.0}) for i in range(4)]
    assert part("calibration", sure)["calibration"].value == 0
    with pytest.raises(DataError, match="row '0' has 3.5"):
        part("calibration", [make_prediction("0", "a", "a", {"a": 3.5})])
