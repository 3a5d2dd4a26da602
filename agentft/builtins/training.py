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
    ]


@hookimpl
def agentft_backends() -> list[BackendSpec]:
    return [BackendSpec("transformers", "In process, batched", "agentft.engine.generate:TransformersBackend")]


@hookimpl(trylast=True)
def agentft_resolve_model(reference: str) -> ModelRef | None:
    from agentft.engine.models import resolve_builtin

    return resolve_builtin(reference)
