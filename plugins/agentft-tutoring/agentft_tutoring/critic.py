"""The critic ``guidance``: does the tutor guide, or tell?

Items: ``no-leak`` (hard; for prompts with ``meta.answer`` that the student has not said), ``no-telling`` (no sentence gives a
result or a worked step) and ``asks`` (the answer ends with a question, unless the student is done).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentft.contracts import CriticContext
from agentft.feedback.rules import feedback_id
from agentft.records import Example, Feedback, Response, Verdict
from agentft.text import sentences
from agentft_tutoring.guidance import is_question, tells
from agentft_tutoring.leak import leak_of

_WORDS = {
    "en": {
        "no-leak": "- no-leak: You told the answer ({found}). Let the student find it.",
        "no-telling": "- no-telling: Do not carry out the step yourself: {found}",
        "asks": "- asks: End with one question that the student can answer.",
    },
    "zh": {
        "no-leak": "- no-leak：你说出了答案（{found}）。让学生自己找到它。",
        "no-telling": "- no-telling：不要替学生做这一步：{found}",
        "asks": "- asks：最后问学生一个能回答的问题。",
    },
}
_DONE = ("correct-check", "off-topic")


def guidance(prompts: Sequence[Example], responses: Sequence[Response], config: Any, ctx: CriticContext) -> list[Feedback]:
    """One feedback per turn; see the module's text for the items."""
    return [_judge(prompt, response, _WORDS[ctx.language]) for prompt, response in zip(prompts, responses, strict=True)]


def _judge(prompt: Example, response: Response, say: dict[str, str]) -> Feedback:
    name = feedback_id(response.id, "tutoring/guidance")
    if response.finish == "error":
        return Feedback(name, response.id, "tutoring/guidance", error=response.error or "no answer")
    verdicts: list[Verdict] = []
    words: list[str] = []

    def decide(item: str, fault: str, severity: str = "soft") -> None:
        verdicts.append(Verdict(item, "fail" if fault else "pass", fault, severity, "substance"))
        if fault:
            words.append(say[item].format(found=fault))

    leaked = leak_of(response.text, prompt)
    if leaked is not None:
        decide("no-leak", leaked, "hard")
    parts = sentences(response.text)
    decide("no-telling", next((part for part in parts if tells(part, prompt)), ""))
    if prompt.meta.get("intent") not in _DONE:
        decide("asks", "" if parts and is_question(parts[-1]) else (parts[-1] if parts else "-"))
    return Feedback(name, response.id, "tutoring/guidance", tuple(verdicts), "\n".join(words))
