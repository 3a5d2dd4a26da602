"""Feedback and preferences as records, the rules critic, and how several critics become one judgement."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentft import Host
from agentft.contracts import CriticContext
from agentft.errors import DataError
from agentft.feedback.verdicts import combine
from agentft.persona import Persona
from agentft.records import Example, Feedback, Message, Preference, Response, Verdict

PERSONA = Persona.from_dict(
    {
        "name": "clerk",
        "summary": "A clerk",
        "language": "en",
        "role": "You are a clerk.",
        "policies": [
            {"id": "brief", "text": "At most 5 words.", "rule": {"words": {"max": 5}}},
            {"id": "no-swearing", "text": "Never swear.", "severity": "hard", "rule": {"not_contains": ["damn"]}},
            {"id": "kind", "text": "Be kind."},
        ],
    }
)
PROMPT = Example("p1", (Message("user", "Where is it?"),), group="c1")


def rules(*responses: Response) -> list[Feedback]:
    catalog = Host(allow=()).catalog
    critic = catalog.target(catalog.get("critic", "rules"))
    return critic([PROMPT] * len(responses), list(responses), None, CriticContext(PERSONA, "en"))


def test_the_rules_critic_says_what_failed_in_words():
    good, bad, cut, failed = rules(
        Response("a", "On the left."),
        Response("b", "Damn, I have no idea where that is."),
        Response("c", "On the", finish="length"),
        Response("d", "", finish="error", error="out of memory"),
    )
    assert [(v.item, v.verdict) for v in good.verdicts] == [
        ("brief", "pass"),
        ("no-swearing", "pass"),
        ("kind", "unscored"),
        ("ends", "pass"),
    ]
    assert good.critique == "" and bad.critique == "- brief: At most 5 words. (8 words)\n- no-swearing: Never swear. (found 'damn')"
    assert combine([cut])["c"].broken == ("ends",), "what did not end must never be chosen"
    assert failed.error == "out of memory" and not failed.verdicts


def test_an_answer_that_calls_a_tool_goes_on_and_is_not_held_to_the_wording():
    call = {"name": "get_order", "arguments": {}}
    silent, rude, cut = rules(
        Response("a", "", calls=(call,)),
        Response("b", "Damn, let me look for that order of yours.", calls=(call,)),
        Response("c", "", finish="length", calls=(call,)),
    )
    assert [v.verdict for v in silent.verdicts] == ["n.a.", "n.a.", "n.a.", "pass"] and silent.critique == ""
    assert [v.verdict for v in rude.verdicts] == ["n.a.", "fail", "n.a.", "pass"]
    assert combine([cut])["c"].broken == ("ends",)


def test_chinese_feedback_is_chinese():
    persona = Persona.from_dict({**PERSONA.to_dict(), "language": "zh"})
    catalog = Host(allow=()).catalog
    critic = catalog.target(catalog.get("critic", "rules"))
    (found,) = critic([PROMPT], [Response("a", "这句话一共有很多个字")], None, CriticContext(persona, "zh"))
    assert found.critique == "- brief：At most 5 words.（10 words）"


def verdict(item: str, outcome: str, severity: str = "soft") -> Verdict:
    return Verdict(item, outcome, "", severity)


def test_critics_are_combined_item_by_item_and_a_hard_failure_of_any_stands():
    found = combine(
        [
            Feedback("a@rules", "a", "rules", (verdict("brief", "pass"), verdict("safe", "pass", "hard"), verdict("kind", "unscored"))),
            Feedback("a@judge", "a", "judge", (verdict("kind", "fail"), verdict("safe", "fail")), critique="- kind: be kinder"),
            Feedback("a@reward", "a", "reward", score=0.5),
            Feedback("a@late", "a", "late", error="timeout"),
            Feedback("b@rules", "b", "rules", (verdict("brief", "fail"),)),
        ]
    )
    one = found["a"]
    assert one.failed == ("safe", "kind") and one.broken == ("safe",) and one.passed == 1 and one.share == 1 / 3
    assert one.score == 0.5 and one.errors == {"late": "timeout"} and one.critique == "- kind: be kinder"
    assert found["b"].failed == ("brief",) and math.isnan(found["b"].score)


outcomes = st.sampled_from(["pass", "fail", "unscored", "n.a."])


@given(
    st.lists(st.lists(st.tuples(st.sampled_from("xyz"), outcomes, st.sampled_from(["hard", "soft"])), max_size=4), min_size=1, max_size=4)
)
def test_combining_does_not_depend_on_the_order_of_critics_and_never_hides_a_failure(critics):
    feedback = [Feedback(f"a@{n}", "a", str(n), tuple(verdict(*row) for row in rows)) for n, rows in enumerate(critics)]
    one, other = combine(feedback)["a"], combine(reversed(feedback))["a"]
    assert {(v.item, v.verdict, v.severity) for v in one.verdicts} == {(v.item, v.verdict, v.severity) for v in other.verdicts}
    failed = {item for rows in critics for item, outcome, _ in rows if outcome == "fail"}
    assert set(one.failed) == failed


texts = st.text(max_size=20)


@given(texts, texts, st.floats(allow_nan=False, allow_infinity=False) | st.none(), st.lists(texts, max_size=3))
def test_records_survive_json(chosen, rejected, margin, ids):
    pair = Preference(
        "x",
        PROMPT,
        Message("assistant", chosen),
        Message("assistant", rejected),
        math.nan if margin is None else margin,
        "sample",
        tuple(ids),
    )
    again = Preference.from_dict(json.loads(json.dumps(pair.to_dict())))
    assert again.to_dict() == pair.to_dict() and again.completed(again.chosen).messages[-1].content == chosen
    note = Feedback("a@h", "a", "human", (verdict("kind", "fail"),), critique=chosen, edit=rejected, rater="Ann")
    assert Feedback.from_dict(json.loads(json.dumps(note.to_dict()))).to_dict() == note.to_dict()


def test_a_preference_needs_an_answer_and_a_known_origin():
    with pytest.raises(DataError, match="chosen or a rejected"):
        Preference("x", PROMPT, None, None)
    with pytest.raises(DataError, match="origin must be one of"):
        Preference("x", PROMPT, Message("assistant", "a"), None, origin="elsewhere")
    assert not Preference("x", PROMPT, Message("assistant", "a"), None).paired
