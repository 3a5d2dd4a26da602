"""Direct preference optimisation and its family, through TRL: the chosen answer becomes likelier than the rejected one."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from agentft import processes
from agentft.contracts import TrainJob, TrainResult
from agentft.train.checkpoints import finished
from agentft.train.options import OURS, LoopOptions, check_extra
from agentft.validation import Listed

if TYPE_CHECKING:
    from agentft.engine.profile import Profile

Loss = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
]
_OURS = OURS | {
    "loss_type": "use loss",
    "loss_weights": "use loss_weights",
    "beta": "use beta",
    "label_smoothing": "use label_smoothing",
    "ld_alpha": "use ld_alpha",
    "f_divergence_type": "use f_divergence",
    "use_weighting": "use use_weighting",
    "precompute_ref_log_probs": "the reference is always computed once, before training",
    "precompute_ref_batch_size": "use micro_batch",
    "padding_free": "TRL ignores it",
    "sync_ref_model": "the reference is fixed for a whole round",
    "truncation_mode": "rows that are too long are dropped when they are rendered (data.max_length)",
    "model_init_kwargs": "the model is loaded by agentft",
}
# What TRL logs -> our word for it.
LOGGED = {
    "rewards/margins": "margin",
    "rewards/accuracies": "accuracy",
    "rewards/chosen": "reward_chosen",
    "rewards/rejected": "reward_rejected",
}


class DPOConfig(LoopOptions):
    """Options of ``use: dpo``."""

    epochs: float = Field(1.0, gt=0, description="Passes over the pairs; up to 3 with few of them.")
    learning_rate: float | None = Field(
        None, gt=0, description="Peak rate. Default: 5e-6 with lora, 5e-7 with full; tiny models take more."
    )
    loss: Listed[Loss] = Field(("sigmoid", "sft"), description="Loss of TRL's DPO family, or several that are added up.")
    loss_weights: Listed[float] | None = Field(
        None, description="Their weights; default: 1 for the first, 0.1 for a further `sft`, else 1."
    )
    beta: float = Field(0.1, gt=0, description="How closely the model is held to the reference: larger is closer.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of pairs that may be labelled wrongly; `exo_pair` needs it above 0.")
    ld_alpha: float | None = Field(None, ge=0, le=1, description="Weight of the tokens beyond the shorter answer's length (LD-DPO).")
    f_divergence: Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"] = Field(
        "reverse_kl", description="Divergence from the reference."
    )
    use_weighting: bool = Field(False, description="Weight pairs by how likely the model finds them (WPO).")

    @field_validator("loss", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> DPOConfig:
        check_extra(self.extra, "DPOConfig", _OURS)
        if not self.loss:
            raise ValueError("'loss' names no loss")
        if self.loss_weights is not None and len(self.loss_weights) != len(self.loss):
            raise ValueError(f"'loss_weights' has {len(self.loss_weights)} numbers for {len(self.loss)} losses")
        if "exo_pair" in self.loss and self.label_smoothing == 0:
            raise ValueError("loss 'exo_pair' needs label_smoothing above 0; 1e-3 is usual")
        if self.use_weighting and self.strategy.virtual:
            raise ValueError(f"use_weighting cannot be used with {self.strategy.name}: TRL's weights do not know of virtual tokens")
        return self

    @property
    def rate(self) -> float:
        return self.learning_rate or self.strategy.rate(full=5e-7, lora=5e-6)

    @property
    def weights(self) -> list[float]:
        if self.loss_weights is not None:
            return list(self.loss_weights)
        return [0.1 if name == "sft" and index else 1.0 for index, name in enumerate(self.loss)]


def train(job: TrainJob) -> TrainResult:
    """Train on pairs (``job.rows`` as :mod:`agentft.render.pairs` writes them); unpaired rows are refused.

    The reference is ``job.reference`` (an adapter), else the model as training starts. Its log-probabilities are computed once
    and kept in ``out/reference.jsonl``; there is never a second copy of the model. Continues from checkpoints as
    :func:`agentft.train.sft.train` does.

    Raises:
        TrainingError: no pairs, a loss or gradient that is not finite, not enough memory, or options that contradict each other.
    """
    return finished(job, _train)


def _train(job: TrainJob, profile: Profile) -> TrainResult:
    from agentft.engine.models import load_tokenizer
    from agentft.train.checkpoints import begin
    from agentft.train.loop import EpochOrder, Monitor
    from agentft.train.outcome import fit
    from agentft.train.pair_loop import PairTrainer, reference_logps
    from agentft.train.pair_rows import read_pairs
    from agentft.train.setup import arguments_for, load_bare

    config: DPOConfig = job.config
    started = time.perf_counter()
    rows = read_pairs(job.rows)
    log, checkpoint = begin(job)
    further = {
        "loss_type": list(config.loss),
        "loss_weights": config.weights,
        "beta": config.beta,
        "label_smoothing": config.label_smoothing,
        "ld_alpha": config.ld_alpha,
        "f_divergence_type": config.f_divergence,
        "use_weighting": config.use_weighting,
        "precompute_ref_log_probs": True,
        "max_length": None,
        "eval_strategy": "no",
    }
    arguments = arguments_for("DPOConfig", job, profile, len(rows.ids), False, further, fit=rows, sides=2)
    dataset = processes.in_turn(lambda: reference_logps(job, profile, arguments, rows))
    monitor = Monitor(log, job.progress, check_gradient=not arguments.fp16, further=LOGGED)
    model, peft_config, weights = load_bare(job, profile)
    trainer = PairTrainer(
        order=EpochOrder(rows.lengths, config.batch_size, job.seed),
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
    result = fit(job, profile, trainer, monitor, rows, checkpoint, started)
    return replace(result, metrics={**result.metrics, **preference_summary(log, config.beta)})


def preference_summary(log: Any, beta: float) -> dict[str, float]:
    """Margin, accuracy and drift at the end of training, over the last fifth of the logged steps.

    ``drift_chosen`` and ``drift_rejected``: mean log-probability of the answers minus that under the reference, in nats.
    """
    import json

    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if "margin" in line]
    last = lines[-max(1, len(lines) // 5) :]
    if not last:
        return {}
    mean = {key: sum(line[key] for line in last) / len(last) for key in ("margin", "accuracy", "reward_chosen", "reward_rejected")}
    return {
        "margin": mean["margin"],
        "accuracy": mean["accuracy"],
        "drift_chosen": mean["reward_chosen"] / beta,
        "drift_rejected": mean["reward_rejected"] / beta,
    }
