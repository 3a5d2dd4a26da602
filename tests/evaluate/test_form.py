from __future__ import annotations

import math
import random
from typing import Any

import pytest

from agentft.evaluate.form import distinct_2, error_rate, form, length, repeats, stop_rate


def test_stop_rate_and_error_rate(make_sample: Any, make_context: Any, no_generation: Any) -> None:
    samples = [make_sample("a", "x"), make_sample("b", "x", finish="length"), make_sample("c", finish="error")]
    (stopped,) = stop_rate(samples, no_generation, None, make_context())
    assert stopped.value == 0.5 and stopped.n == 2 and stopped.unscored == 1
    (errors,) = error_rate(samples, no_generation, None, make_context())
    assert errors.value == pytest.approx(1 / 3) and errors.n == 3 and errors.unscored == 0
    assert errors.details == {"c": "out of memory"} and errors.direction == "lower"


def test_length_counts_chinese_characters_as_words(make_sample: Any, make_context: Any, no_generation: Any) -> None:
    samples = [make_sample("en", "Don't pay 3.50 twice."), make_sample("zh", "请不要付两次。"), make_sample("no", "")]
    (score,) = length(samples, no_generation, None, make_context())
    assert score.per_sample == {"en": 4, "zh": 6, "no": 0} and score.direction == "none" and score.unit == "words"


def test_distinct_2_by_hand(make_sample: Any, make_context: Any, no_generation: Any) -> None:
    # a b | b a | a b and b c: pairs (a,b) x2, (b,a), (b,c): 3 different of 4.
    samples = [make_sample("x", "a b a"), make_sample("y", "A b c"), make_sample("z", "one"), make_sample("w", finish="error")]
    (score,) = distinct_2(samples, no_generation, None, make_context())
    assert score.value == pytest.approx(3 / 4)
    assert score.per_sample["x"] == pytest.approx((1 / 2 + 1) / 2) and score.per_sample["y"] == pytest.approx((1 / 2 + 1) / 2)
    assert "z" not in score.per_sample and math.isnan(score.per_sample["w"])  # one word has no pairs; a failure is unscored


def test_distinct_2_sees_collapse_between_answers_and_works_in_chinese(make_sample: Any, make_context: Any, no_generation: Any) -> None:
    same = [make_sample(str(i), "您的退款已经到账") for i in range(4)]  # 7 pairs, four times
    (score,) = distinct_2(same, no_generation, None, make_context("zh"))
    assert score.value == pytest.approx(1 / 4) and list(score.per_sample.values()) == pytest.approx([1 / 4] * 4)
    (one,) = distinct_2([make_sample("a", "您的退款已经到账")], no_generation, None, make_context("zh"))
    assert one.value == 1.0


def test_weighted_per_answer_values_give_the_corpus_figure(make_sample: Any, make_context: Any, no_generation: Any) -> None:
    rng = random.Random(3)
    texts = [" ".join(rng.choices("abcd", k=rng.randint(2, 12))) for _ in range(20)]
    samples = [make_sample(str(i), text) for i, text in enumerate(texts)]
    (score,) = distinct_2(samples, no_generation, None, make_context())
    pairs = [len(text.split()) - 1 for text in texts]
    assert sum(score.per_sample[str(i)] * n for i, n in enumerate(pairs)) / sum(pairs) == pytest.approx(score.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I am here to help. I am here to help.", True),
        ("I am here to help. I am there to help.", False),
        ("Please wait, please wait, please wait.", True),  # "please wait please wait" twice
        ("We will, we will.", False),
        ("您的订单已经发货，您的订单已经发货。", True),  # eight characters, about four words
        ("您的订单到了，您的订单已退。", False),  # four characters again are two words
        ("", False),
    ],
)
def test_repetition(text: str, expected: bool) -> None:
    assert repeats(text) is expected


def test_form_has_all_and_the_order_changes_nothing(make_sample: Any, make_context: Any, no_generation: Any) -> None:
    samples = [make_sample(str(i), "word " * i + "end", finish="stop" if i % 2 else "length") for i in range(1, 9)]
    scores = form(samples, no_generation, None, make_context())
    assert [score.name for score in scores] == ["stop-rate", "length", "repetition", "distinct-2", "error-rate"]
    assert scores == form(samples[::-1], no_generation, None, make_context())


def test_no_samples_at_all(make_context: Any, no_generation: Any) -> None:
    assert all(math.isnan(score.value) and score.n == 0 and score.ci is None for score in form([], no_generation, None, make_context()))
