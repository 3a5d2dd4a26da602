"""Supervised fine-tuning: the model learns to answer like the demonstrations. Full model or LoRA, through TRL."""

from __future__ import annotations

import math
import os
import shutil
import time
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from pydantic import model_validator

from agentft.contracts import TrainJob, TrainResult
from agentft.errors import TrainingError
from agentft.train.options import LoopOptions, check_extra

if TYPE_CHECKING:
    from agentft.engine.profile import Profile
    from agentft.train.rows import Rows

# TRL fields that may not be set under `extra:`, and what to use instead.
_OURS = {
    "num_train_epochs": "use epochs",
    "learning_rate": "use learning_rate",
    "per_device_train_batch_size": "use micro_batch",
    "gradient_accumulation_steps": "it follows from batch_size and micro_batch",
    "lr_scheduler_type": "use scheduler",
    "warmup_steps": "use warmup",
    "warmup_ratio": "use warmup",
    "weight_decay": "use weight_decay",
    "max_grad_norm": "use max_grad_norm",
    "save_steps": "use save_every",
    "eval_steps": "use eval_every",
    "logging_steps": "use log_every",
    "report_to": "use report_to",
    "gradient_checkpointing": "use gradient_checkpointing",
    "seed": "use the recipe's seed",
    "data_seed": "use the recipe's seed",
    "output_dir": "the run store decides",
    "bf16": "use `device: {train_dtype: ...}`",
    "fp16": "use `device: {train_dtype: ...}`",
    "use_cpu": "use `device: {device: ...}`",
    "max_length": "rows are cut or dropped when they are rendered (data.max_length)",
    "packing": "rows are rendered one by one; the shared prefix is already run only once",
    "padding_free": "rows are rendered one by one; the shared prefix is already run only once",
    "assistant_only_loss": "the mask comes from our rendering",
    "completion_only_loss": "the mask comes from our rendering",
    "chat_template_path": "the chat template of the model is used, everywhere",
    "dataset_kwargs": "rows are prepared by agentft",
    "trust_remote_code": "agentft never runs code that comes with a model",
    "push_to_hub": "agentft sends nothing; upload the result by hand",
}


class SFTConfig(LoopOptions):
    """Options of ``use: sft``."""

    @model_validator(mode="after")
    def _extra_fields(self) -> SFTConfig:
        check_extra(self.extra, "SFTConfig", _OURS)
        return self


def train(job: TrainJob) -> TrainResult:
    """Train on ``job.rows`` and leave an adapter (``out/adapter``) or a model (``out/model``) as safetensors.

    ``out/metrics.jsonl`` gets a line per logging step. ``out/checkpoints`` exists until training is complete; a call with the
    same job continues from the last complete checkpoint, and ends with the same weights as one that was not interrupted.

    Raises:
        TrainingError: nothing to learn from, a loss or gradient that is not finite, not enough memory, or options that
            contradict each other.
    """
    from agentft.engine.profile import Profile
    from agentft.engine.quiet import quiet_libraries
    from agentft.train.checkpoints import claim, remember

    result = claim(job)
    if result is None:
        profile = Profile.from_dict(job.device)
        profile.apply()
        with quiet_libraries():
            result = _train(job, profile)
        remember(job, result)
    shutil.rmtree(job.out / "checkpoints", ignore_errors=True)
    return result


def _train(job: TrainJob, profile: Profile) -> TrainResult:
    from peft.tuners.lora import LoraLayer
    from transformers import EarlyStoppingCallback, PrinterCallback

    from agentft.engine.models import load_tokenizer
    from agentft.train.checkpoints import cut_log, last_complete, step_of
    from agentft.train.loop import Collator, EpochOrder, Monitor, Trainer
    from agentft.train.outcome import evaluated_at, memory_advice, save, summary
    from agentft.train.rows import read_rows

    config: SFTConfig = job.config
    started = time.perf_counter()
    rows = read_rows(job.rows)
    validation = read_rows(job.validation) if job.validation and job.validation.stat().st_size else None
    if config.early_stopping and validation is None:
        raise TrainingError("early_stopping needs validation rows; set data.split.validation, or remove early_stopping")
    log = job.out / "metrics.jsonl"
    checkpoint = last_complete(job.out / "checkpoints")
    cut_log(log, step_of(checkpoint) if checkpoint else 0)

    model, peft_config = _model(job, profile)
    arguments = _arguments(job, profile, rows, validation is not None)
    lora = config.strategy.lora
    # Dropout is drawn per row; in a prefix that is run once it would be the same for all rows.
    share = profile.share_prefix and not arguments.gradient_checkpointing and not (lora and lora.dropout)
    monitor = Monitor(log, job.progress, check_gradient=not arguments.fp16)
    trainer = Trainer(
        order=EpochOrder(rows.lengths, config.batch_size, job.seed),
        ids=rows.ids,
        share_prefix=share,
        model=model,
        args=arguments,
        data_collator=Collator(job.pad_token_id),
        train_dataset=rows.dataset,
        eval_dataset=validation.dataset if validation else None,
        processing_class=load_tokenizer(job.model),
        peft_config=peft_config,
        callbacks=[monitor, *([EarlyStoppingCallback(config.early_stopping)] if config.early_stopping else [])],
    )
    trainer.remove_callback(PrinterCallback)
    for module in trainer.model.modules():
        if isinstance(module, LoraLayer):  # PEFT would turn its input to float32, and autocast turn it back
            module.cast_input_dtype_enabled = profile.train_dtype == "float32"
    monitor.trainer = trainer
    with memory_advice(trainer, profile):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if validation and not config.early_stopping and not evaluated_at(log, trainer.state.global_step):
            trainer.evaluate()
    folder = save(job, trainer, adapter=lora is not None)
    parameters = list(trainer.model.parameters())
    return TrainResult(
        adapter=folder if lora else None,
        model=None if lora else folder,
        metrics=summary(log, trainer, rows, seconds=time.perf_counter() - started),
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        total=sum(p.numel() for p in parameters),
    )


def _model(job: TrainJob, profile: Profile) -> tuple[Any, Any]:
    """The model to train, and the configuration of a fresh adapter (None where there is nothing to add)."""
    from agentft.engine.models import load_model

    lora = job.config.strategy.lora
    # Under LoRA the model is frozen: it needs no float32 copy. On two CPU cores that saves a seventh of the time and a
    # third of the memory; gradients differ from those of float32 by 3.6 %, with float32 weights under autocast by 2.8 %.
    model = load_model(job.model, profile, adapter=job.adapter, trainable=True, dtype=profile.train_dtype if lora else "float32")
    if lora is None:
        return (model.merge_and_unload().requires_grad_() if job.adapter else model), None
    if job.adapter:
        had = model.peft_config["default"]
        if (had.r, had.lora_alpha) != (lora.r, lora.alpha):
            raise TrainingError(
                f"this stage continues the adapter of the stage before it, which has r={had.r} and alpha={had.lora_alpha:g}, "
                f"not r={lora.r} and alpha={lora.alpha:g}; use the same values in both"
            )
        return model, None
    from peft import LoraConfig

    modules = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    return model, LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=modules, bias="none", task_type="CAUSAL_LM"
    )


def _arguments(job: TrainJob, profile: Profile, rows: Rows, validation: bool) -> Any:
    """TRL's configuration. Fields that the installed TRL does not have are left out."""
    import trl

    config: SFTConfig = job.config
    world = int(os.environ.get("WORLD_SIZE", "1"))
    micro = config.micro_batch or max(n for n in range(1, profile.micro_batch + 1) if config.batch_size % n == 0)
    accumulation = max(1, config.batch_size // (micro * world))
    epoch_steps = math.ceil(math.ceil(len(rows.ids) / (micro * world)) / accumulation)
    steps = int(config.extra.get("max_steps", 0)) or math.ceil(epoch_steps * config.epochs)
    eval_every = config.eval_every or epoch_steps
    save_every = config.save_every or (min(epoch_steps, max(10, steps // 10)) if config.strategy.lora else epoch_steps)
    values: dict[str, Any] = {
        "output_dir": str(job.out / "checkpoints"),
        "num_train_epochs": config.epochs,
        "per_device_train_batch_size": micro,
        "per_device_eval_batch_size": micro,
        "gradient_accumulation_steps": accumulation,
        "learning_rate": config.rate,
        "lr_scheduler_type": "constant_with_warmup" if config.scheduler == "constant" else config.scheduler,
        "warmup_steps": math.ceil(config.warmup * steps),
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "seed": job.seed,
        "data_seed": job.seed,
        "bf16": profile.train_dtype == "bfloat16",
        "fp16": profile.train_dtype == "float16",
        "use_cpu": profile.device == "cpu",
        "gradient_checkpointing": profile.gradient_checkpointing
        if config.gradient_checkpointing is None
        else config.gradient_checkpointing,
        "logging_strategy": "steps",
        "logging_steps": config.log_every or max(1, steps // 500),
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # we stop instead
        "save_strategy": "steps",
        "save_steps": eval_every if config.early_stopping else save_every,
        "save_total_limit": 2,
        "eval_strategy": "steps" if validation else "no",
        "eval_steps": eval_every,
        "prediction_loss_only": True,
        "load_best_model_at_end": bool(config.early_stopping),
        "metric_for_best_model": "eval_loss" if config.early_stopping else None,
        "greater_is_better": False if config.early_stopping else None,
        "restore_callback_states_from_checkpoint": bool(config.early_stopping),
        "report_to": list(config.report_to),
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "max_length": None,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "dataloader_pin_memory": profile.device.startswith("cuda"),
        "push_to_hub": False,
    }
    known = {field.name for field in fields(trl.SFTConfig)}
    unknown = sorted(set(config.extra) - known)
    if unknown:
        raise TrainingError(f"extra: trl.SFTConfig {trl.__version__} has no field '{unknown[0]}'")
    try:
        return trl.SFTConfig(**{key: value for key, value in values.items() if key in known}, **config.extra)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"train: TRL does not take these options: {error}") from error
