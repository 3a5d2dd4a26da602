"""The critic ``policy``: hand-over where it is due and only there, courtesy, no faults."""

from __future__ import annotations

import pytest
from agentft_customer_service.critic import policy

from agentft.contracts import CriticContext
from agentft.records import Example, Message, Response


def judged(persona, answer: str, escalate: bool | None = None, asked: str = "Where is it?", **more):
    meta = {} if escalate is None else {"escalate": escalate}
    prompt = Example("p", (Message("user", asked),), meta=meta)
    (found,) = policy([prompt], [Response("p#1", answer, **more)], None, CriticContext(persona, persona.language))
    return found


def outcome(found) -> dict[str, str]:
    return {verdict.item: verdict.verdict for verdict in found.verdicts}


def test_a_case_for_a_human_is_handed_over_and_no_other(personas):
    support = personas["support"]
    good = "I understand. I am passing your case to a specialist, who calls you within 1 business day."
    assert outcome(judged(support, good, True)) == {"hand-over": "pass", "courtesy": "pass", "no-faults": "pass"}
    needless = judged(support, good, False)
    assert outcome(needless)["hand-over"] == "fail" and "No specialist is needed" in needless.critique
    missing = judged(support, "I understand, please reply with your order number.", True)
    assert {v.item: v.severity for v in missing.verdicts}["hand-over"] == "hard" and "Say that you pass it on" in missing.critique
    assert "hand-over" not in outcome(judged(support, good)), "a prompt that does not say it is not asked about it"


def test_faults_are_quoted(personas):
    found = judged(personas["support"], "Calm down. It is your own fault, we told you already.")
    assert outcome(found)["no-faults"] == "fail" and "blame" in found.critique and "Calm down" in found.critique


@pytest.mark.parametrize("answer, item", [("转给专员处理，专员会在1个工作日内联系您。", "pass"), ("请在我的订单里查看。", "fail")])
def test_chinese(personas, answer, item):
    found = judged(personas["support-zh"], answer, True, "我要起诉你们")
    assert outcome(found)["hand-over"] == item and ("专员" in found.critique) == (item == "fail")


def test_a_failed_generation_is_not_judged(personas):
    assert judged(personas["support"], "", finish="error", error="gone").error == "gone"
