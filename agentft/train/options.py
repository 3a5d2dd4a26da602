"""Options of a trainer: the part that several methods share, and the check of what goes to TRL under ``extra:``.

Nothing here imports torch or TRL: a recipe is checked before they are.
"""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from agentft.errors import did_you_mean
from agentft.validation import Listed, Model


class LoraOptions(Model):
    """Low-rank adapters (Hu et al. 2021): the model stays frozen, two small matrices per linear layer are trained."""

    r: int = Field(16, ge=1, description="Rank: more learns more and costs more memory.")
    alpha: float = Field(32.0, gt=0, description="The adapter's output is scaled by alpha / r.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the adapter's input. Above 0 the shared persona prefix is not shared.")
    target_modules: Literal["all-linear"] | Listed[str] = Field("all-linear", description="Which layers get an adapter.")


class FullOptions(Model):
    """All parameters move. No options yet."""


class Strategy(Model):
    """Which parameters move: exactly one of ``lora`` and ``full``; the bare word stands for its defaults."""

    expects = "full, lora, or a mapping such as {lora: {r: 16}}"

    lora: LoraOptions | None = None
    full: FullOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_of(cls, data: Any) -> Any:
        if isinstance(data, str):
            if data not in cls.model_fields:
                raise ValueError(f"unknown strategy '{data}' ({did_you_mean(data, cls.model_fields)})")
            return {data: {}}
        if isinstance(data, dict):
            # `{lora: }` means its defaults; `{lora: {...}, full: null}` is how a typed recipe is written down.
            given = data if len(data) == 1 else {key: value for key, value in data.items() if value is not None}
            if len(given) != 1 and given.keys() <= cls.model_fields.keys():
                raise ValueError("name exactly one strategy: full, or lora")
            return {key: {} if value is None else value for key, value in given.items()}
        return data

    @property
    def name(self) -> str:
        return "full" if self.full is not None else "lora"


class LoopOptions(Model):
    """What every training loop of this package can be told."""

    strategy: Strategy = Field(
        default_factory=lambda: Strategy.model_validate("lora"), description="Which parameters move: `lora` or `full`."
    )
    epochs: float = Field(3.0, gt=0, description="Passes over the training rows.")
    learning_rate: float | None = Field(None, gt=0, description="Peak rate. Default: 2e-4 with lora, 2e-5 with full.")
    batch_size: int = Field(8, ge=1, description="Rows per optimiser step, over all devices.")
    micro_batch: int | None = Field(None, ge=1, description="Rows per forward pass; default from the device profile. Divides batch_size.")
    scheduler: Literal["linear", "cosine", "constant"] = Field("linear", description="How the rate falls after the warm-up.")
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of the steps over which the rate rises.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW weight decay.")
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

    @property
    def rate(self) -> float:
        """The learning rate with its default filled in."""
        return self.learning_rate or (2e-5 if self.strategy.full is not None else 2e-4)


# TRL fields that may not be set under `extra:`, and what to use instead.
OURS = {
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
