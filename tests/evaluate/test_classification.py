"""accuracy, f1 and confusion against scikit-learn and by hand."""

from __future__ import annotations

import csv
import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.evaluate.classification import f1_parts, f1_values
from agentft.evaluate.compare import compare
from agentft.evaluate.statistics import statistic_ci, wilson


def drawn(seed: int, n: int, names: list[str], right: float) -> tuple[list[str], list[str]]:
    rng = random.Random(seed)
    true = [rng.choice(names) for _ in range(n)]
    return true, [one if rng.random() < right else rng.choice(names) for one in true]


def test_against_sklearn(part: Any, make_prediction: Any) -> None:
    from sklearn import metrics

    true, guessed = drawn(1, 300, ["退款", "b", "c", "d"], 0.6)
    rows = [make_prediction(f"{i:03}", t, g) for i, (t, g) in enumerate(zip(true, guessed, strict=True))]
    assert part("accuracy", rows)["accuracy"].value == pytest.approx(metrics.accuracy_score(true, guessed))
    found = part("f1", rows)
    assert found["f1-macro"].value == pytest.approx(metrics.f1_score(true, guessed, average="macro"))
    assert found["f1-micro"].value == pytest.approx(metrics.f1_score(true, guessed, average="micro"))
    for name, value in zip(sorted(set(true)), metrics.f1_score(true, guessed, average=None), strict=True):
        assert found[f"f1-macro/{name}"].value == pytest.approx(value)
        assert found[f"f1-macro/{name}"].n == true.count(name)
    # What two agents are compared by: macro recall.
    assert np.mean(list(found["f1-macro"].per_sample.values())) == pytest.approx(metrics.balanced_accuracy_score(true, guessed))
    for score in found.values():
        assert score.ci is not None and score.ci[0] < score.value < score.ci[1]
    table = part("confusion", rows)["confusion"]
    assert table.details["confusion"]["labels"] == sorted(set(true)) and table.direction == "none"
    assert table.details["confusion"]["counts"] == metrics.confusion_matrix(true, guessed).tolist()
    assert table.value == pytest.approx(1 - metrics.accuracy_score(true, guessed))


def test_several_classes_against_sklearn(part: Any, make_prediction: Any) -> None:
    from sklearn import metrics

    rng, names = random.Random(2), ["a", "b", "c"]
    sets = [[[name for name in names if rng.random() < 0.5] for _ in range(80)] for _ in range(2)]
    hot = [np.array([[name in one for name in names] for one in side], dtype=int) for side in sets]
    rows = [make_prediction(f"{i:02}", t, g, labels=names) for i, (t, g) in enumerate(zip(*sets, strict=True))]
    accuracy, f1 = part("accuracy", rows), part("f1", rows)
    assert accuracy["accuracy"].value == pytest.approx(metrics.accuracy_score(*hot))  # exact match of the whole set
    assert accuracy["accuracy/jaccard"].value == pytest.approx(metrics.jaccard_score(*hot, average="samples", zero_division=1))
    assert f1["f1-macro"].value == pytest.approx(metrics.f1_score(*hot, average="macro"))
    assert f1["f1-micro"].value == pytest.approx(metrics.f1_score(*hot, average="micro"))
    samples = metrics.f1_score(*hot, average="samples", zero_division=1)
    assert np.mean(list(f1["f1-macro"].per_sample.values())) == pytest.approx(samples)


def test_answers_that_are_no_class_are_errors_and_no_class(part: Any, make_prediction: Any) -> None:
    rows = [make_prediction("1", "a", "a"), make_prediction("2", "a", "well..."), make_prediction("3", "b", "b")]
    found = part("f1", rows)
    assert set(found) == {"f1-macro", "f1-micro", "f1-macro/a", "f1-macro/b"}
    assert found["f1-macro"].value == pytest.approx((2 / 3 + 1) / 2) and found["f1-micro"].value == pytest.approx(2 / 3)


def test_nothing_all_wrong_and_a_single_class(part: Any, make_prediction: Any) -> None:
    for name in ("accuracy", "f1", "confusion"):
        for rows, unscored in (([], 0), ([make_prediction("a", "x", None)], 1)):
            for score in part(name, rows).values():
                assert math.isnan(score.value) and score.n == 0 and score.unscored == unscored and score.ci is None, score.name
    wrong = [make_prediction(str(i), "x", "y") for i in range(9)]
    assert part("f1", wrong)["f1-macro"].value == part("accuracy", wrong)["accuracy"].value == 0
    only = [make_prediction(str(i), "x", "x") for i in range(9)]
    assert part("f1", only)["f1-macro"].value == 1 and part("f1", only)["f1-macro"].ci == wilson(9, 9)  # all right is not certainty
    assert part("f1", only[:1])["f1-macro"].ci is None
    assert part("confusion", only)["confusion"].details["confusion"] == {"labels": ["x"], "counts": [[9]]}


def test_order_groups_and_pairs(part: Any, make_prediction: Any) -> None:
    true, guessed = drawn(3, 120, ["a", "b"], 0.6)
    rows = [make_prediction(f"{i:03}", t, g, group=f"g{i // 4}") for i, (t, g) in enumerate(zip(true, guessed, strict=True))]
    assert part("f1", rows) == part("f1", rows[::-1])
    alone = part("f1", [make_prediction(f"{i:03}", t, g) for i, (t, g) in enumerate(zip(true, guessed, strict=True))])
    assert alone["f1-macro"].ci != part("f1", rows)["f1-macro"].ci
    best = [make_prediction(f"{i:03}", t, t, group=f"g{i // 4}") for i, t in enumerate(true)]
    pairs = compare(list(part("f1", rows).values()), list(part("f1", best).values()), {r.id: r.row.group_key for r in rows})
    assert [one.verdict for one in pairs] == ["better"] * 4 and pairs[0].tuned == pytest.approx(1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")), min_size=2, max_size=25))
def test_values_and_intervals_stay_between_0_and_1(pairs: list[tuple[str, str]]) -> None:
    true, guessed = ([frozenset(one) for one in side] for side in zip(*pairs, strict=True))
    parts = f1_parts(true, guessed, sorted({t for t, _ in pairs}))
    values = f1_values(parts.sum(axis=0, keepdims=True))[0]
    assert ((values >= 0) & (values <= 1)).all()
    for value, ci in zip(values, statistic_ci(f1_values, parts, resamples=50), strict=True):
        assert ci is None or 0 <= ci[0] <= value <= ci[1] <= 1


def test_on_real_queries_with_77_classes_it_is_fast(part: Any, make_prediction: Any, shared_data: Path) -> None:
    with (shared_data / "banking77" / "test.csv").open(encoding="utf-8") as file:
        true = [row["category"] for row in csv.DictReader(file)]
    rng = random.Random(4)
    guessed = [one if rng.random() < 0.8 else rng.choice(true) for one in true]
    rows = [make_prediction(f"{i:05}", t, g) for i, (t, g) in enumerate(zip(true, guessed, strict=True))]
    begun = time.perf_counter()
    found = part("f1", rows)
    assert time.perf_counter() - begun < 10
    assert len(found) == 79 and found["f1-macro"].n == 3080
    assert found["f1-macro"].ci and found["f1-macro"].ci[1] - found["f1-macro"].ci[0] < 0.05
