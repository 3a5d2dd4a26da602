from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from agentft.errors import DataError
from agentft.evaluate.adherence import persona_adherence

LONG = "one two three four five six seven eight nine, anything else?"


def test_hand_computed_shares(make_sample: Any, make_context: Any, no_generation: Any) -> None:
    samples = [
        make_sample("a", "Your refund is coming. Anything else?", ask="Where is my money?"),  # close, brief, refund: 3 / 3
        make_sample("b", LONG, ask="Where is my money?"),  # close only: 1 / 3
        make_sample("c", "Hello.", ask="Hi"),  # brief of the two that apply: 1 / 2
    ]
    scores = {score.name: score for score in persona_adherence(samples, no_generation, None, make_context())}
    assert list(scores) == [
        "persona-adherence",
        "hard-violations",
        "persona-adherence/close",
        "persona-adherence/brief",
        "persona-adherence/refund",
    ]
    overall = scores["persona-adherence"]
    assert overall.per_sample == {"a": 1.0, "b": pytest.approx(1 / 3), "c": 0.5}
    assert overall.value == pytest.approx((1 + 1 / 3 + 1 / 2) / 3) and overall.n == 3
    assert overall.ci is not None and overall.ci[0] < overall.value < overall.ci[1]
    assert scores["persona-adherence/close"].value == pytest.approx(2 / 3)
    assert scores["persona-adherence/refund"].per_sample == {"a": 1.0, "b": 0.0}  # does not apply to c: absent
    assert "Name the refund. (soft, substance)" in scores["persona-adherence/refund"].summary
    hard = scores["hard-violations"]
    assert hard.per_sample == {"a": 0.0, "b": 1.0, "c": 0.0} and hard.direction == "lower"
    assert [verdict["verdict"] for verdict in overall.details["c"]] == ["fail", "pass", "n.a."]


def test_a_failed_generation_is_unscored_where_the_item_applies(make_sample: Any, make_context: Any, no_generation: Any) -> None:
    samples = [make_sample("a", "Anything else?"), make_sample("b", finish="error"), make_sample("c", ask="my money", finish="error")]
    scores = {score.name: score for score in persona_adherence(samples, no_generation, None, make_context())}
    assert scores["persona-adherence"].n == 1 and scores["persona-adherence"].unscored == 2
    assert scores["persona-adherence"].value == 1.0
    assert scores["hard-violations"].unscored == 2 and scores["hard-violations"].value == 0.0
    assert set(scores["persona-adherence/refund"].per_sample) == {"c"} and math.isnan(scores["persona-adherence/refund"].value)
    assert "out of memory" in scores["persona-adherence"].details["b"][0]["evidence"]


def test_an_answer_that_calls_a_tool_is_left_out(make_sample: Any, make_context: Any, no_generation: Any) -> None:
    call = make_sample("b", "")
    call = replace(call, response=replace(call.response, calls=({"name": "get_order", "arguments": {}},)))
    scores = persona_adherence([make_sample("a", "Anything else?"), call], no_generation, None, make_context())
    assert all(set(score.per_sample) <= {"a"} and score.unscored == 0 for score in scores)
    assert scores[0].details["b"][0]["verdict"] == "n.a." and "calls a tool" in scores[0].details["b"][0]["evidence"]


def test_items_without_a_rule_are_unscored_and_named(make_persona: Any, make_sample: Any, make_context: Any, no_generation: Any) -> None:
    persona = make_persona(policies=[*_policies(), {"id": "kind", "text": "Be kind."}])
    samples = [make_sample("a", "Anything else?"), make_sample("b", "No.")]
    scores = {score.name: score for score in persona_adherence(samples, no_generation, None, make_context(persona=persona))}
    assert scores["persona-adherence"].per_sample == {"a": 1.0, "b": 0.5}  # over the items that rules decide
    assert "left out: kind" in scores["persona-adherence"].summary
    kind = scores["persona-adherence/kind"]
    assert math.isnan(kind.value) and (kind.n, kind.unscored) == (0, 2)


def test_nothing_decidable_is_nan_not_zero(make_persona: Any, make_sample: Any, make_context: Any, no_generation: Any) -> None:
    persona = make_persona(policies=[{"id": "kind", "text": "Be kind."}])
    overall = persona_adherence([make_sample("a", "Hi.")], no_generation, None, make_context(persona=persona))[0]
    assert math.isnan(overall.value) and overall.unscored == 1
    bare = persona_adherence([make_sample("a", "Hi.")], no_generation, None, make_context(persona=make_persona(policies=[])))
    assert [score.name for score in bare] == ["persona-adherence"] and bare[0].per_sample == {}


def test_chinese(make_persona: Any, make_sample: Any, make_context: Any, no_generation: Any) -> None:
    policies = [
        {"id": "brief", "text": "最多十个字。", "rule": {"words": {"max": 10}}},
        {"id": "language", "text": "用中文回答。", "severity": "hard", "rule": {"language": "zh"}},
    ]
    context = make_context("zh", persona=make_persona(language="zh", policies=policies))
    samples = [make_sample("a", "您的退款三天内到账。"), make_sample("b", "Your refund arrives in three days.")]
    scores = {score.name: score for score in persona_adherence(samples, no_generation, None, context)}
    assert scores["persona-adherence"].per_sample == {"a": 1.0, "b": 0.5}
    assert scores["hard-violations"].per_sample == {"a": 0.0, "b": 1.0}


def test_same_id_twice_is_an_error(make_sample: Any, make_context: Any, no_generation: Any) -> None:
    with pytest.raises(DataError, match="two evaluation prompts have the id 'a'"):
        persona_adherence([make_sample("a", "x"), make_sample("a", "y")], no_generation, None, make_context())


def _policies() -> list[dict[str, Any]]:
    return [
        {"id": "close", "text": "End by offering further help.", "rule": {"contains": {"any": ["anything else"]}}},
        {"id": "brief", "text": "Write at most eight words.", "severity": "hard", "rule": {"words": {"max": 8}}},
    ]
