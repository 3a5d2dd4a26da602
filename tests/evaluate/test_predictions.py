"""A chat model's answers as predictions: what is recognised, what is wrong, what is unscored."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.errors import DataError
from agentft.evaluate.predictions import from_samples
from agentft.records import Example, Message, Response, Sample
from agentft.testing import fake_samples


def one(text: str, label: Any, labels: list[str] | None = None, finish: str = "stop") -> Any:
    meta = {"label": label} | ({"labels": labels} if labels else {})
    return from_samples([Sample(Example("a", (Message("user", "q"),), group="g", meta=meta), Response("a", text, finish))])[0]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("refund", "refund"),
        (" Refund\n", "refund"),
        ("Card  ARRIVAL", "card arrival"),
        ("I think refund", "I think refund"),
        ("", ""),
        ("退款", "退款"),
    ],
)
def test_a_class_is_known_up_to_case_and_white_space(text: str, label: str) -> None:
    found = one(text, "refund", ["refund", "card arrival", "退款"])
    assert found.label == label and found.row.label == "refund" and found.row.group == "g" and found.scores == {}


def test_labels_that_differ_in_case_only_are_told_apart() -> None:
    assert [one(text, "US", ["US", "us", "EU"]).label for text in ("US", "us", "Us", "eu")] == ["US", "us", "Us", "EU"]


def test_without_a_set_of_labels_those_of_all_samples_are_known(make_sample: Any) -> None:
    found = from_samples([make_sample("a", "B", label="a"), make_sample("b", "b", label="b"), make_sample("c", "b")])
    assert [(p.id, p.label) for p in found] == [("a", "b"), ("b", "b")]  # the third has no label: it does not apply


@pytest.mark.parametrize(
    ("text", "label"), [("A, b", ["a", "b"]), ("b；a\nb", ["b", "a"]), ("", []), ("c and a", ["c and a"]), ("无, a", ["无", "a"])]
)
def test_several_classes(text: str, label: list[str]) -> None:
    assert one(text, ["a"], ["a", "b"]).label == label


@pytest.mark.parametrize(
    ("text", "value"), [("It is -0.25.", -0.25), ("3", 3.0), ("about twelve", 12.0), ("1e-3", 0.001), ("大约十二个", 12.0)]
)
def test_numbers(text: str, value: float) -> None:
    found = one(text, 0.5)
    assert found.label == value and found.scores == {"value": value}


def test_an_answer_without_a_number_is_unscored() -> None:
    assert one("no idea", 0.5).label is None and "no number" in one("no idea", 0.5).error


@pytest.mark.parametrize(
    ("text", "label"), [("Paris", [{"text": "Paris"}]), ("Unanswerable.", []), ("无法回答。", []), (" ", []), ("No answer in sight", None)]
)
def test_spans(text: str, label: Any) -> None:
    assert one(text, [{"text": "Paris"}]).label == ([{"text": text}] if label is None else label)


def test_a_failed_generation_is_unscored_and_says_why() -> None:
    found = one("", "a", finish="error")
    assert found.label is None and found.error


def test_wrong_meta_is_an_error_with_the_prompt() -> None:
    with pytest.raises(DataError, match=r"prompt 'a': meta\.labels"):
        one("a", "a", "a, b")  # type: ignore[arg-type]


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=40), st.sampled_from(["a", 0.5, ["a"], [{"text": "a"}], []]))
def test_any_text_is_read(text: str, label: Any) -> None:
    found = one(text, label, ["a", "b"])
    assert found.label is not None or found.error


def test_metrics_take_a_chats_samples_as_they_are(part: Any, make_sample: Any) -> None:
    samples = [
        make_sample("a", "Refund", label="refund", labels=["refund", "other"]),
        make_sample("b", "no clue", label="other", labels=["refund", "other"]),
        make_sample("c", finish="error", label="other", labels=["refund", "other"]),
        make_sample("d", "hello"),
    ]
    score = part("accuracy", samples)["accuracy"]
    assert score.value == 0.5 and score.n == 2 and score.unscored == 1 and set(score.per_sample) == {"a", "b", "c"}
    assert "1 without a prediction (out of memory)" in score.summary
    table = part("confusion", samples)["confusion"].details["confusion"]
    assert table == {"labels": ["other", "refund", "(other answer)"], "counts": [[0, 0, 1], [0, 1, 0], [0, 0, 0]]}


def test_labels_of_another_kind_and_equal_ids_are_errors(part: Any, make_prediction: Any) -> None:
    with pytest.raises(DataError, match="'accuracy' needs a class or several classes as label, but row 'a' has a number"):
        part("accuracy", [make_prediction("a", 0.5, 0.5)])
    with pytest.raises(DataError, match="'regression' needs a number"):
        part("regression", [make_prediction("a", "x", "x")])
    with pytest.raises(DataError, match="the id 'a'"):
        part("accuracy", [make_prediction("a", "x", "x"), make_prediction("a", "x", "y")])
    assert part("accuracy", [make_prediction("a", 1, 1)])["accuracy"].value == 1  # a whole number may be a class


def test_probabilities_and_answers_in_other_words_are_those_of_the_labels():
    from dataclasses import replace

    meta = {"label": 0, "labels": [0, 1], "choices": ["退款", "card arrival"]}
    (first, second) = fake_samples([("q", "退款", meta), ("r", "card arrival", meta)])
    first = replace(first, choices={"退款": 0.25, "card arrival": 0.75})
    known, bare = from_samples([first, second])
    assert (str(known.label), known.scores) == ("0", {"0": 0.25, "1": 0.75})
    assert str(bare.label) == "1" and "1" not in bare.scores


def test_choices_in_another_order_are_still_the_labels():
    from dataclasses import replace

    (sample,) = fake_samples([("q", "b", {"label": "a", "labels": ["a", "b"], "choices": ["b", "a"]})])
    (found,) = from_samples([replace(sample, choices={"b": 0.9, "a": 0.1})])
    assert (found.label, found.scores) == ("b", {"b": 0.9, "a": 0.1})
