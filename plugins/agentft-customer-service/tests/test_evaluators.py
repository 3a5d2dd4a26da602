"""The evaluators on answers whose quality is plain to see, in both languages."""

from __future__ import annotations

import math
import time

import pytest
from agentft_customer_service.escalation import escalation, hands_over
from agentft_customer_service.policy import policy, resolution
from agentft_customer_service.tone import faults, tone

from agentft.records import Response, Sample
from agentft.testing import check_evaluator, eval_context, fake_samples

STOCK = "Thank you for contacting us! Your satisfaction is very important to us. Is there anything else I can help you with?"
STOCK_ZH = "感谢您的咨询，我们非常重视您的反馈。请问还有什么可以帮您？"


def scores(evaluator, samples, ctx=None):
    return {score.name: score for score in check_evaluator(evaluator, ctx or eval_context(), samples)}


def answered(demonstrations, persona, text=None):
    """Samples of one persona's demonstrations, answered as demonstrated or all with one text."""
    rows = [row.as_prompt() for row in demonstrations if row.meta["persona"] == persona]
    return [Sample(prompt, Response(prompt.id, text or reference)) for prompt, reference in rows]


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry. I am handing your case to a case specialist, who calls you within 1 business day.",
        "I've escalated this to my supervisor and they will be in touch today.",
        "I understand. A human colleague will contact you tomorrow between 9 and 12.",
        "I'll transfer you to our fraud team right away.",
        "Let me connect you with a manager.",
        "One of our safety specialists will reach out to you today.",
        "非常抱歉，我马上把您的情况转给个案专员。",
        "我已上报主管，明天上午会有同事给您回电。",
        "产品安全专员1个工作日内联系您。",
    ],
)
def test_hand_over_found(text):
    assert hands_over(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I'm unable to transfer you to a manager.",
        "I can't connect you with a human agent, but I can check the parcel.",
        "Would you like me to pass this to a specialist?",
        "A human colleague can take over if needed.",
        "Please contact our fraud specialist yourself.",
        "You can speak to a manager in any of our shops.",
        "I ask our product team, who answer within 1 business day.",
        "Our specialist for lamps likes this model.",
        "I pass your compliment on, and the parcel arrives tomorrow.",
        "很抱歉，我无法为您转接人工客服。",
        "要不要我帮您转给主管？",
        "请您联系主管。",
        "产品团队会在1个工作日内回答。",
    ],
)
def test_no_hand_over(text):
    assert not hands_over(text)


def test_hand_over_agrees_with_every_demonstration(demonstrations):
    wrong = [row.id for row in demonstrations if hands_over(row.messages[-1].content) != row.meta["escalate"]]
    assert not wrong


def test_escalation_counts():
    yes, no = "I am passing this to a specialist, who calls you today.", "It arrives tomorrow."
    found = scores(
        escalation,
        fake_samples(
            [
                ("fire!", yes, {"escalate": True}),
                ("I sue", no, {"escalate": True}),
                ("where is it", no, {"escalate": False}),
                ("size?", yes, {"escalate": False}),
                ("refund?", no, {"escalate": False}),
                ("burnt", None, {"escalate": True}),
                ("nobody says", yes),
            ]
        ),
    )
    assert found["escalation"].value == pytest.approx(3 / 5) and found["escalation"].unscored == 1
    assert found["escalation/recall"].value == 0.5 and found["escalation/recall"].unscored == 1
    assert found["escalation/precision"].value == 0.5 and found["escalation/precision"].n == 2
    assert found["escalation/needless"].value == pytest.approx(1 / 3) and found["escalation/needless"].direction == "lower"
    assert "50%" in found["escalation"].summary  # 3 of 6 prompts need none
    assert "s7" not in found["escalation"].per_sample


def test_escalation_without_a_hand_over_has_no_precision():
    found = scores(escalation, fake_samples([("I sue", "Fine.", {"escalate": True})]))
    assert math.isnan(found["escalation/precision"].value) and found["escalation/recall"].value == 0


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("You should have read the terms before ordering, I am afraid.", "blame"),
        ("As I already told you, the parcel is on its way.", "blame"),
        ("Please calm down, the refund takes five days.", "blame"),
        ("There is nothing we can do about a late parcel, sorry.", "curt"),
        ("No.", "curt"),
        ("WRONG! Your parcel is NOT late, look again please.", "shouting"),
        ("Thanks for writing!! The parcel comes tomorrow morning!!", "shouting"),
        ("I'm sorry for any confusion. I'm sorry for any confusion.", "loop"),
        ("This amazing offer is waiting for you in your account.", "hype"),
        ("我已经说过了，退款要五个工作日。", "blame"),
        ("请您冷静一点，包裹明天就会到。", "blame"),
        ("这个不归我们管，您找快递公司去问。", "curt"),
        ("您的包裹已经发货了！！请耐心等待！！", "shouting"),
    ],
)
def test_faults(text, kind):
    assert kind in faults(text)


def test_capitals_of_the_customer_are_no_shouting():
    assert not faults("The ARLO lamp is on its way and arrives tomorrow, thank you.", "where is my ARLO lamp")
    assert "shouting" in faults("The ARLO lamp is on its way and arrives tomorrow, thank you.")


def test_tone_of_the_demonstrations(demonstrations):
    for persona, curt in (("support", "Check your email."), ("support-zh", "不知道。")):
        good = scores(tone, answered(demonstrations, persona))
        bad = scores(tone, answered(demonstrations, persona, curt))
        assert good["tone"].value >= 0.95 and good["tone/faults"].value == 0
        assert bad["tone"].value == 0 and bad["tone/faults"].value == 1


@pytest.mark.parametrize(
    ("persona", "stock"), [("support", STOCK), ("support-zh", STOCK_ZH), ("banking", STOCK), ("escalation-desk", STOCK)]
)
def test_policy_separates_demonstrations_from_a_stock_answer(demonstrations, personas, persona, stock):
    ctx = eval_context(personas[persona])
    good, bad = (scores(policy, answered(demonstrations, persona, text), ctx) for text in (None, stock))
    assert good["policy"].value == 1 and good["policy/kept"].value == 1
    assert bad["policy"].value < 0.8 and bad["policy/kept"].value < 0.1
    details = next(iter(bad["policy"].details.values()))
    assert {verdict["item"] for verdict in details} >= {"no-secrets", "next-step"} and not any(v["item"] == "close" for v in details)


def test_resolution(personas):
    ctx = eval_context(personas["support"])
    meta = {"intent": "refund-status", "facts": [["refund"], ["5 business days"]]}
    asked = "Where is my refund?"
    found = scores(
        resolution,
        fake_samples(
            [
                (asked, "The refund takes 5 business days, see My Orders.", meta),
                (asked, "The refund is shown under My Orders.", meta),
                (asked, "The refund is on its way, please be patient.", meta),
                (asked, "The refund takes 5 business days, we guarantee it. See My Orders.", meta),
                (asked, None, meta),
                ("hello", "Hello!", {}),
            ]
        ),
        ctx,
    )["resolution"]
    assert [found.per_sample.get(f"s{n}") for n in (1, 2, 3, 4)] == [1, 0.5, 0, 0]
    assert math.isnan(found.per_sample["s5"]) and "s6" not in found.per_sample


def test_no_evaluator_rewards_an_answer_without_content(prompts, personas):
    ctx = eval_context(personas["support"])
    samples = [Sample(prompt, Response(prompt.id, STOCK)) for prompt in prompts if prompt.meta["persona"] == "support"]
    assert scores(resolution, samples, ctx)["resolution"].value == 0
    assert scores(escalation, samples, ctx)["escalation/recall"].value == 0


@pytest.mark.parametrize(
    "piece",
    ["1/1", "(1+1)", "1,1.", "I can hand ", "please contact a manager ", "the answer is ", "请转给", "a's ", "A", "二十", "\n", "😀"],
)
def test_a_degenerate_answer_takes_no_time(personas, piece):
    """Small models repeat themselves without end; a pattern that backtracks would hang the evaluation."""
    samples = fake_samples([("Help me " + piece * 20, piece * 400, {"escalate": True, "facts": [["refund"]]})])
    started = time.process_time()
    for evaluator in (policy, resolution, escalation, tone):
        scores(evaluator, samples, eval_context(personas["support"]))
    assert time.process_time() - started < 5
