"""Supervised fine-tuning: the model learns to answer like the demonstrations, through TRL."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from agentft.contracts import TrainJob, TrainResult
from agentft.train.checkpoints import finished
from agentft.train.options import OURS, LoopOptions, check_extra

if TYPE_CHECKING:
    from agentft.engine.profile import Profile

_OURS = OURS | {
    "packing": "rows are rendered one by one; the shared prefix is already run only once",
    "padding_free": "rows are rendered one by one; the shared prefix is already run only once",
    "assistant_only_loss": "the mask comes from our rendering",
    "completion_only_loss": "the mask comes from our rendering",
    "label_smoothing_factor": "use label_smoothing",
    "chat_template_path": "the chat template of the model is used, everywhere",
    "dataset_kwargs": "rows are prepared by agentft",
}
_ROWS: dict[str, Any] = {"max_length": None, "dataset_kwargs": {"skip_prepare_dataset": True}}


class SFTConfig(LoopOptions):
    """Options of ``use: sft``."""

    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the target that is spread over the whole vocabulary; 0.1 is usual.",
    )

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
    return finished(job, fine_tune)


def fine_tune(job: TrainJob, profile: Profile) -> TrainResult:
    """Train on rows with labels, whatever they were made of: what ``sft`` and ``clm`` have in common."""
    from peft.tuners.lora import LoraLayer

    from agentft.engine.models import load_tokenizer
    from agentft.train.checkpoints import begin
    from agentft.train.loop import Collator, EpochOrder, Monitor, Trainer, callbacks
    from agentft.train.outcome import fit
    from agentft.train.rows import read_both, read_rows
    from agentft.train.setup import arguments_for, load

    config: SFTConfig = job.config
    started = time.perf_counter()
    rows, validation = read_both(job, read_rows)
    log, checkpoint = begin(job)

    model, peft_config = load(job, profile)
    arguments = arguments_for("SFTConfig", job, profile, len(rows.ids), validation is not None, _ROWS, fit=rows)
    monitor = Monitor(log, job.progress, check_gradient=not arguments.fp16)
    trainer = Trainer(
        order=EpochOrder(rows.lengths, config.batch_size, job.seed),
        ids=rows.ids,
        share_prefix=profile.share_prefix,
        smoothing=config.label_smoothing,
        model=model,
        args=arguments,
        data_collator=Collator(job.pad_token_id),
        train_dataset=rows.dataset,
        eval_dataset=validation.dataset if validation else None,
        processing_class=load_tokenizer(job.model),
        peft_config=peft_config,
        callbacks=callbacks(config, monitor),
    )
    for module in trainer.model.modules():
        if isinstance(module, LoraLayer):  # PEFT would turn its input to float32, and autocast turn it back
            module.cast_input_dtype_enabled = profile.train_dtype == "float32"

    return fit(job, profile, trainer, monitor, rows, checkpoint, started)
