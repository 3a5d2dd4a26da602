"""What every training method sets up alike: the model with its adapter, and TRL's arguments."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from agentft.contracts import TrainJob
from agentft.errors import TrainingError
from agentft.train.options import LoopOptions

if TYPE_CHECKING:
    from agentft.engine.profile import Profile


def load(job: TrainJob, profile: Profile) -> tuple[Any, Any]:
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


def arguments_for(
    name: str, job: TrainJob, profile: Profile, count: int, validation: bool, further: Mapping[str, Any], micro: int | None = None
) -> Any:
    """TRL's configuration, or transformers'. Fields that the installed version does not have are left out.

    Args:
        name: of the class, for example ``SFTConfig`` or ``TrainingArguments``.
        micro: rows per forward pass where the recipe leaves it out; default from the profile.
        count: rows to train on.
        further: fields of the method; they win over what all methods share.
    """
    import transformers
    import trl

    config: LoopOptions = job.config
    library = trl if hasattr(trl, name) else transformers
    kind = getattr(library, name)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    micro = config.micro_batch or micro or max(n for n in range(1, profile.micro_batch + 1) if config.batch_size % n == 0)
    accumulation = max(1, config.batch_size // (micro * world))
    epoch_steps = math.ceil(math.ceil(count / (micro * world)) / accumulation)
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
        "dataloader_pin_memory": profile.device.startswith("cuda"),
        "push_to_hub": False,
    }
    values |= further
    known = {field.name for field in fields(kind)}
    unknown = sorted(set(config.extra) - known)
    if unknown:
        raise TrainingError(f"extra: {library.__name__}.{name} {library.__version__} has no field '{unknown[0]}'")
    try:
        return kind(**{key: value for key, value in values.items() if key in known}, **config.extra)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"train: {library.__name__} does not take these options: {error}") from error


def shares_prefix(config: LoopOptions, profile: Profile, arguments: Any) -> bool:
    """Whether the tokens that the rows of a batch start with are run once.

    Dropout is drawn per row; in a prefix that is run once it would be the same for all rows.
    """
    lora = config.strategy.lora
    return profile.share_prefix and not arguments.gradient_checkpointing and not (lora and lora.dropout)


def load_bare(job: TrainJob, profile: Profile) -> tuple[Any, Any, Mapping[str, Any] | None]:
    """For trainers of TRL that would copy an adapter they are given: the model without it, its shape, and its weights.

    Returns: the model; configuration of the adapter that TRL is to put on it (None with ``full``); weights to load into it
    (None for a fresh one).
    """
    model, fresh = load(job, profile)
    if job.config.strategy.lora is None or not job.adapter:
        return model, fresh, None
    from peft import get_peft_model_state_dict

    weights = {name: tensor.detach().clone() for name, tensor in get_peft_model_state_dict(model).items()}
    shape = model.peft_config["default"]
    return model.unload(), shape, weights
