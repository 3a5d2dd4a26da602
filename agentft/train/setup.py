"""What every training method sets up alike: the model with its adapter, and TRL's arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from agentft import processes
from agentft.contracts import TrainJob
from agentft.errors import TrainingError
from agentft.train.optimisers import fields_of
from agentft.train.options import LoopOptions
from agentft.train.strategies import Strategy

if TYPE_CHECKING:
    from agentft.engine.profile import Profile
    from agentft.train.rows import Rows

MICRO_BATCH = 8  # where neither the recipe nor an estimate of memory says anything


def with_strategy(
    model: Any, strategy: Strategy, *, task_type: str, heads: Sequence[str] = (), job_seed: int | None = None
) -> tuple[Any, Any]:
    """Let move what ``strategy`` says, and nothing else.

    Args:
        model: of transformers, without an adapter, with all parameters movable.
        task_type: of PEFT: ``CAUSAL_LM``, ``SEQ_CLS``, ``TOKEN_CLS`` ...
        heads: names of modules that are new and must be trained in any case, such as ``score``; none for a language model.
        job_seed: seeds what is drawn when the adapter is put on the model.

    Returns: the model, with frozen parameters where the strategy is ``freeze``; and the configuration of a fresh adapter for
        ``get_peft_model`` or a trainer of TRL, None where a full model is trained.

    Raises:
        TrainingError: the strategy does not fit the model.
    """
    from agentft.train.adapters import adapter_config
    from agentft.train.freezing import freeze

    if job_seed is not None:
        from transformers import set_seed

        set_seed(job_seed)
    if strategy.adapter:
        return model, adapter_config(model, strategy, task_type, heads)
    if strategy.freeze is not None:
        freeze(model, strategy.freeze, heads)
    return model, None


def frozen_dtype(strategy: Strategy, profile: Profile) -> str:
    """The dtype in which the model is loaded for training; its trainable weights are float32 in any case.

    Under an adapter the model is frozen: it needs no float32 copy. On two CPU cores that saves a seventh of the time and a third of
    the memory; gradients differ from those of float32 by 3.6 %, with float32 weights under autocast by 2.8 %. What is sharded
    together must have one dtype, so under FSDP and ZeRO it stays in float32.
    """
    return profile.train_dtype if strategy.adapter and not processes.shards() else "float32"


def quantisation(strategy: Strategy, profile: Profile) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` that hold the frozen weights in 4 bits; empty for all strategies but ``qlora``.

    Raises:
        TrainingError: this machine has no CUDA GPU.
    """
    if strategy.qlora is None:
        return {}
    if not profile.device.startswith("cuda"):
        raise TrainingError(f"strategy: qlora needs a CUDA GPU, and this job runs on {profile.device}; use lora")
    import torch
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, profile.train_dtype),
    )
    return {"quantization_config": config, "device_map": {"": profile.device}}


def load(job: TrainJob, profile: Profile, kind: str = "AutoModelForCausalLM", task_type: str = "CAUSAL_LM") -> tuple[Any, Any]:
    """The model to train, and the configuration of a fresh adapter (None where there is nothing to add)."""
    from agentft.engine.models import load_model
    from agentft.train.adapters import why_not_continued

    strategy = job.config.strategy
    further = quantisation(strategy, profile)
    if processes.shards():
        profile = replace(profile, device="cpu")  # a GPU need not hold the whole model; accelerate moves the shards there
    model = load_model(
        job.model,
        profile,
        adapter=job.adapter,
        trainable=True,
        dtype=frozen_dtype(strategy, profile),
        prepare=_prepare,
        kind=kind,
        **further,
    )
    if not job.adapter:
        return with_strategy(model, strategy, task_type=task_type, job_seed=job.seed)
    had = model.peft_config["default"]
    if strategy.adapter:
        if reason := why_not_continued(had, strategy):
            raise TrainingError(f"this stage continues the adapter of the stage before it, which {reason}")
        return model, None
    if had.is_prompt_learning:
        raise TrainingError(
            f"strategy: {strategy.name} cannot follow a stage with virtual tokens, which cannot be merged into the model's weights; "
            "continue with the same strategy, or use lora in the stage before"
        )
    return with_strategy(model.merge_and_unload().requires_grad_(), strategy, task_type=task_type, job_seed=job.seed)


def arguments_for(
    name: str,
    job: TrainJob,
    profile: Profile,
    count: int,
    validation: bool,
    further: Mapping[str, Any],
    micro: int | None = None,
    fit: Rows | None = None,
    sides: int = 1,
) -> Any:
    """TRL's configuration, or transformers'. Fields that the installed version does not have are left out.

    Args:
        name: of the class, for example ``SFTConfig`` or ``TrainingArguments``.
        micro: rows per forward pass where the recipe leaves it out; default: as many as fit into memory.
        fit: the rows to train on, from whose lengths that is estimated; ``sides``: two where each is a pair.
        count: rows to train on.
        further: fields of the method; they win over what all methods share.
    """
    import transformers
    import trl

    from agentft.train.fitting import Plan, keep
    from agentft.train.fitting import plan as fitting

    config: LoopOptions = job.config
    library = trl if hasattr(trl, name) else transformers
    kind = getattr(library, name)
    world = processes.world()
    if world > 1 and config.strategy.virtual and name in ("DPOConfig", "KTOConfig"):
        raise TrainingError(
            f"strategy: {config.strategy.name} with preferences runs in one process only: TRL's own losses do not know of virtual tokens; "
            "start it without torchrun, or use lora"
        )
    if config.batch_size % world:
        raise TrainingError(f"batch_size {config.batch_size} is over all processes and cannot be divided by {world} of them")
    # The batch is the recipe's, however many processes share it: a checkpoint can be continued by another number of them.
    each = config.batch_size // world
    checkpointing = profile.gradient_checkpointing if config.gradient_checkpointing is None else config.gradient_checkpointing
    if config.strategy.prefix_tuning is not None:
        checkpointing = False  # it drops the cache in which the keys and values of the prefix are
    micro = config.micro_batch or micro or profile.micro_batch or None
    one = max(n for n in range(1, (micro or MICRO_BATCH) + 1) if config.batch_size % n == 0)
    plan = Plan(max(n for n in range(1, min(one, each) + 1) if each % n == 0))
    # Several processes must agree on it, and each sees other memory.
    if micro is None and fit is not None and world == 1:
        share = profile.share_prefix and not _draws(config)
        plan = fitting(job, profile, fit, share=share, checkpointing=checkpointing, sides=sides) or plan
        if job.note is not None:
            job.note(str(plan))
    keep(job, plan)
    micro = plan.micro_batch
    accumulation = max(1, each // micro)
    epoch_steps = math.ceil(math.ceil(count / (micro * world)) / accumulation)
    steps = int(config.extra.get("max_steps", 0)) or math.ceil(epoch_steps * config.epochs)
    eval_every = config.eval_every or epoch_steps
    save_every = config.save_every or (min(epoch_steps, max(10, steps // 10)) if config.strategy.adapter else epoch_steps)
    values: dict[str, Any] = {
        "output_dir": str(job.out / "checkpoints"),
        "num_train_epochs": config.epochs,
        "per_device_train_batch_size": micro,
        "per_device_eval_batch_size": one,  # the validation loss is a mean over batches: the same ones, however training is cut
        "gradient_accumulation_steps": accumulation,
        "learning_rate": config.rate,
        # The trainer makes the schedule itself, see Watched.create_scheduler; this is what a tracker shows.
        "lr_scheduler_type": config.scheduler if config.scheduler in ("linear", "cosine") else "constant_with_warmup",
        "warmup_steps": config.warmup_steps(steps),
        **fields_of(config),
        "max_grad_norm": config.max_grad_norm,
        "seed": job.seed,
        "data_seed": job.seed,
        "bf16": profile.train_dtype == "bfloat16",
        "fp16": profile.train_dtype == "float16",
        "use_cpu": profile.device == "cpu",
        "gradient_checkpointing": checkpointing,
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
        "ddp_find_unused_parameters": False,  # what does not move is frozen; looking for it costs a pass over the graph per step
        "dataloader_pin_memory": profile.device.startswith("cuda"),
        "push_to_hub": False,
    }
    values |= further
    known = {field.name for field in fields(kind)}
    unknown = sorted(set(config.extra) - known)
    if unknown:
        raise TrainingError(f"extra: {library.__name__}.{name} {library.__version__} has no field '{unknown[0]}'")
    try:
        return kind(**{key: value for key, value in values.items() if key in known and key not in config.extra}, **config.extra)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"train: {'TRL' if library is trl else 'transformers'} does not take these options: {error}") from error


def _draws(config: LoopOptions) -> bool:
    lora = config.strategy.low_rank
    return bool(config.dropout or (lora and lora.dropout))


def load_bare(job: TrainJob, profile: Profile) -> tuple[Any, Any, Mapping[str, Any] | None]:
    """For trainers of TRL that would copy an adapter they are given: the model without it, its shape, and its weights.

    Returns: the model; configuration of the adapter that TRL is to put on it (None where a full model is trained); weights to load
    into it (None for a fresh one).
    """
    model, fresh = load(job, profile)
    if not job.config.strategy.adapter or not job.adapter:
        return model, fresh, None
    from peft import get_peft_model_state_dict

    weights = {name: tensor.detach().clone() for name, tensor in get_peft_model_state_dict(model).items()}
    shape = model.peft_config["default"]
    return model.get_base_model() if shape.is_prompt_learning else model.unload(), shape, weights


def _prepare(model: Any) -> Any:
    """A quantised model as PEFT wants it before there is an adapter on it: norms in float32, nothing but the adapter movable."""
    from peft import prepare_model_for_kbit_training

    quantised = getattr(model, "is_loaded_in_4bit", False)
    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False) if quantised else model
