"""A reward model, through TRL: one number per conversation, higher for the chosen answer (Bradley and Terry 1952)."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from agentft.contracts import TrainJob, TrainResult
from agentft.engine.digest import write_json
from agentft.engine.reward import CARD
from agentft.train.checkpoints import finished
from agentft.train.options import OURS, LoopOptions, check_extra

if TYPE_CHECKING:
    from agentft.engine.profile import Profile

_OURS = OURS | {
    "center_rewards_coefficient": "use center",
    "model_init_kwargs": "the model is loaded by agentft",
    "pad_token": "the model's own padding token is used",
    "eos_token": "the chat template decides what ends an answer",
}
LOGGED = {"margin": "margin", "accuracy": "accuracy", "mean_reward": "mean_reward"}


class RewardConfig(LoopOptions):
    """Options of ``use: reward``."""

    epochs: float = Field(1.0, gt=0, description="Passes over the pairs.")
    learning_rate: float | None = Field(None, gt=0, description="Peak rate. Default: 1e-4 with lora, 1e-5 with full.")
    center: float | None = Field(
        None, ge=0, description="Weight of the term that keeps the mean reward at 0 (arXiv 2312.09244); 0.01 is usual."
    )

    @model_validator(mode="after")
    def _extra_fields(self) -> RewardConfig:
        check_extra(self.extra, "RewardConfig", _OURS)
        return self

    @property
    def rate(self) -> float:
        return self.learning_rate or self.strategy.rate(full=1e-5, lora=1e-4)


def train(job: TrainJob) -> TrainResult:
    """Train on pairs (``job.rows`` as :mod:`agentft.render.pairs` writes them) a head on the *base* model; what earlier stages
    trained is the agent, and takes no part. ``reward.json`` beside the weights says which model they belong to.

    Otherwise as :func:`agentft.train.dpo.train`.
    """
    return finished(job, _train)


def _train(job: TrainJob, profile: Profile) -> TrainResult:
    from agentft.engine.models import load_tokenizer
    from agentft.train.checkpoints import begin
    from agentft.train.loop import EpochOrder, Monitor
    from agentft.train.outcome import fit
    from agentft.train.pair_rows import read_pairs
    from agentft.train.reward_loop import ScoreTrainer, head_on
    from agentft.train.setup import arguments_for

    config: RewardConfig = job.config
    started = time.perf_counter()
    rows = read_pairs(job.rows)
    log, checkpoint = begin(job)
    further = {"center_rewards_coefficient": config.center, "max_length": None, "eval_strategy": "no"}
    arguments = arguments_for("RewardConfig", job, profile, len(rows.ids), False, further, fit=rows, sides=2)
    monitor = Monitor(log, job.progress, check_gradient=not arguments.fp16, further=LOGGED)
    model, peft_config = head_on(job, profile)
    trainer = ScoreTrainer(
        order=EpochOrder(rows.lengths, config.batch_size, job.seed),
        ids=rows.ids,
        share_prefix=profile.share_prefix,
        model=model,
        args=arguments,
        train_dataset=rows.dataset,
        processing_class=load_tokenizer(job.model),
        peft_config=peft_config,
        callbacks=[monitor],
    )
    result = fit(job, profile, trainer, monitor, rows, checkpoint, started)
    folder = result.adapter or result.model
    assert folder is not None
    write_json(folder / CARD, {"model": job.model.reference, "digest": job.model.digest})
    return replace(result, metrics={**result.metrics, **end_of(log)})


def end_of(log: Any) -> dict[str, float]:
    """Accuracy and margin over the last fifth of the logged steps, on the training pairs."""
    import json

    lines = [line for line in map(json.loads, log.read_text(encoding="utf-8").splitlines()) if "margin" in line]
    last = lines[-max(1, len(lines) // 5) :]
    return {f"train_{key}": sum(line[key] for line in last) / len(last) for key in ("accuracy", "margin")} if last else {}
