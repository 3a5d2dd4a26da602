"""Masked language modelling: an encoder learns the words of a field, for a stage with a head that follows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from agentft.contracts import TrainJob, TrainResult
from agentft.errors import TrainingError
from agentft.train.checkpoints import finished
from agentft.train.options import OURS, LoopOptions, Strategy, check_extra

if TYPE_CHECKING:
    from agentft.engine.profile import Profile


class MlmConfig(LoopOptions):
    """Options of ``use: mlm``."""

    strategy: Strategy = Field(
        default_factory=lambda: Strategy.model_validate("full"),
        description="Which parameters move: full, freeze, or lora, which is merged at the end.",
    )
    batch_size: int = Field(32, ge=1, description="Rows per optimiser step, over all devices.")
    learning_rate: float | None = Field(None, gt=0, description="Peak rate. Default: 5e-5 with full and freeze, 5e-4 with lora.")
    max_length: int | None = Field(None, ge=8, description="Tokens of a row; default: data.max_length, or what the model can read.")
    mask: float = Field(0.15, gt=0, le=0.9, description="Share of the tokens that the model has to guess.")
    whole_words: bool = Field(False, description="Mask all tokens of a word together; a Chinese character counts as a word.")

    @model_validator(mode="after")
    def _consistent(self) -> MlmConfig:
        check_extra(self.extra, "TrainingArguments", OURS)
        if self.strategy.adapter and self.strategy.lora is None:
            raise ValueError(
                f"strategy: {self.strategy.name} cannot be used with 'mlm', which leaves a whole encoder: neither virtual tokens nor what "
                "was learned on rounded weights can be merged into it; use full, freeze or lora"
            )
        return self

    @property
    def rate(self) -> float:
        return self.learning_rate or self.strategy.rate(full=5e-5, lora=5e-4)


def train(job: TrainJob) -> TrainResult:
    """Train on texts as :func:`agentft.render.texts.mlm_rows` writes them, and leave a whole encoder with its masked-language-model head.

    The masks of training are a function of seed, epoch and row; those of validation of seed and row. ``notes`` says if the
    model had no such head. Otherwise as :func:`agentft.train.sft.train`.

    Raises:
        TrainingError: nothing to learn from, a loss that is not finite, not enough memory, or options that contradict each other.
        DataError: a model without such a head in transformers.
    """
    return finished(job, _train)


def _train(job: TrainJob, profile: Profile) -> TrainResult:
    from agentft.engine.masked import drawn_note, encoder_folder, load_masked, vocabulary
    from agentft.engine.models import load_tokenizer
    from agentft.train.checkpoints import begin
    from agentft.train.heads import micro_batch
    from agentft.train.loop import EpochOrder, Monitor, callbacks
    from agentft.train.mlm_loop import MaskingCollator, MlmTrainer, read_masked_rows
    from agentft.train.outcome import fit
    from agentft.train.rows import read_both
    from agentft.train.setup import arguments_for

    config: MlmConfig = job.config
    started = time.perf_counter()
    if job.adapter is not None:
        raise TrainingError("the stage before this one left an adapter, which 'mlm' cannot continue; set `strategy: full` there")
    rows, validation = read_both(job, read_masked_rows, partial(read_masked_rows, fixed=True))
    log, checkpoint = begin(job)
    tokenizer = load_tokenizer(job.model)
    model, drawn = load_masked(job.model, profile, "float32", job.seed)
    tuner = apply_strategy(model, config.strategy, drawn)
    arguments = arguments_for("TrainingArguments", job, profile, len(rows.ids), validation is not None, {}, micro=micro_batch(config, rows))
    monitor = Monitor(log, job.progress, check_gradient=not arguments.fp16)
    order = EpochOrder(rows.lengths, config.batch_size, job.seed)
    trainer = MlmTrainer(
        order=order,
        ids=rows.ids,
        model=model,
        args=arguments,
        data_collator=MaskingCollator(order, job.seed, config.mask, tokenizer, vocabulary(tokenizer)),
        train_dataset=rows.dataset,
        eval_dataset=validation.dataset if validation else None,
        processing_class=tokenizer,
        callbacks=callbacks(config, monitor),
    )

    def write(folder: Path) -> None:
        whole = trainer.accelerator.unwrap_model(trainer.model) if tuner is None else tuner.merge_and_unload()
        encoder_folder(job.model, whole, folder, tokenizer)

    result = fit(job, profile, trainer, monitor, rows, checkpoint, started, write)
    return replace(result, warnings=(drawn_note(drawn),) if drawn else ())


def apply_strategy(model: Any, strategy: Strategy, drawn: Sequence[str]) -> Any:
    """Let move what ``strategy`` says; returns what merges the LoRA layers in the end, None without them.

    These are put into the model itself, without a PEFT model around it: a checkpoint then holds the whole model, the head that was
    ``drawn`` with it, which is trained in full.
    """
    from agentft.train.setup import with_strategy

    head = [name for name, _ in model.named_children() if name != model.base_model_prefix]
    fresh = {id(one) for name, one in model.named_parameters() if name in drawn}
    _, shape = with_strategy(model, strategy, task_type="FEATURE_EXTRACTION", heads=head if strategy.freeze else ())
    if shape is None:
        return None
    from peft.tuners.lora import LoraModel

    # The output layer shares its weights with the embeddings: no adapter may be merged into it.
    shape.exclude_modules = rf"({'|'.join(head)})(\..*)?"
    # Copies of modules are for adapters that are saved alone.
    in_full, shape.modules_to_save = set(shape.modules_to_save or ()), None
    tuner = LoraModel(model, shape, "default")
    for name, one in model.named_parameters():
        if id(one) in fresh or in_full & set(name.split(".")):
            one.requires_grad_(True)
    return tuner
