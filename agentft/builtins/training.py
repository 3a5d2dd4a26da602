"""Built-in trainers, generation backends and model resolution."""

from __future__ import annotations

from agentft.components import BackendSpec, ModelRef, TrainerSpec
from agentft.hookspecs import hookimpl


@hookimpl
def agentft_trainers() -> list[TrainerSpec]:
    return [
        TrainerSpec(
            "sft", "Supervised fine-tuning on conversations, full or LoRA", "agentft.train.sft:train", "agentft.train.sft:SFTConfig"
        ),
        TrainerSpec(
            "dpo",
            "Preference pairs, all of TRL's DPO losses, full or LoRA",
            "agentft.train.dpo:train",
            "agentft.train.dpo:DPOConfig",
            consumes="preference",
        ),
        TrainerSpec(
            "kto",
            "Single answers with a thumb up or down, or pairs taken apart",
            "agentft.train.kto:train",
            "agentft.train.kto:KTOConfig",
            consumes="preference",
        ),
        TrainerSpec(
            "reward",
            "A reward model on preference pairs, for the critic reward-model",
            "agentft.train.reward:train",
            "agentft.train.reward:RewardConfig",
            consumes="preference",
            produces="reward",
        ),
    ]


@hookimpl
def agentft_backends() -> list[BackendSpec]:
    return [BackendSpec("transformers", "In process, batched", "agentft.engine.generate:TransformersBackend")]


@hookimpl(trylast=True)
def agentft_resolve_model(reference: str) -> ModelRef | None:
    from agentft.engine.models import resolve_builtin

    return resolve_builtin(reference)
