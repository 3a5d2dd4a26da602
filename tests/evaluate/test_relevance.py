"""Facts, similarity, and what is refused instead of being given a number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from agentft.engine import embedding
from agentft.errors import DataError, MissingDependency
from agentft.evaluate.relevance import relevance
from agentft.evaluate.semantic import similarity

FACTS = [["refund"], ["5 business days", "five business days"]]


@pytest.fixture
def without_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "PACKAGE", "a_package_that_nobody_has")
    monkeypatch.setattr("agentft.evaluate.semantic.PACKAGE", "a_package_that_nobody_has")


@pytest.fixture
def same_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the model: the share of equal letters, so that the rest can be seen without loading it."""

    def cosine(left: Sequence[str], right: Sequence[str]) -> list[float]:
        return [len(set(a) & set(b)) / len(set(a) | set(b)) for a, b in zip(left, right, strict=True)]

    monkeypatch.setattr(embedding, "installed", lambda: True)
    monkeypatch.setattr(embedding, "cosine", cosine)
    monkeypatch.setattr(embedding, "readable", str.isascii)


def test_facts_by_hand(make_sample: Any, make_context: Any, no_generation: Any) -> None:
    samples = [
        make_sample("a", "Your REFUND takes five business days.", facts=FACTS),
        make_sample("b", "Your refund is on its way.", facts=FACTS),
        make_sample("c", finish="error", facts=FACTS),
        make_sample("d", "", facts=FACTS),
        make_sample("zh", "退款三天内到账。", facts=[["退款", "退钱"], ["三天"]]),
    ]
    (score,) = relevance(samples, no_generation, None, make_context())
    assert score.name == "relevance/facts" and score.unscored == 1 and math.isnan(score.per_sample["c"])
    assert [score.per_sample[key] for key in ("a", "b", "d", "zh")] == [1.0, 0.5, 0.0, 1.0]
    assert score.details["b"] == ["5 business days / five business days"]


def test_the_two_kinds_are_never_mixed(same_letters: None, make_sample: Any, make_context: Any, no_generation: Any) -> None:
    samples = [make_sample("a", "refund", facts=[["refund"]]), make_sample("b", "abc", ask="abd"), make_sample("c", "xyz", ask="xyz")]
    facts, similar = relevance(samples, no_generation, None, make_context())
    assert set(facts.per_sample) == {"a"} and facts.value == 1.0 and facts.unit == "share"
    assert similar.name == "relevance/similarity" and similar.per_sample == {"b": 0.5, "c": 1.0} and similar.unit == "cosine"


def test_text_the_model_cannot_read_is_unscored_and_an_empty_answer_is_zero(
    same_letters: None, make_sample: Any, make_context: Any, no_generation: Any
) -> None:
    samples = [
        make_sample("good", "abc", ask="abc"),
        make_sample("answer", "您的订单", ask="abc"),
        make_sample("question", "abc", ask="订单"),
        make_sample("empty", " ", ask="abc"),
        make_sample("failed", finish="error", ask="abc"),
    ]
    (score,) = relevance(samples, no_generation, None, make_context())
    assert {key for key, value in score.per_sample.items() if math.isnan(value)} == {"answer", "question", "failed"}
    assert score.per_sample["empty"] == 0.0 and score.value == 0.5 and "2 not scored" in score.summary


def test_without_the_optional_package(without_package: None, make_sample: Any, make_context: Any, no_generation: Any) -> None:
    samples = [make_sample("a", "refund", facts=[["refund"]]), make_sample("b", "abc", reference="abd")]
    facts, similar = relevance(samples, no_generation, None, make_context())
    assert facts.value == 1.0
    assert math.isnan(similar.value) and similar.unscored == 1 and "pip install 'agentft[semantic]'" in similar.summary
    with pytest.raises(MissingDependency, match=r"pip install 'agentft\[semantic\]'"):
        similarity(samples, no_generation, None, make_context())


def test_only_samples_with_a_reference_have_a_similarity(
    same_letters: None, make_sample: Any, make_context: Any, no_generation: Any
) -> None:
    if not embedding.available(embedding.PACKAGE):
        pytest.skip("the extra 'semantic' is not installed")
    (score,) = similarity([make_sample("a", "abc", reference="abd"), make_sample("b", "abc")], no_generation, None, make_context())
    assert score.per_sample == {"a": 0.5}


@pytest.mark.parametrize("facts", ["refund", ["refund"], [[]], {"refund": 1}])
def test_facts_of_the_wrong_shape_are_named(facts: Any, make_sample: Any, make_context: Any, no_generation: Any) -> None:
    with pytest.raises(DataError, match=r"prompt 'a': meta\.facts must be a list of lists"):
        relevance([make_sample("a", "x", facts=facts)], no_generation, None, make_context())


@pytest.fixture
def model() -> None:
    if not embedding.installed():
        pytest.skip("the extra 'semantic' is not installed")


@pytest.mark.slow
def test_the_real_model_refuses_chinese_and_orders_english(model: None) -> None:
    assert embedding.readable("Where is my refund? 😀😀😀")
    assert not embedding.readable("我的订单还没有发货，可以帮我查一下吗？")
    assert not embedding.readable("Order 48213: 韓國 배송 조회 부탁드립니다")
    question = "Why has my money not been refunded yet?"
    good, bad, same = embedding.cosine(
        ["Your refund takes five business days to arrive.", "Penguins live in the southern hemisphere.", question], [question] * 3
    )
    assert good > bad + 0.3 and same == pytest.approx(1.0, abs=1e-5)


@pytest.mark.slow
def test_embeddings_do_not_depend_on_the_batch_they_are_in(model: None) -> None:
    texts = ["Short.", "A somewhat longer sentence about refunds and parcels.", "word " * 400]
    together = embedding.embed(texts)
    embedding._CACHE.clear()
    alone = [embedding.embed([text])[0] for text in texts]
    assert together.shape == (3, 384) and embedding.embed([]).shape == (0, 384)
    for one, other in zip(together, alone, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
        assert float((one * one).sum()) == pytest.approx(1.0, abs=1e-5)
