"""``rules``: the critic that holds answers against the persona's own declarative rules. Exact, free, and asked first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from agentft.contracts import CriticContext
from agentft.persona import Persona
from agentft.records import Example, Feedback, Response, Verdict


def rules(prompts: Sequence[Example], responses: Sequence[Response], config: Any, ctx: CriticContext) -> list[Feedback]:
    """One verdict per checklist item; items without a rule are ``unscored``, for another critic to decide.

    A failed generation is a feedback with ``error``. An answer that was cut at the length limit fails the hard item
    ``ends`` (see :data:`ENDS`): whatever it says, it must not be learned from. Of an answer that calls a tool, little else is
    decided: see :meth:`~agentft.persona.Persona.check_message`.
    """
    return [_judge(prompt, response, ctx.persona) for prompt, response in zip(prompts, responses, strict=True)]


# Not an item of the persona: what every answer has to do.
ENDS = "ends"
_ENDS_TEXT = {"en": "Finish the answer within the length limit.", "zh": "在长度限制内把话说完。"}


def _judge(prompt: Example, response: Response, persona: Persona) -> Feedback:
    name = feedback_id(response.id, "rules")
    if response.finish == "error":
        return Feedback(name, response.id, "rules", error=response.error or "no answer")
    ended = response.finish == "stop"
    verdicts = [
        *persona.check_message(response.message, prompt),
        Verdict(ENDS, "pass" if ended else "fail", "" if ended else "cut at the length limit", "hard", "form"),
    ]
    return Feedback(name, response.id, "rules", tuple(verdicts), critique(verdicts, persona))


def feedback_id(response: str, critic: str, rater: str = "") -> str:
    """``RESPONSE@CRITIC``, or ``RESPONSE@CRITIC:RATER``."""
    return f"{response}@{critic}" + (f":{rater}" if rater else "")


def critique(verdicts: Iterable[Verdict], persona: Persona) -> str:
    """The failed items in words, a line each: what is asked for, and what was found; empty if nothing failed."""
    texts = item_texts(persona)
    line, found = ("- {}：{}", "（{}）") if persona.language == "zh" else ("- {}: {}", " ({})")
    return "\n".join(
        line.format(verdict.item, texts.get(verdict.item, verdict.item)) + (found.format(verdict.evidence) if verdict.evidence else "")
        for verdict in verdicts
        if verdict.verdict == "fail"
    )


def item_texts(persona: Persona) -> dict[str, str]:
    """Item -> the sentence that the model was shown for it."""
    return {policy.id: policy.text for policy in persona.policies} | {ENDS: _ENDS_TEXT[persona.language]}
