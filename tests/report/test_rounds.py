"""The report's view of the rounds: complete, hostile, Chinese and empty data."""

from __future__ import annotations

import html
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentft.report import render_report
from agentft.report.difference import marked

EVIL = "<script>alert(1)</script>"


def level(value: float, unit: str = "share") -> dict[str, Any]:
    return {"value": value, "ci": [value - 0.02, value + 0.02], "unit": unit}


def one_round(number: int = 1, state: str = "promoted", shift: float = 0.03) -> dict[str, Any]:
    base = 0.85 + 0.02 * number
    arms = [
        {
            "name": role,
            "label": role,
            "values": {
                "persona-adherence": level(base + gain),
                "relevance/facts": level(0.4 + gain),
                "length": {"value": 37 + 10 * gain, "ci": [35, 39], "unit": "words"},
                "distinct-2": {"value": 0.27, "ci": None, "unit": "share"},
                "persona-adherence/close": level(0.5),
            },
        }
        for role, gain in (("champion", 0.0), ("candidate", shift), ("control", shift / 2))
    ]
    return {
        "round": number,
        "state": state,
        "promoted": "candidate" if state == "promoted" else None,
        "sentence": f"persona-adherence became better: +{100 * shift:.1f} points (+1.2 points to +4.8 points)",
        "primary": "persona-adherence",
        "arms": arms,
        "conditions": [
            {"name": "persona-adherence", "kind": "primary", "outcome": "pass", "text": "became better: +3.0 points (1.2 to 4.8)"},
            {"name": "relevance/facts", "kind": "guardrail", "outcome": "inconclusive", "text": "may be worse"},
            {"name": "length", "kind": "limit", "outcome": "fail", "text": "answers are 2.00 times as long"},
            {"name": "tone", "kind": "guardrail", "outcome": "missing", "text": "was not measured"},
        ],
        "flow": [{"name": "prompts", "count": 148}, {"name": "answers", "count": 740}, {"name": "pairs kept", "count": 97}],
        "drops": {"samples are equally good": 31, "revision is not better": 260},
        "training": [
            {
                "arm": "candidate",
                "metrics": {},
                "words": ["At the end the model prefers the chosen answer."],
                "curve": [{"step": n, "loss": 1 / n, "margin": n / 9} for n in range(1, 12)],
            }
        ],
        "pairs": [
            {
                "id": f"p{n}",
                "prompt": [{"role": "user", "content": "Where is my refund?"}],
                "rejected": "I understand. Please wait for it.",
                "chosen": "I understand. A refund takes 5 business days; see My Orders.",
                "origin": "sample",
                "critique": "- facts: Name the rule that applies. (missing: refund)",
                "mended": ["facts"],
            }
            for n in range(6)
        ],
        "moved": [
            {
                "item": "facts",
                "text": "Name the subject of the request.",
                "severity": "soft",
                "before": 0.33,
                "after": 0.45,
                "count_fixed": 24,
                "count_broken": 6,
                "fixed": [{"id": "a", "prompt": "Is it free?", "before": "Yes it is.", "after": "Yes, for 30 days."}],
                "broken": [{"id": "b", "prompt": "裤子太长，怎么退货", "before": "三十天内可以退货。", "after": "可以退钱。"}],
            }
        ],
        "tokens": [
            {
                "id": "a",
                "prompt": "Is it free?",
                "arm": "candidate",
                "answer": "Yes, for 30 days",
                "pieces": [["Yes", 3.1], [",", -0.1], [" for", -2.4], [" 30", 1.0], [" days", -0.6]],
            }
        ],
        "feedback": [{"prompt": "Is it free?", "response": "Maybe.", "critic": "rules", "critique": "- facts: Name the rule."}],
        "critics": [{"name": "rules", "calibrated": None, "text": "judged 740 answers"}],
    }


def page(rounds: Any) -> str:
    return render_report({"title": "t", "status": "complete", "rounds": rounds})


def test_everything_that_a_round_holds_is_on_the_page():
    text = page([one_round()])
    assert 'href="#rounds"' in text and "Round 1: promoted" in text and text.count("<svg") >= 4
    for found in (
        "148 prompts",
        "31 samples are equally good",
        "mended on 24 prompts",
        "broken on 6 prompts",
        "3 more pairs",
        "not measured",
    ):
        assert found in text.replace("&#39;", "'") or found in html.unescape(text), found
    assert "<ins>A refund takes 5 business days; see My Orders</ins>." in text and "<del>Please wait for it</del>." in text
    assert re.search(r'<span class="up4" title="22\.2 times as likely[^"]*">Yes</span>', text)
    assert re.search(r'<span class="down4"[^>]*> for</span>', text) and "<span" in text
    assert "control arm" in text and text.count("<details") == text.count("</details>")


def test_the_latest_round_is_open_and_the_others_are_folded():
    text = page([one_round(1, "rejected"), one_round(2, "inconclusive"), one_round(3)])
    places = [text.index(f"Round {n}: ") for n in (3, 2, 1)]
    assert places == sorted(places) and text.count('<details class="round') == 2
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_without_rounds_there_is_no_section():
    for nothing in (None, [], {}, "x"):
        assert 'id="rounds"' not in page(nothing) and 'href="#rounds"' not in page(nothing)


def poisoned(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: poisoned(one) for key, one in value.items()}
    if isinstance(value, list):
        return [poisoned(one) for one in value]
    return f"{EVIL}{value}" if isinstance(value, str) else value


def test_no_text_becomes_markup():
    text = page([poisoned(one_round())])
    assert EVIL not in text and "alert(1)" in text


@pytest.mark.parametrize("hole", list(one_round()))
def test_any_part_may_be_missing(hole):
    for value in (None, "x", [], math.nan):
        data = one_round() | {hole: value}
        assert "Rounds of feedback" in page([data])
    data = one_round()
    del data[hole]
    assert "Rounds of feedback" in page([data])


@given(st.text(max_size=60), st.text(max_size=60))
def test_marking_differences_loses_nothing(before, after):
    left, right = marked(before, after)
    assert "".join(text for text, _ in left) == before and "".join(text for text, _ in right) == after
    assert marked(before, before)[0] in ([], [(before, False)])


def test_chinese_is_compared_by_character():
    left, right = marked("三十天内可以退货。", "三十天内可以退款。")
    assert left == [("三十天内可以退", False), ("货", True), ("。", False)] and right[1] == ("款", True)
