"""``reward-model``: the critic that gives a number, from a model that was trained on preferences (``use: reward``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import Field

from agentft.contracts import CriticContext
from agentft.errors import RecipeError
from agentft.feedback.rules import feedback_id
from agentft.records import Example, Feedback, Response
from agentft.validation import Model


class RewardModelConfig(Model):
    """Options of the critic ``reward-model``."""

    path: str | None = Field(
        None, description="folder of a trained reward model, relative to the recipe; left out: the recipe's own `use: reward`"
    )


def reward_model(
    prompts: Sequence[Example], responses: Sequence[Response], config: RewardModelConfig, ctx: CriticContext
) -> list[Feedback]:
    """A scalar per response; it decides between answers that the checklist cannot tell apart.

    Raises:
        RecipeError: no reward model is named, and the recipe trains none.
    """
    from agentft.engine.reward import RewardModel

    path = ctx.base / config.path if config.path else ctx.reward
    if path is None or ctx.resolve_model is None:
        raise RecipeError("critic 'reward-model': name a trained one with path:, or train one with `use: reward`")
    model: Any = RewardModel.load(path, resolve=ctx.resolve_model, system=ctx.system, device=ctx.device, tools=ctx.persona.schemas)
    judged = [i for i, response in enumerate(responses) if response.finish != "error" and not response.message.empty]
    complete = [replace(prompts[i], messages=(*prompts[i].messages, responses[i].message.stripped)) for i in judged]
    done = 0

    def on_batch(count: int) -> None:
        nonlocal done
        done += count
        if ctx.progress is not None:
            ctx.progress(done, len(judged))

    scores = dict(zip(judged, model.score(complete, on_batch), strict=True))
    return [
        Feedback(feedback_id(response.id, "reward-model"), response.id, "reward-model", score=scores[index])
        if index in scores
        else Feedback(feedback_id(response.id, "reward-model"), response.id, "reward-model", error=response.error or "nothing to score")
        for index, response in enumerate(responses)
    ]
