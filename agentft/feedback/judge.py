"""``judge``: the critic that asks a model, item by item, yes or no, with evidence. Majority of several tries, seeded order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Literal

from pydantic import Field

from agentft.contracts import CriticContext, GenerationSettings
from agentft.errors import RecipeError
from agentft.feedback.parse import parse_items
from agentft.feedback.prompts import ModelUse
from agentft.feedback.rules import critique, feedback_id
from agentft.jinja import render_text
from agentft.persona import Policy
from agentft.records import Example, Feedback, Message, Response, Verdict
from agentft.validation import Listed, Model


class JudgeConfig(Model):
    """Options of the critic ``judge``."""

    model: ModelUse = Field(description="who judges: a model name, or `{url: ..., model: NAME, key_env: NAME}`")
    items: Literal["undecided", "all"] | Listed[str] = Field(
        "undecided", description="`undecided`: the checklist items that no rule decides; `all`; or their ids"
    )
    repeats: int = Field(3, ge=1, le=9, description="tries per answer, the majority counts; without one an item stays unscored")
    temperature: float = Field(0.7, ge=0, description="of the tries; 0 makes them alike, so one is enough then")
    max_new_tokens: int = Field(256, ge=8, description="longest judgement in tokens")


def judge(prompts: Sequence[Example], responses: Sequence[Response], config: JudgeConfig, ctx: CriticContext) -> list[Feedback]:
    """One verdict per asked item. A judgement that cannot be read counts as none; where none of an answer's tries can be read,
    or the judge cannot be reached, the feedback has ``error`` and is asked for again by the next try.

    Raises:
        RecipeError: the persona has no such item, or there is no item to ask about.
    """
    items = asked_items(config.items, ctx)
    if ctx.open_model is None or ctx.template is None:
        raise RecipeError("the critic 'judge' needs a model and a template from its caller")
    backend, template = ctx.open_model(config.model), ctx.template("critique")
    repeats = 1 if config.temperature == 0 else config.repeats
    asked: list[Example] = []
    applicable: dict[str, list[Policy]] = {}
    for prompt, response in zip(prompts, responses, strict=True):
        if response.finish == "error":
            continue
        # An answer that calls a tool goes on after it: nothing can be said yet about how it answers.
        applicable[response.id] = [item for item in items if not response.calls and (item.when is None or item.when.applies(prompt))]
        for number in range(repeats if applicable[response.id] else 0):
            # Another order in each try: what stands first is favoured by many judges.
            order = Random(f"{ctx.seed}:{response.id}:{number}").sample(applicable[response.id], len(applicable[response.id]))
            asked.append(question(f"{response.id}~{number}", prompt, response.text, order, template, ctx))
    settings = GenerationSettings(config.max_new_tokens, config.temperature, 1.0, seed=ctx.seed)
    count = 0

    def on_batch(found: Sequence[Response]) -> None:
        nonlocal count
        count += len(found)
        if ctx.progress is not None:
            ctx.progress(count, len(asked))

    replies: dict[str, list[Response]] = {}
    for reply in backend.generate(asked, settings, on_batch):
        replies.setdefault(reply.id.rpartition("~")[0], []).append(reply)
    return [_feedback(response, items, applicable.get(response.id, []), replies.get(response.id, []), ctx) for response in responses]


def asked_items(wanted: Any, ctx: CriticContext) -> list[Policy]:
    """The persona's items that a judge is asked about.

    Raises:
        RecipeError: there are none, or one that the persona does not have.
    """
    policies = {policy.id: policy for policy in ctx.persona.policies}
    if wanted == "all":
        found = list(policies.values())
    elif wanted == "undecided":
        found = [policy for policy in policies.values() if policy.rule is None]
    else:
        if missing := [name for name in wanted if name not in policies]:
            raise RecipeError(f"critic 'judge': the persona has no item '{missing[0]}' (items: {', '.join(policies)})")
        found = [policies[name] for name in wanted]
    if not found:
        raise RecipeError("critic 'judge': every item of the persona has a rule; set items: all, or name some")
    return found


def question(name: str, prompt: Example, text: str, items: Sequence[Policy], template: str, ctx: CriticContext) -> Example:
    """What the judge is asked."""
    variables: Mapping[str, Any] = {
        "conversation": [{"role": m.role, "content": m.content} for m in prompt.messages],
        "prompt": prompt.last_user,
        "response": text.strip(),
        "items": [{"id": item.id, "text": item.text} for item in items],
        "persona": ctx.persona.context()["persona"],
    }
    return Example(name, (Message("user", render_text(template, variables, "template 'critique'").strip()),))


def _feedback(
    response: Response, items: Sequence[Policy], applicable: Sequence[Policy], replies: Sequence[Response], ctx: CriticContext
) -> Feedback:
    name = feedback_id(response.id, "judge")
    if response.finish == "error":
        return Feedback(name, response.id, "judge", error=response.error or "no answer to judge")
    failed = [reply.error for reply in replies if reply.finish == "error"]
    if replies and len(failed) == len(replies):
        return Feedback(name, response.id, "judge", error=failed[0])
    votes = [parse_items(reply.text, [item.id for item in applicable]) for reply in replies if reply.finish != "error"]
    if votes and not any(votes):
        return Feedback(name, response.id, "judge", error="no judgement could be read")
    verdicts = [_verdict(item, item in applicable, [vote[item.id] for vote in votes if item.id in vote], len(votes)) for item in items]
    return Feedback(name, response.id, "judge", tuple(verdicts), critique(verdicts, ctx.persona))


def _verdict(item: Policy, applies: bool, votes: Sequence[tuple[str, str]], tries: int) -> Verdict:
    if not applies:
        return Verdict(item.id, "n.a.", "does not apply to this prompt or answer", item.severity, item.kind)
    counts = Counter(verdict for verdict, _ in votes)
    verdict, most = counts.most_common(1)[0] if counts else ("unscored", 0)
    # More than half of all tries, the unreadable ones included: silence is no consent.
    if 2 * most <= tries:
        return Verdict(item.id, "unscored", f"no majority in {tries} tries ({tries - len(votes)} unreadable)", item.severity, item.kind)
    evidence = next((text for found, text in votes if found == verdict and text), "")
    return Verdict(item.id, verdict, evidence, item.severity, item.kind)
