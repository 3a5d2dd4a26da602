"""The ``refine:`` part of a recipe: rounds of feedback, as data."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, Strict, model_validator

from agentft.recipe_parts import PartUse
from agentft.validation import Listed, Model

Share = Annotated[float, Field(ge=0, le=1)]


def _low_and_high(value: tuple[float, ...]) -> tuple[float, ...]:
    if len(value) != 2 or not 0 < value[0] <= value[1]:
        raise ValueError("needs two numbers above 0, the smaller one first, such as [0.8, 1.25]")
    return value


Range = Annotated[tuple[float, ...], Strict(False), AfterValidator(_low_and_high)]


class Guardrail(Model):
    """A score that must not become worse: its name, or a mapping with ``use`` and ``margin``."""

    expects: ClassVar[str] = "the name of a score, or a mapping with 'use' and 'margin'"

    use: str = Field(min_length=1, description="name of a score, such as `relevance/facts` or `capability`")
    margin: float = Field(
        default=0.02, ge=0, description="how much worse it may be and still count as not worse, in the score's own unit; 0.02: two points"
    )

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, data: Any) -> Any:
        return {"use": data} if isinstance(data, str) else data


class GateCritic(Model):
    """A critic whose verdicts the gate may look at, because people have checked it."""

    critic: PartUse = Field(description="the critic, such as `{use: judge, model: NAME}`; its score is called `critic/judge`")
    calibration: str | None = Field(
        default=None,
        description="`calibration.json` of `agentft evaluate-critic`, relative to the recipe; the exact critic `rules` needs none",
    )


class Gate(Model):
    """What a candidate has to show before it becomes the champion. All conditions must hold."""

    primary: str = Field(default="persona-adherence", min_length=1, description="score that has to become better")
    minimum: float = Field(default=0.0, description="the 95 % interval of its difference must lie above this")
    guardrails: Listed[Guardrail] = Field(default=(), description="scores that must not become worse")
    critics: Listed[GateCritic] = Field(
        default=(), description="critics that judge the gate's answers; below its bar a critic may advise, and the gate refuses to use it"
    )
    length_ratio: Range = Field(default=(0.8, 1.25), description="words of the candidate's answers / of the champion's")
    distinct_drop: Share = Field(default=0.1, description="by what share distinct-2 may fall")
    stop_drop: Share = Field(default=0.0, description="by how much the share of answers that end by themselves may fall")
    new_hard_failures: int = Field(default=0, ge=0, description="prompts on which a hard item may fail that held before")
    min_prompts: int = Field(default=60, ge=2, description="a gate on fewer independent prompts (groups) is inconclusive")
    promote: Literal["candidate", "best"] = Field(
        default="candidate", description="`best`: the control arm is a candidate as well, and the better one that passes is promoted"
    )


class Sampling(Model):
    """How the champion answers the prompts of a round."""

    candidates: int = Field(default=4, ge=1, le=64, description="sampled answers per prompt; a greedy one is added")
    temperature: float = Field(default=0.9, gt=0, description="of the sampled answers")
    top_p: float = Field(default=0.95, gt=0, le=1, description="of the sampled answers")


class Revision(Model):
    """How answers are revised after feedback in words."""

    model: Any = Field(
        default="champion",
        description="who revises: `champion`, `none`, or another model: `{model: NAME}` or `{url: ..., model: NAME, key_env: NAME}`",
    )
    drafts: int = Field(default=2, ge=1, le=16, description="revisions drawn per answer; the best one is kept")
    per_prompt: int = Field(default=1, ge=1, le=8, description="answers per prompt that are revised, those with most failed items first")
    temperature: float = Field(default=0.8, gt=0, description="of the revisions")


class Pairs(Model):
    """Which pairs are made and kept."""

    from_samples: bool = Field(default=True, description="besides revisions: best sample against a low one")
    anchors: bool = Field(default=False, description="besides: the demonstrated answer against a sample, for prompts that have one")
    margin: float = Field(default=1.0, ge=0, description="items that the chosen answer must pass beyond the rejected one")
    score_margin: float = Field(default=0.5, ge=0, description="or standard deviations of the critics' scalar, where there is one")
    keep_substance: bool = Field(default=True, description="the chosen answer may fail no item of substance that the rejected one meets")
    max_per_prompt: int = Field(default=3, ge=1, description="pairs per prompt, those with the largest margin first")
    length_ratio: Range = Field(default=(0.5, 2.0), description="words of chosen / rejected")
    length_balance: Share = Field(default=0.1, description="by how much the mean lengths of chosen and rejected may differ over the set")
    min_edit: Share = Field(default=0.02, description="share of characters by which the two must differ")
    near_duplicate: Share = Field(default=0.8, description="Jaccard similarity from which a chosen answer counts as a duplicate of another")
    swap: Any = Field(
        default=None, description="judge that has to prefer the chosen answer in both orders: `{model: NAME}` or `{url: ...}`"
    )
    replay: Share = Field(default=0.2, description="pairs of earlier rounds that are mixed in, as a share of the new ones")


class Refine(Model):
    """Rounds: generate, criticise, revise, pair, train, gate."""

    rounds: int = Field(default=1, ge=0, le=20, description="how many rounds `agentft run` does in total")
    prompts: Listed[PartUse] = Field(description="sources of prompts to practise on; what is also in the evaluation is left out")
    max_prompts: int | None = Field(default=None, ge=1, description="practise on at most that many, drawn anew for each round")
    sampling: Sampling = Field(default=Sampling(), description="how the champion answers them")
    critics: Listed[PartUse] = Field(default=(), description="besides `rules`, which always judges first")
    revision: Revision = Field(default=Revision(), description="how answers are revised")
    pairs: Pairs = Field(default=Pairs(), description="which pairs are made and kept")
    train: PartUse = Field(default=PartUse.model_validate("dpo"), description="trainer of the candidate")
    control: PartUse | None = Field(
        default=PartUse.model_validate("sft"), description="trainer of the control arm on the chosen answers; null: none"
    )
    gate: Gate = Field(default=Gate(), description="what a candidate has to show")
    stop_after: int = Field(default=2, ge=1, description="failed gates in a row after which no further round starts")
    min_yield: Share = Field(default=0.1, description="pairs per prompt below which a round stops before training")
