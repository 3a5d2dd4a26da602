"""Options of a trainer: the part that several methods share, and the check of what goes to TRL under ``extra:``.

Nothing here imports torch or TRL: a recipe is checked before they are.
"""

from __future__ import annotations

import ast
import importlib.util
import math
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from agentft.errors import did_you_mean
from agentft.train.optimisers import check_name, full_name
from agentft.train.schedules import Scheduler
from agentft.train.strategies import FullOptions, LoraOptions, Strategy
from agentft.validation import Listed, Model

__all__ = ["OURS", "FullOptions", "LoopOptions", "LoraOptions", "Strategy", "check_extra", "config_fields"]


class LoopOptions(Model):
    """What every training loop of this package can be told."""

    strategy: Strategy = Field(default_factory=lambda: Strategy.model_validate("lora"), description="Which parameters move, see below.")
    epochs: float = Field(3.0, gt=0, description="Passes over the training rows.")
    learning_rate: float | None = Field(
        None, gt=0, description="Peak rate. Default: 2e-4 with lora, 2e-5 with full and freeze, 2e-2 with prompt-tuning."
    )
    batch_size: int = Field(8, ge=1, description="Rows per optimiser step, over all devices.")
    micro_batch: int | None = Field(None, ge=1, description="Rows per forward pass; default: as many as memory allows. Divides batch_size.")
    scheduler: Scheduler = Field("linear", description="How the rate falls after the warm-up.")
    final_rate: float | None = Field(
        None, ge=0, lt=1, description="Where the rate ends, as a share of the peak. Default: 0, with `exponential` 0.01."
    )
    cooldown: float | None = Field(
        None, gt=0, le=1, description="Share of the steps over which the rate falls with `scheduler: wsd`. Default: 0.2."
    )
    warmup: Annotated[int, Field(ge=1)] | Annotated[float, Field(ge=0, lt=1)] = Field(
        0.05, description="Steps over which the rate rises: a share of all below 1, a number from 1 on."
    )
    optimizer: str = Field(
        "adamw", description="`adamw`, `adafactor`, `sgd`, `lion`, `adamw_8bit`, or another name of transformers' `OptimizerNames`."
    )
    betas: Listed[float] | None = Field(
        None, description="The two decay rates of Adam's averages (also of Lion's); default of transformers: 0.9 and 0.999."
    )
    eps: float | None = Field(None, gt=0, description="Added to Adam's denominator; default of transformers: 1e-8.")
    weight_decay: float = Field(0.0, ge=0, description="Weights are pulled towards 0 by so much; biases and norms are not.")
    layer_decay: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Each layer's rate is that of the layer above times this number; the head has the full rate. 0.9 is usual.",
    )
    dropout: float | None = Field(
        None, ge=0, lt=1, description="Sets every dropout of the model. Above 0 what rows have in common is run for each of them."
    )
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are scaled down to this norm.")
    early_stopping: int | None = Field(
        None,
        ge=1,
        description="Stop after this many evaluations without a better validation loss, and keep the best. Needs validation rows.",
    )
    eval_every: int | None = Field(None, ge=1, description="Steps between evaluations; default once per epoch.")
    save_every: int | None = Field(
        None, ge=1, description="Steps between checkpoints; default: ten over the run with lora, one per epoch with full."
    )
    log_every: int | None = Field(None, ge=1, description="Steps between lines of metrics.jsonl; default about 500 lines over the run.")
    gradient_checkpointing: bool | None = Field(None, description="Less memory, more time; default from the device profile.")
    report_to: Listed[str] = Field((), description="Trackers of transformers, for example `tensorboard` or `trackio`.")
    extra: dict[str, Any] = Field(default_factory=dict, description="Further fields of the trainer's own TRL config.")

    @field_validator("strategy", mode="before")
    @classmethod
    def _bare_word(cls, value: Any) -> Any:
        return "lora" if value is None else value

    @model_validator(mode="after")
    def _micro_batch_divides(self) -> LoopOptions:
        if self.micro_batch and self.batch_size % self.micro_batch:
            raise ValueError(f"micro_batch {self.micro_batch} must divide batch_size {self.batch_size}")
        return self

    @model_validator(mode="after")
    def _optimisation(self) -> LoopOptions:
        if "optim" in self.extra:
            if self.optimizer != "adamw":
                raise ValueError("optimizer and extra.optim say the same; keep optimizer")
        else:
            check_name(self.optimizer)
        if self.betas is not None and (len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas)):
            raise ValueError("'betas' are two numbers of at least 0 and below 1, such as [0.9, 0.999]")
        name = full_name(self.optimizer)
        if (self.betas is not None and not ("adam" in name or "lion" in name)) or (self.eps is not None and "adam" not in name):
            raise ValueError(f"betas and eps belong to Adam, and optimizer '{self.optimizer}' does not take them")
        if self.final_rate is not None and self.scheduler == "constant":
            raise ValueError("scheduler 'constant' does not fall; remove final_rate")
        if self.final_rate == 0 and self.scheduler == "exponential":
            raise ValueError("an exponential never arrives at 0; use a final_rate such as 0.01, or scheduler: linear")
        if self.cooldown is not None and self.scheduler != "wsd":
            raise ValueError("cooldown belongs to scheduler: wsd")
        return self

    @model_validator(mode="after")
    def _fits_strategy(self) -> LoopOptions:
        if self.strategy.prefix_tuning is not None and self.gradient_checkpointing:
            raise ValueError("gradient_checkpointing cannot be used with prefix-tuning, whose keys and values it would drop")
        if self.strategy.virtual and self.layer_decay is not None:
            raise ValueError(f"layer_decay says nothing where only virtual tokens move ({self.strategy.name})")
        return self

    @property
    def micro_batch_is_free(self) -> bool:
        """Whether the result is the same with any number of rows per forward pass."""
        return True

    @property
    def rate(self) -> float:
        """The learning rate with its default filled in."""
        return self.learning_rate or self.strategy.rate(full=2e-5, lora=2e-4)

    def warmup_steps(self, steps: int) -> int:
        """Steps over which the rate rises, in a run of ``steps``."""
        return self.warmup if self.warmup >= 1 else math.ceil(self.warmup * steps)  # type: ignore[return-value]


# TRL fields that may not be set under `extra:`, and what to use instead.
OURS = {
    "num_train_epochs": "use epochs",
    "learning_rate": "use learning_rate",
    "per_device_train_batch_size": "use micro_batch",
    "gradient_accumulation_steps": "it follows from batch_size and micro_batch",
    "lr_scheduler_type": "use scheduler",
    "lr_scheduler_kwargs": "use final_rate and cooldown",
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
    "trust_remote_code": "agentft never runs code that comes with a model",
    "push_to_hub": "agentft sends nothing; upload the result by hand",
}


def check_extra(extra: dict[str, Any], config_class: str, ours: dict[str, str]) -> None:
    """Check the keys of ``extra:`` against the fields of a TRL config class, without importing TRL.

    Args:
        extra: the mapping.
        config_class: for example ``SFTConfig``; found in ``trl/trainer/sft_config.py``.
        ours: TRL field -> our option that sets it, or a reason why it cannot be set.

    Raises:
        ValueError: an unknown field, or one that agentft sets itself.
    """
    for key in extra:
        if key in ours:
            raise ValueError(f"extra.{key} cannot be set here: {ours[key]}")
        known = config_fields(config_class)
        if known and key not in known:
            hint = did_you_mean(key, known)
            library = "transformers" if config_class == "TrainingArguments" else "trl"
            raise ValueError(f"extra: {library}.{config_class} has no field '{key}'{f' ({hint})' if hint else ''}")


@cache
def config_fields(config_class: str) -> frozenset[str]:
    """Field names of a TRL config class and its bases, read from their source files; empty where these are not found."""
    fields: set[str] = set()
    files: list[Path | None] = []
    if config_class != "TrainingArguments":
        files += [_file("trl", f"trainer/{config_class.removesuffix('Config').lower()}_config.py"), _file("trl", "trainer/base_config.py")]
    files.append(_file("transformers", "training_args.py"))
    for file in files:
        if file is None:
            return frozenset()
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name in (config_class, "_BaseConfig", "TrainingArguments"):
                names = [item.target.id for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)]
                fields.update(name for name in names if not name.startswith("_"))
    return frozenset(fields)


def _file(package: str, inside: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / inside if spec and spec.origin else None
    return path if path and path.is_file() else None
