"""Training of models with heads: classes, numbers, tags and spans, on encoders and on chat models alike."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from agentft.contracts import LossContext, TrainJob, TrainResult
from agentft.errors import TrainingError
from agentft.recipe_parts import PartUse
from agentft.train.checkpoints import finished
from agentft.train.options import OURS, LoopOptions, check_extra
from agentft.train.strategies import Strategy

if TYPE_CHECKING:
    from agentft.engine.profile import Profile
    from agentft.render.task import Task
    from agentft.train.rows import Rows

MICRO_TOKENS = 4096  # tokens of a forward and backward pass, with padding, where micro_batch is left out


class HeadOptions(LoopOptions):
    """What all trainers with heads can be told."""

    strategy: Strategy = Field(
        default_factory=lambda: Strategy.model_validate("full"), description="Which parameters move; the head always does."
    )
    batch_size: int = Field(32, ge=1, description="Rows per optimiser step, over all devices.")
    learning_rate: float | None = Field(
        None,
        gt=0,
        description="Peak rate. Default: 5e-5 where the body moves, 1e-3 with lora and `freeze: head-only`, 5e-3 with virtual tokens.",
    )
    max_length: int | None = Field(None, ge=8, description="Tokens of a row; default: data.max_length, or what the model can read.")
    loss: PartUse | None = Field(None, description="A loss: its name, or a mapping with `use`; default: that of the task.")

    @model_validator(mode="after")
    def _extra_fields(self) -> HeadOptions:
        check_extra(self.extra, "TrainingArguments", OURS)
        return self

    @property
    def rate(self) -> float:
        freeze, own = self.strategy.freeze, self.learning_rate
        # The head learns at the same rate: what suits virtual tokens alone, a hundred times LoRA's, is too much for it.
        return own or (5e-3 if self.strategy.virtual else 1e-3 if freeze and freeze.only else self.strategy.rate(5e-5, 1e-3))


Weights = Literal["balanced"] | dict[str, float]


class ClassifyConfig(HeadOptions):
    """Options of ``use: classify``."""

    class_weights: Weights | None = Field(
        None, description="Weight of each class in the loss: `balanced`, or a mapping (others: 1). Not for several classes a row."
    )


class RegressConfig(HeadOptions):
    """Options of ``use: regress``."""

    standardize: bool = Field(True, description="Learn (label - mean) / standard deviation of the training labels.")


class TagConfig(HeadOptions):
    """Options of ``use: tag``."""

    class_weights: Weights | None = Field(None, description="Weight of each tag in the loss: `balanced`, or a mapping (others: 1).")


class SpanConfig(HeadOptions):
    """Options of ``use: span``."""

    stride: int = Field(128, ge=0, description="Tokens by which two windows of a long context overlap.")


def train(job: TrainJob) -> TrainResult:
    """Train a head, and of the body what the strategy says, on ``job.rows`` as :mod:`agentft.render.heads` writes them.

    Leaves a full model (``out/model``) or an adapter with the head (``out/adapter``) as safetensors, each with ``task.json``. Otherwise
    as :func:`agentft.train.sft.train`.

    Raises:
        TrainingError: nothing to learn from, a loss that is not finite, not enough memory, or options that contradict each other.
    """
    return finished(job, _train)


def _train(job: TrainJob, profile: Profile) -> TrainResult:
    from transformers import set_seed

    from agentft.engine.models import load_tokenizer
    from agentft.render.task import Task
    from agentft.train.checkpoints import begin
    from agentft.train.head_loop import HeadTrainer
    from agentft.train.loop import EpochOrder, Monitor, callbacks
    from agentft.train.losses import class_weights
    from agentft.train.outcome import fit
    from agentft.train.rows import read_both
    from agentft.train.setup import arguments_for

    config: HeadOptions = job.config
    started = time.perf_counter()
    task = Task.load(job.rows.parent)
    rows, validation = read_both(job, read_head_rows)
    log, checkpoint = begin(job)
    ctx = LossContext(task.name, task.labels, task.counts, task.multi)
    set_seed(job.seed)  # the head is drawn
    model = head_on(job, profile, task)
    arguments = arguments_for("TrainingArguments", job, profile, len(rows.ids), validation is not None, {}, micro=micro_batch(config, rows))
    monitor = Monitor(log, job.progress, check_gradient=not arguments.fp16)
    trainer = HeadTrainer(
        order=EpochOrder(rows.lengths, config.batch_size, job.seed),
        ids=rows.ids,
        task=task,
        loss=job.loss or default_loss(task),
        context=ctx,
        weights=class_weights(getattr(config, "class_weights", None), ctx),
        pad_token_id=job.pad_token_id,
        model=model,
        args=arguments,
        train_dataset=rows.dataset,
        eval_dataset=validation.dataset if validation else None,
        processing_class=load_tokenizer(job.model),
        callbacks=callbacks(config, monitor),
    )

    result = fit(job, profile, trainer, monitor, rows, checkpoint, started)
    task.save(result.adapter or result.model or job.out)
    return result


_TYPES = {"classify": "SEQ_CLS", "regress": "SEQ_CLS", "tag": "TOKEN_CLS", "span": "QUESTION_ANS"}


def head_on(job: TrainJob, profile: Profile, task: Task) -> Any:
    """The base model with a head for ``task``, and the strategy applied to its body."""
    from agentft.engine.heads import head_modules, load_head
    from agentft.train.setup import frozen_dtype, quantisation, with_strategy

    strategy = job.config.strategy
    if job.adapter is not None:
        raise TrainingError("the stage before this one left an adapter, on which no head can be put; set `strategy: full` there")
    dtype, further = frozen_dtype(strategy, profile), quantisation(strategy, profile)
    model = load_head(job.model.path, task, profile, dtype, job.pad_token_id, job.model.reference, **further)
    model, config = with_strategy(model, strategy, task_type=_TYPES[task.name], heads=head_modules(model), job_seed=job.seed)
    if config is None:
        return model
    from peft import get_peft_model

    model = get_peft_model(model, config)
    for parameter in model.parameters():
        if parameter.requires_grad:  # a head that is a copy has the dtype of the frozen body
            parameter.data = parameter.data.float()
    return model


def default_loss(task: Task) -> Any:
    """Squared error for numbers, cross-entropy for everything else, as ``(logits, targets, ctx) -> losses``."""
    from agentft.train import losses

    chosen = losses.mse if task.name == "regress" else losses.cross_entropy
    return lambda logits, targets, ctx: chosen(logits, targets, None, ctx)


def micro_batch(config: LoopOptions, rows: Rows) -> int:
    """The largest divisor of the batch that keeps a pass below ``MICRO_TOKENS``; texts are mostly short."""
    typical = sorted(rows.lengths)[int(0.9 * (len(rows.lengths) - 1))]
    room = max(1, MICRO_TOKENS // max(1, typical))
    return max(n for n in range(1, config.batch_size + 1) if config.batch_size % n == 0 and n <= room)


def read_head_rows(path: Path) -> Rows:
    """Rows as :mod:`agentft.render.heads` writes them, in one Arrow table.

    Raises:
        TrainingError: there are none.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from datasets import Dataset

    from agentft.train.rows import Rows, read_table

    columns = {"input_ids": pa.list_(pa.int32()), "types": pa.list_(pa.int8()), "target": pa.list_(pa.float64())}
    table, names = read_table(path, columns)
    lengths = pc.list_value_length(table["input_ids"]).to_pylist()
    return Rows(Dataset(table), names, lengths, sum(len(one) or 1 for one in table["target"].to_pylist()))
