"""Built-in critics."""

from __future__ import annotations

from agentft.components import CriticSpec
from agentft.hookspecs import hookimpl

_F = "agentft.feedback"


@hookimpl
def agentft_critics() -> list[CriticSpec]:
    return [
        CriticSpec("rules", "The persona's checklist, decided by its declarative rules", f"{_F}.rules:rules"),
        CriticSpec("judge", "A model asked item by item, yes or no, with evidence", f"{_F}.judge:judge", f"{_F}.judge:JudgeConfig"),
        CriticSpec(
            "reward-model",
            "A number from a model trained on preferences",
            f"{_F}.reward_model:reward_model",
            f"{_F}.reward_model:RewardModelConfig",
        ),
        CriticSpec("human", "What people said on the page of `agentft annotate`", f"{_F}.human:human", f"{_F}.human:HumanConfig"),
    ]
