"""qa against the rules of SQuAD's script, and by hand for Chinese."""

from __future__ import annotations

import json
import math
import re
import string
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentft.evaluate.question_answering import answer_f1, exact_match


def squad(answer: str, gold: list[str]) -> tuple[float, float]:
    """Written after SQuAD 2.0's evaluation script, step by step."""

    def normal(text: str) -> str:
        text = "".join(char for char in text.lower() if char not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())

    def f1(one: str, other: str) -> float:
        left, right = normal(one).split(), normal(other).split()
        same = sum((Counter(left) & Counter(right)).values())
        if not left or not right:
            return float(left == right)
        return 2 * same / (len(left) + len(right)) if same else 0.0

    right = [text for text in gold if normal(text)] or [""]
    return max(float(normal(answer) == normal(text)) for text in right), max(f1(answer, text) for text in right)


WORDS = st.lists(st.sampled_from(["the", "A", "blue", "car.", "(car)", "an", "Blue,", "1.5", "--"]), max_size=5).map(" ".join)


@given(WORDS, st.lists(WORDS, max_size=3))
def test_english_as_in_squad(answer: str, gold: list[str]) -> None:
    assert (exact_match(answer, gold), answer_f1(answer, gold)) == pytest.approx(squad(answer, gold))


@pytest.mark.parametrize(
    ("answer", "gold", "em", "f1"),
    [
        ("北京市", ["北京市。"], 1, 1),
        ("在北京", ["北京"], 0, 0.8),  # 2 shared of 3 and 2 characters
        ("《红楼梦》", ["红楼梦"], 1, 1),
        ("上海", ["北京"], 0, 0),
        ("iPhone 手机", ["iphone手机"], 1, 1),
        ("", ["北京"], 0, 0),
        ("北京", [], 0, 0),
    ],
)
def test_chinese_by_characters(part: Any, make_prediction: Any, answer: str, gold: list[str], em: float, f1: float) -> None:
    row = make_prediction("a", [{"text": one} for one in gold], [{"text": answer}], inputs={"question": "q", "context": "c"})
    found = part("qa", [row], "zh")
    assert found["qa-em"].value == em and found["qa-f1"].value == pytest.approx(f1)


def test_unanswerable_rows_and_failures(part: Any, make_prediction: Any) -> None:
    inputs = {"question": "q", "context": "The cat sat."}
    span = [{"text": "The cat", "start": 0}]
    rows = [
        make_prediction("a", span, span, inputs=inputs),
        make_prediction("b", [], [], inputs=inputs),
        make_prediction("c", [], span, inputs=inputs),
        make_prediction("d", span, [], inputs=inputs),
        make_prediction("e", span, None, inputs=inputs),
    ]
    found = part("qa", rows)
    assert found["qa-em"].value == found["qa-f1"].value == 0.5 and found["qa-f1"].unscored == 1 and found["qa-f1"].ci
    assert found["qa-f1/answerable"].value == 0.5 and found["qa-f1/unanswerable"].value == 0.5
    for score in part("qa", []).values():
        assert math.isnan(score.value) and score.n == 0
    assert set(part("qa", rows[:1])) == {"qa-em", "qa-f1"}


def test_on_real_spans(part: Any, make_prediction: Any, shared_data: Path) -> None:
    rows = []
    for number, item in enumerate(json.loads((shared_data / "restaurant8k" / "test.json").read_text("utf-8"))):
        text = item["userInput"]["text"]
        places = [(one["valueSpan"].get("startIndex", 0), one["valueSpan"]["endIndex"]) for one in item.get("labels", [])]
        gold = [{"text": text[start:end], "start": start} for start, end in places]
        rows.append(make_prediction(f"{number:05}", gold, gold[:1], inputs={"question": "slot", "context": text}))
    found = part("qa", rows)
    assert found["qa-em"].value == found["qa-f1"].value == 1 and found["qa-em"].n == 3731 and "qa-f1/unanswerable" in found
