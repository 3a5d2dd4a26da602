"""Facts told, whatever they look like."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.simulate.facts import missing, tokens, told


@pytest.mark.parametrize(
    ("fact", "text"),
    [
        ("1,299.00", "That makes $1299."),
        ("1299", "一共1,299.00元。"),
        ("1.5万", "共15000元"),
        ("5 days", "within five days"),
        ("twenty-one", "it has 21"),
        ("三天", "3天内到账"),
        ("十五", "需要15天"),
        ("20%", "20 percent off"),
        ("20%", "全场20％折扣"),
        ("5 March 2024", "on 2024-03-05"),
        ("2024-03-05", "2024年3月5日到账"),
        ("March 5", "It comes on the 5th of March, 2024."),
        ("3月5号", "2024/3/5"),
        ("03/05/2024", "May 3, 2024"),
        ("Refund", "it was refunded"),
        ("退款", "已为您退款成功"),
        ("#W2378156", "order w2378156."),
        ("A-12", "locker A‑12"),
        ("it’s free", "It's free!"),
    ],
)
def test_told(fact, text):
    assert told(fact, text)


@pytest.mark.parametrize(
    ("fact", "text"),
    [
        ("5", "15 days"),
        ("5", "5.5 days"),
        ("1299", "12990"),
        ("1.50", "1.05"),
        ("no", "I know"),
        ("007", "7"),
        ("5 March", "5 May"),
        ("2024-03-05", "2023-03-05"),
        ("refund today", "refund tomorrow, today is Monday"),
        ("退货", "退款"),
        ("三天", "四天"),
        ("W12", "W123"),
        ("", "anything"),
        ("...", "anything"),
    ],
)
def test_not_told(fact, text):
    assert not told(fact, text)


def test_one_of_each_group_is_enough():
    assert missing([["5 days", "a week"], ["free"]], "It takes five days.") == ["free"]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**8), st.sampled_from(["{}", "{:,}", "{:,}.00", "${:,}", "{}元"]), st.sampled_from(["{}", "{:,}", "{}.0"]))
def test_a_number_is_told_in_every_spelling(number, said, wanted):
    assert told(wanted.format(number), f"that is {said.format(number)}, all in all")
    assert not told(wanted.format(number + 1), f"that is {said.format(number)}, all in all")


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(max_codepoint=0x9FFF, exclude_categories=["Cs"]), max_size=30))
def test_any_text_tells_itself(text):
    alone = tokens(text)
    assert told(text, text) == bool(alone)
    assert tokens(f"{text}") is alone and not told(f"{text} zzz", text)


def test_amounts_of_tau2_are_found_as_agents_write_them(shared_data):
    path = shared_data / "tau2_bench"
    files = sorted(path.rglob("tasks*.json"))
    if not files:
        pytest.skip("no tau2-bench tasks")
    found = []
    for file in files:
        rows = json.loads(file.read_text("utf-8"))
        for row in rows if isinstance(rows, list) else []:
            found += (row.get("evaluation_criteria") or {}).get("communicate_info") or []
    assert found
    for fact in found:
        assert told(fact, f"Sure. It is {fact}, as you asked.")
        number = fact.replace(",", "")
        if number.replace(".", "", 1).isdigit() and not number.startswith("0") and len(number) <= 12:
            assert told(fact, f"You get ${float(number):,.2f} back.") and not told(fact, f"You get ${float(number) + 1:,.2f} back.")
