"""The helpers that plugin authors write metrics with."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from agentft.errors import DataError, MissingDependency
from agentft.evaluate.common import groups_of, need, per_sample, sample_score, score_from, with_reference
from agentft.records import Score


def test_the_metric_of_the_docstring(make_sample: Any, make_context: Any) -> None:
    samples = [make_sample("a", "Why? How?"), make_sample("b", "So."), make_sample("c", finish="error")]
    score = sample_score("question-marks", samples, lambda s: s.text.count("?"), make_context(), direction="none", unit="marks")
    assert score.value == 1.0 and score.n == 2 and score.unscored == 1
    assert score.per_sample["a"] == 2.0 and score.unit == "marks" and score.direction == "none"


def test_nan_is_counted_and_none_is_absent(make_sample: Any) -> None:
    samples = [make_sample("a", "x"), make_sample("b", "x"), make_sample("c", "x"), make_sample("d", finish="error")]
    values = per_sample(samples, lambda s: {"a": True, "b": math.nan, "c": None}[s.id])
    assert set(values) == {"a", "b", "d"} and values["a"] == 1.0 and math.isnan(values["b"]) and math.isnan(values["d"])


def test_groups_widen_the_interval() -> None:
    values = {str(i): float(i % 4 < 2) + 0.1 * (i % 3) for i in range(40)}
    alone = score_from("m", values)
    together = score_from("m", values, {key: str(int(key) % 4) for key in values})
    assert alone.value == together.value
    assert alone.ci is not None and together.ci is not None
    assert together.ci[1] - together.ci[0] > 1.5 * (alone.ci[1] - alone.ci[0])


def test_a_corpus_value_has_no_interval_of_its_own() -> None:
    score = score_from("m", {"a": 1.0, "b": 2.0}, value=1.7)
    assert score.value == 1.7 and score.ci is None and score.n == 2


def test_nothing_scored_is_nan_and_survives_json() -> None:
    score = score_from("m", {"a": math.nan})
    assert math.isnan(score.value) and score.n == 0 and score.ci is None
    back = Score.from_dict(json.loads(json.dumps(score.to_dict(), allow_nan=False)))
    assert math.isnan(back.value) and math.isnan(back.per_sample["a"]) and back.unscored == 1


def test_groups_references_and_duplicates(make_sample: Any) -> None:
    samples = [make_sample("a", "x", group="g", reference="y"), make_sample("b", "x", reference="  ")]
    assert groups_of(samples) == {"a": "g", "b": "b"}
    assert [sample.id for sample in with_reference(samples)] == ["a"]
    with pytest.raises(DataError, match="'a'"):
        per_sample([samples[0], samples[0]], lambda s: 1.0)


def test_a_missing_package_names_the_command() -> None:
    need("json", "semantic")
    with pytest.raises(MissingDependency, match=r"pip install 'agentft\[semantic\]'"):
        need("a_package_that_nobody_has", "semantic")
