"""The critic ``facts``: does a rewritten text say what its source says?

Items: ``facts-kept`` (every name and number of the source is told) and ``nothing-invented`` (hard; no name or number of its own).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentft.contracts import CriticContext
from agentft.feedback.rules import feedback_id
from agentft.records import Example, Feedback, Response, Verdict
from agentft_content_style.facts import facts_of, invented, missing

_WORDS = {
    "en": {
        "facts-kept": "- facts-kept: These are missing: {found}",
        "nothing-invented": "- nothing-invented: The source does not say: {found}",
    },
    "zh": {"facts-kept": "- facts-kept：缺少这些内容：{found}", "nothing-invented": "- nothing-invented：原文没有这些内容：{found}"},
}


def facts(prompts: Sequence[Example], responses: Sequence[Response], config: Any, ctx: CriticContext) -> list[Feedback]:
    """One feedback per text; see the module's text for the items. A source without names and numbers has nothing to keep."""
    return [_judge(prompt, response, ctx) for prompt, response in zip(prompts, responses, strict=True)]


def _judge(prompt: Example, response: Response, ctx: CriticContext) -> Feedback:
    name = feedback_id(response.id, "content-style/facts")
    if response.finish == "error":
        return Feedback(name, response.id, "content-style/facts", error=response.error or "no answer")
    found = {"nothing-invented": ("hard", invented(prompt, response.text, ctx.persona.role))}
    if facts_of(prompt):
        found["facts-kept"] = ("soft", missing(prompt, response.text))
    verdicts = tuple(
        Verdict(item, "fail" if listed else "pass", ", ".join(listed), severity, "substance") for item, (severity, listed) in found.items()
    )
    words = [_WORDS[ctx.language][item].format(found=", ".join(listed)) for item, (_, listed) in found.items() if listed]
    return Feedback(name, response.id, "content-style/facts", verdicts, "\n".join(words))
