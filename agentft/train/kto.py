"""KTO, through TRL: learning from single answers with a thumb up or down, or from pairs taken apart."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from agentft.contracts import TrainJob, TrainResult
from agentft.train.checkpoints import finished
from agentft.train.options import OURS, LoopOptions, check_extra

if TYPE_CHECKING:
    from agentft.engine.profile import Profile

_OURS = OURS | {
    "loss_type": "use loss",
    "beta": "use beta",
    "desirable_weight": "use desirable_weight",
    "undesirable_weight": "use undesirable_weight",
    "precompute_ref_log_probs": "the reference is always computed once, before training",
    "precompute_ref_batch_size": "use micro_batch",
    "train_sampling_strategy": "the KL term needs the rows in a fixed order",
    "sync_ref_model": "the reference is fixed for a whole round",
    "model_init_kwargs": "the model is loaded by agentft",
}
LOGGED = {"rewards/chosen": "reward_chosen", "rewards/rejected": "reward_rejected", "rewards/margins": "margin", "kl": "kl"}


class KTOConfig(LoopOptions):
    """Options of ``use: kto``."""

    epochs: float = Field(1.0, gt=0, description="Passes over the answers.")
    learning_rate: float | None = Field(
        None, gt=0, description="Peak rate. Default: 5e-6 with lora, 5e-7 with full; tiny models take more."
    )
    loss: Literal["kto", "apo_zero_unpaired"] = Field("kto", description="`kto` needs micro-batches of at least two rows for its KL term.")
    beta: float = Field(0.1, gt=0, description="How closely the model is held to the reference: larger is closer.")
    desirable_weight: float = Field(1.0, gt=0, description="Weight of good answers; raise it where there are few of them.")
    undesirable_weight: float = Field(1.0, gt=0, description="Weight of bad answers.")

    @model_validator(mode="after")
    def _consistent(self) -> KTOConfig:
        check_extra(self.extra, "KTOConfig", _OURS)
        if self.loss == "kto" and 1 in (self.batch_size, self.micro_batch):
            raise ValueError("loss 'kto' needs micro-batches of at least two rows; use loss: apo_zero_unpaired")
        return self

    @property
    def micro_batch_is_free(self) -> bool:
        return self.loss != "kto"  # its KL term pairs each prompt with the answer of its neighbour

    @property
    def rate(self) -> float:
        return self.learning_rate or self.strategy.rate(full=5e-7, lora=5e-6)


def train(job: TrainJob) -> TrainResult:
    """Train on answers (``job.rows`` as :mod:`agentft.render.pairs` writes them; a pair is two answers). Otherwise as
    :func:`agentft.train.dpo.train`.

    The order of the rows is drawn once, by seed, and is the same in every epoch: TRL's KL term pairs each prompt with the
    answer of its neighbour in the micro-batch.
    """
    return finished(job, _train)


def _train(job: TrainJob, profile: Profile) -> TrainResult:
    from agentft.engine.models import load_tokenizer
    from agentft.train.checkpoints import begin
    from agentft.train.kto_loop import AnswerTrainer, reference_logps
    from agentft.train.loop import Monitor
    from agentft.train.outcome import fit
    from agentft.train.pair_rows import read_answers
    from agentft.train.setup import arguments_for, load_bare

    config: KTOConfig = job.config
    started = time.perf_counter()
    rows = read_answers(job.rows, random.Random(job.seed))
    log, checkpoint = begin(job)
    further = {
        "loss_type": config.loss,
        "beta": config.beta,
        "desirable_weight": config.desirable_weight,
        "undesirable_weight": config.undesirable_weight,
        "precompute_ref_log_probs": True,
        "max_length": None,
        "eval_strategy": "no",
    }
    arguments = arguments_for("KTOConfig", job, profile, len(rows.ids), False, further)
    dataset = reference_logps(job, profile, arguments, rows)
    monitor = Monitor(log, job.progress, check_gradient=not arguments.fp16, further=LOGGED)
    model, peft_config, weights = load_bare(job, profile)
    trainer = AnswerTrainer(
        ids=rows.ids,
        share_prefix=profile.share_prefix,
        weights=weights,
        cast=profile.train_dtype != "float32",
        model=model,
        args=arguments,
        train_dataset=dataset,
        processing_class=load_tokenizer(job.model),
        peft_config=peft_config,
        callbacks=[monitor],
    )
    return fit(job, profile, trainer, monitor, rows, checkpoint, started)
