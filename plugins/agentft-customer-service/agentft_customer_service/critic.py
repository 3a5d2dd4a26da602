"""The critic ``policy``: what the checklist's rules do not see about an answer to a customer.

Items: ``hand-over`` (hard; a case for a human is handed over, another one is not, for prompts that say so), ``courtesy``, and
``no-faults`` (blame, curtness, shouting, hype, the same words in a loop).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentft.contracts import CriticContext
from agentft.feedback.rules import feedback_id
from agentft.records import Example, Feedback, Response, Verdict
from agentft_customer_service.escalation import hands_over
from agentft_customer_service.tone import courteous, faults

_WORDS = {
    "en": {
        "missing": "- hand-over: This case is for a human. Say that you pass it on to a specialist, and when the specialist gets in touch.",
        "needless": "- hand-over: No specialist is needed here. Solve it yourself.",
        "courtesy": "- courtesy: Say a word of courtesy or empathy.",
        "faults": "- no-faults: Leave out {kinds}: {found}",
    },
    "zh": {
        "missing": "- hand-over：这件事要由人工处理。请说明已转给专员，以及专员何时联系客户。",
        "needless": "- hand-over：这里不需要专员，请直接解决。",
        "courtesy": "- courtesy：请说一句礼貌或体谅的话。",
        "faults": "- no-faults：去掉这些内容（{kinds}）：{found}",
    },
}


def policy(prompts: Sequence[Example], responses: Sequence[Response], config: Any, ctx: CriticContext) -> list[Feedback]:
    """One feedback per answer; see the module's text for the items."""
    return [_judge(prompt, response, _WORDS[ctx.language]) for prompt, response in zip(prompts, responses, strict=True)]


def _judge(prompt: Example, response: Response, say: dict[str, str]) -> Feedback:
    name = feedback_id(response.id, "customer-service/policy")
    if response.finish == "error":
        return Feedback(name, response.id, "customer-service/policy", error=response.error or "no answer")
    verdicts: list[Verdict] = []
    words: list[str] = []

    def decide(item: str, good: bool, evidence: str, text: str, severity: str = "soft") -> None:
        verdicts.append(Verdict(item, "pass" if good else "fail", evidence, severity, "substance" if severity == "hard" else "form"))
        if not good:
            words.append(text)

    due = prompt.meta.get("escalate")
    if isinstance(due, bool):
        handed = hands_over(response.text)
        decide("hand-over", handed == due, "handed over" if handed else "not handed over", say["missing" if due else "needless"], "hard")
    decide("courtesy", courteous(response.text), "", say["courtesy"])
    found = faults(response.text, prompt.last_user)
    shown = "; ".join(f"\u201c{text}\u201d" for text in found.values())
    decide("no-faults", not found, shown, say["faults"].format(kinds=", ".join(found), found=shown))
    return Feedback(name, response.id, "customer-service/policy", tuple(verdicts), "\n".join(words))
