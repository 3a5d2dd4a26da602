"""RMSE, MAE and correlations against scikit-learn and scipy."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from agentft.evaluate.regression import correlation_ci, ranks, regression_values


def test_against_sklearn_and_scipy(part: Any, make_prediction: Any) -> None:
    from sklearn import metrics

    rng = np.random.default_rng(0)
    true = np.round(rng.normal(size=150), 1)  # ties
    guessed = true + rng.normal(size=150)
    rows = [make_prediction(f"{i:03}", float(t), float(g), {"value": float(g)}) for i, (t, g) in enumerate(zip(true, guessed, strict=True))]
    found = part("regression", rows)
    expected = {
        "rmse": metrics.root_mean_squared_error(true, guessed),
        "mae": metrics.mean_absolute_error(true, guessed),
        "pearson": stats.pearsonr(true, guessed).statistic,
        "spearman": stats.spearmanr(true, guessed).statistic,
    }
    assert {name: score.value for name, score in found.items()} == pytest.approx(expected)
    assert [found[name].direction for name in expected] == ["lower", "lower", "higher", "higher"]
    for score in found.values():
        assert score.ci and score.ci[0] < score.value < score.ci[1]
    means = {name: np.mean(list(score.per_sample.values())) for name, score in found.items()}
    assert means == pytest.approx(expected | {"rmse": expected["rmse"] ** 2})
    # Fisher's interval is a good one for a normal pair.
    assert found["pearson"].ci == pytest.approx(stats.pearsonr(true, guessed).confidence_interval(), abs=0.04)


def test_spearmans_interval_is_that_of_a_plain_bootstrap() -> None:
    rng = np.random.default_rng(1)
    true = np.round(rng.normal(size=50), 1)
    guessed = np.round(true + rng.normal(size=50), 1)
    values = [stats.spearmanr(true[pick], guessed[pick]).statistic for pick in rng.integers(0, 50, (500, 50))]
    ci = correlation_ci(true, guessed, [str(i) for i in range(50)], 0, ranked=True)
    assert ci == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.04)


def test_what_cannot_be_computed_is_nan_and_says_so(part: Any, make_prediction: Any) -> None:
    for score in part("regression", []).values():
        assert math.isnan(score.value) and score.n == 0 and score.ci is None
    flat = part("regression", [make_prediction(str(i), float(i), 2.0) for i in range(5)])
    assert flat["rmse"].value == pytest.approx(math.sqrt(2)) and flat["mae"].value == pytest.approx(1.2)
    for name in ("pearson", "spearman"):
        assert math.isnan(flat[name].value) and "do not vary" in flat[name].summary and flat[name].unscored == 5
    rows = [make_prediction("a", 1.0, math.inf), make_prediction("b", 1.0, None), make_prediction("c", 1, 3)]
    assert part("regression", rows)["mae"].value == 2 and part("regression", rows)["mae"].unscored == 2


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=2, max_size=20))
def test_ranks_and_correlations_with_any_ties(pairs: list[tuple[int, int]]) -> None:
    true, guessed = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    assert ranks(true) == pytest.approx(stats.rankdata(true))
    values = regression_values(true, guessed)
    if len(set(true)) == 1 or len(set(guessed)) == 1:
        assert math.isnan(values["pearson"]) and math.isnan(values["spearman"])
    else:
        assert values["pearson"] == pytest.approx(stats.pearsonr(true, guessed).statistic)
        assert values["spearman"] == pytest.approx(stats.spearmanr(true, guessed).statistic)


def test_on_real_complexities(part: Any, make_prediction: Any, shared_data: Path) -> None:
    with (shared_data / "complex_lcp" / "lcp_single_test.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    predicted = [make_prediction(row["id"], float(row["complexity"]), 0.02 * len(row["token"])) for row in rows]
    found = part("regression", predicted)
    # Longer words are a little more complex: a real but weak relation.
    assert found["spearman"].n == 917 and found["spearman"].ci and 0 < found["spearman"].ci[0] < found["spearman"].ci[1] < 0.5
