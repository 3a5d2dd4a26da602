"""Built-in trainers, generation backends and model resolution."""

from __future__ import annotations

from agentft.components import BackendSpec, LossSpec, ModelRef, TrainerSpec
from agentft.hookspecs import hookimpl

_TEXTS = "agentft.render.texts"
_HEADS, _LOSSES = "agentft.train.heads", "agentft.train.losses"
_TASKS = {
    "classify": "One class or several per text, by a head on an encoder or a chat model",
    "regress": "A number per text",
    "tag": "A tag per word: named entities and the like",
    "span": "The answer to a question as a piece of a context",
}


@hookimpl
def agentft_trainers() -> list[TrainerSpec]:
    return [
        TrainerSpec("sft", "Supervised fine-tuning on conversations", "agentft.train.sft:train", "agentft.train.sft:SFTConfig"),
        TrainerSpec(
            "dpo",
            "Preference pairs, all of TRL's DPO losses",
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
        TrainerSpec(
            "clm",
            "Raw texts for a chat model: the words and facts of a field",
            "agentft.train.clm:train",
            "agentft.train.clm:ClmConfig",
            consumes="text",
            rows=f"{_TEXTS}:clm_rows",
        ),
        TrainerSpec(
            "mlm",
            "Raw texts for an encoder, by guessing masked tokens",
            "agentft.train.mlm:train",
            "agentft.train.mlm:MlmConfig",
            consumes="text",
            produces="encoder",
            rows=f"{_TEXTS}:mlm_rows",
        ),
        TrainerSpec(
            "seq2seq",
            "Conversations for an encoder-decoder such as T5, BART or Marian",
            "agentft.train.seq2seq:train",
            "agentft.train.seq2seq:Seq2SeqConfig",
            produces="seq2seq",
            rows=f"{_TEXTS}:seq2seq_rows",
        ),
        *(
            TrainerSpec(
                name,
                summary,
                f"{_HEADS}:train",
                f"{_HEADS}:{name.capitalize()}Config",
                consumes="labelled",
                produces="head",
                rows=f"agentft.render.heads:{name}_rows",
            )
            for name, summary in _TASKS.items()
        ),
        TrainerSpec(
            "few-shot",
            "No training: similar training conversations stand in front of each prompt",
            "agentft.train.fewshot:train",
            "agentft.train.fewshot:FewShotConfig",
            produces="examples",
        ),
    ]


@hookimpl
def agentft_losses() -> list[LossSpec]:
    return [
        LossSpec("cross-entropy", "For classes and tags", f"{_LOSSES}:cross_entropy", f"{_LOSSES}:CrossEntropyOptions", consumes="class"),
        LossSpec(
            "focal", "Cross-entropy that looks away from what is easy", f"{_LOSSES}:focal", f"{_LOSSES}:FocalOptions", consumes="class"
        ),
        LossSpec("mse", "Squared error", f"{_LOSSES}:mse", consumes="number"),
        LossSpec("mae", "Absolute error", f"{_LOSSES}:mae", consumes="number"),
        LossSpec("huber", "Squared error that grows linearly far out", f"{_LOSSES}:huber", f"{_LOSSES}:HuberOptions", consumes="number"),
    ]


@hookimpl
def agentft_backends() -> list[BackendSpec]:
    return [
        BackendSpec("transformers", "In process, batched", "agentft.engine.generate:TransformersBackend"),
        BackendSpec(
            "llamacpp",
            "A GGUF file on llama.cpp, in process, for CPUs",
            "agentft.engine.llamacpp:LlamaCppBackend",
            "agentft.engine.llamacpp:LlamaCppConfig",
            requires=("xllamacpp>=2026.1",),
            loads=False,
            reads="gguf",
        ),
        BackendSpec(
            "http",
            "One or several OpenAI-compatible servers",
            "agentft.engine.http:open_http",
            "agentft.engine.http:HttpConfig",
            loads=False,
            reads="name",
        ),
        BackendSpec(
            "ray",
            "Another backend in several processes, with Ray Data",
            "agentft.engine.fanout:RayBackend",
            "agentft.engine.fanout:RayConfig",
            requires=("ray[data]>=2.40,<2.64",),
            loads=False,
        ),
    ]


@hookimpl(trylast=True)
def agentft_resolve_model(reference: str) -> ModelRef | None:
    from agentft.engine.models import resolve_builtin

    return resolve_builtin(reference)
