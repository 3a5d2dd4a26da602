"""The critic ``guidance``: no answer told, no step carried out, a question at the end."""

from __future__ import annotations

from agentft_tutoring.critic import guidance

from agentft.contracts import CriticContext
from agentft.records import Example, Message, Response


def judged(persona, answer: str, asked: str = "What is 6 times 8?", **meta):
    prompt = Example("p", (Message("user", asked),), meta={"answer": "48"} | meta)
    (found,) = guidance([prompt], [Response("p#1", answer)], None, CriticContext(persona, persona.language))
    return found


def outcome(found) -> dict[str, str]:
    return {verdict.item: verdict.verdict for verdict in found.verdicts}


def test_telling_the_answer_is_a_hard_fault(personas):
    told = judged(personas["math-tutor"], "6 x 8 = 48. Do you see it?")
    assert outcome(told) == {"no-leak": "fail", "no-telling": "fail", "asks": "pass"}
    assert {v.item: v.severity for v in told.verdicts}["no-leak"] == "hard" and "You told the answer (48)" in told.critique
    good = judged(personas["math-tutor"], "You have 6 groups. How many are in each of them?")
    assert set(outcome(good).values()) == {"pass"} and good.critique == ""


def test_what_the_student_has_said_is_no_secret(personas):
    assert "no-leak" not in outcome(judged(personas["math-tutor"], "Yes, 48 is right.", "Is it 48?", intent="correct-check"))
    assert "asks" not in outcome(judged(personas["math-tutor"], "Yes, 48 is right.", "Is it 48?", intent="correct-check"))


def test_chinese(personas):
    found = judged(personas["math-tutor-zh"], "答案是48。", "6乘8等于多少？")
    assert outcome(found)["no-leak"] == "fail" and "你说出了答案" in found.critique
