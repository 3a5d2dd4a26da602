"""Fine-tuning of encoder-decoders (T5, BART, Marian): what was said before goes into the encoder, the answer is learned by the decoder."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from agentft.contracts import TrainJob, TrainResult
from agentft.train.checkpoints import finished
from agentft.train.options import OURS, LoopOptions, Strategy, check_extra

if TYPE_CHECKING:
    from agentft.engine.profile import Profile


class Seq2SeqConfig(LoopOptions):
    """Options of ``use: seq2seq``."""

    strategy: Strategy = Field(default_factory=lambda: Strategy.model_validate("full"), description="Which parameters move.")
    batch_size: int = Field(16, ge=1, description="Rows per optimiser step, over all devices.")
    learning_rate: float | None = Field(
        None, gt=0, description="Peak rate. Default: 5e-5 with full and freeze, 3e-4 with lora, 3e-2 with prompt-tuning."
    )
    prefix: str = Field("", description="Text in front of every source, for example `summarize: `.")
    max_target: int = Field(128, ge=4, description="Tokens that an answer may have; longer ones are cut, and counted.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of the target's probability that is spread over all tokens.")
    num_beams: int = Field(1, ge=1, description="Beams of the search when it answers; 1: the likeliest token each time.")

    @model_validator(mode="after")
    def _consistent(self) -> Seq2SeqConfig:
        if self.strategy.prefix_tuning is not None:
            raise ValueError(
                "strategy: prefix-tuning needs a model that reads from left to right, and an encoder reads in both directions; "
                "use prompt-tuning or lora"
            )
        check_extra(self.extra, "TrainingArguments", OURS | {"label_smoothing_factor": "use label_smoothing"})
        return self

    @property
    def rate(self) -> float:
        return self.learning_rate or self.strategy.rate(full=5e-5, lora=3e-4)


def train(job: TrainJob) -> TrainResult:
    """Train on sources and targets as :func:`agentft.render.texts.seq2seq_rows` writes them, with teacher forcing.

    The loss of a token is ``(1 - e) * -log p(target) + e * mean over the vocabulary of -log p``, e = ``label_smoothing`` (Szegedy et al.
    2016); the validation loss is without smoothing. Otherwise as :func:`agentft.train.sft.train`.

    Raises:
        TrainingError: nothing to learn from, a loss that is not finite, not enough memory, or options that contradict each other.
    """
    return finished(job, _train)


def _train(job: TrainJob, profile: Profile) -> TrainResult:
    from peft import get_peft_model
    from transformers import set_seed

    from agentft.engine.models import load_tokenizer
    from agentft.engine.seq2seq import KIND
    from agentft.train.checkpoints import begin
    from agentft.train.heads import micro_batch
    from agentft.train.loop import EpochOrder, Monitor, callbacks
    from agentft.train.outcome import fit
    from agentft.train.rows import read_both, read_rows
    from agentft.train.seq2seq_loop import Collator, PairTrainer
    from agentft.train.setup import arguments_for, load

    config: Seq2SeqConfig = job.config
    started = time.perf_counter()
    rows, validation = read_both(job, partial(read_rows, aligned=False))
    log, checkpoint = begin(job)
    model, shape = load(job, profile, KIND, "SEQ_2_SEQ_LM")
    if shape is not None:
        set_seed(job.seed)  # the adapter is drawn
        model = get_peft_model(model, shape)
    arguments = arguments_for("TrainingArguments", job, profile, len(rows.ids), validation is not None, {}, micro=micro_batch(config, rows))
    monitor = Monitor(log, job.progress, check_gradient=not arguments.fp16)
    trainer = PairTrainer(
        order=EpochOrder(rows.lengths, config.batch_size, job.seed),
        ids=rows.ids,
        smoothing=config.label_smoothing,
        model=model,
        args=arguments,
        data_collator=Collator(job.pad_token_id),
        train_dataset=rows.dataset,
        eval_dataset=validation.dataset if validation else None,
        processing_class=load_tokenizer(job.model),
        callbacks=callbacks(config, monitor),
    )

    return fit(job, profile, trainer, monitor, rows, checkpoint, started)
