"""The end of every training method: run the trainer, save the weights, collect the numbers; advice where memory ran out."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentft import processes
from agentft.contracts import TrainJob, TrainResult
from agentft.engine.tree import why_not
from agentft.errors import TrainingError
from agentft.train.adapters import start_prefix
from agentft.train.fitting import OutOfMemory, ran_out
from agentft.train.freezing import notes
from agentft.train.lora import fuse
from agentft.train.options import LoopOptions
from agentft.train.regularise import set_dropout

if TYPE_CHECKING:
    from agentft.engine.profile import Profile
    from agentft.train.rows import Rows

# Kinds of accelerate in which every process holds the whole weights; others gather them layer by layer, as PEFT's own forward asks.
WHOLE = ("NO", "MULTI_CPU", "MULTI_GPU")


def fit(
    job: TrainJob,
    profile: Profile,
    trainer: Any,
    monitor: Any,
    rows: Rows,
    checkpoint: Path | None,
    started: float,
    write: Callable[[Path], None] | None = None,
) -> TrainResult:
    """Train from ``checkpoint`` (or the beginning) to the end, with a validation loss after the last step, and save what came out.

    Args:
        monitor: the callback that writes ``out/metrics.jsonl``.
        started: ``time.perf_counter()`` when the job began.
        write: for methods that leave a whole model whatever the strategy: writes it into the folder that it is given.

    Raises:
        Left: in all processes but the first, which alone saves.
    """
    from transformers import PrinterCallback

    config: LoopOptions = job.config
    trainer.remove_callback(PrinterCallback)
    monitor.trainer = trainer
    trainer.options = config
    if config.dropout is not None:
        set_dropout(trainer.model, config.dropout)
    if config.strategy.prefix_tuning is not None:
        start_prefix(trainer.model, config.strategy.prefix_tuning, trainer.processing_class, job.seed)
    if trainer.accelerator.distributed_type.value in WHOLE:
        fuse(trainer.model)
    rows_alone = _rows_alone(trainer)
    if rows_alone and job.note is not None:
        job.note(rows_alone)
    trunk, said = None, ""
    if config.strategy.freeze is not None:
        trunk, said = _trunk(job, profile, trainer, rows)
    if trainer.accelerator.num_processes != processes.world():
        raise TrainingError(f"{processes.world()} processes were started, and accelerate sees {trainer.accelerator.num_processes}")
    if processes.shards() and str(trainer.accelerator.distributed_type.value) not in ("FSDP", "DEEPSPEED"):
        raise TrainingError(
            f"this run was started to shard the model, and accelerate would copy it ({trainer.accelerator.distributed_type.value}): "
            "it shards on GPUs only; use torchrun without an accelerate configuration"
        )
    with memory_advice(trainer, profile, config, rows.lengths):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if trainer.eval_dataset is not None and not config.early_stopping and not evaluated_now(trainer.state):
            trainer.evaluate()
    if trunk is not None:
        trunk.remove()
    adapter = config.strategy.adapter and write is None
    # Counted before anything is written, which may merge an adapter into the model.
    trainable, total = counted(trainer.model)
    weights = gathered(trainer)
    trainer.accelerator.wait_for_everyone()  # nobody writes to the checkpoints any more
    if processes.rank():
        raise processes.Left
    folder = save(job, trainer, adapter, write, weights)
    return TrainResult(
        adapter=folder if adapter else None,
        model=None if adapter else folder,
        metrics=summary(monitor.log, trainer, rows, seconds=time.perf_counter() - started),
        trainable=trainable,
        total=total,
        notes=(*notes(trainer.model, config.strategy), *(text for text in (rows_alone, said) if text)),
    )


def _rows_alone(trainer: Any) -> str:
    """A sentence where the persona cannot be run once for all rows of a batch, and why."""
    if not getattr(trainer, "_share", False):
        return ""
    reason = why_not(trainer.accelerator.unwrap_model(trainer.model).train())
    return f"what rows have in common is run for every row of its own: {reason}" if reason else ""


def _trunk(job: TrainJob, profile: Profile, trainer: Any, rows: Rows) -> tuple[Any, str]:
    """The frozen layers held still, and computed once where the trainer can take their states."""
    from agentft.train.trunk import hold_still, prepare

    freeze = job.config.strategy.freeze
    if not hasattr(trainer, "trunk"):
        if freeze.cache == "on":
            raise TrainingError("strategy.freeze.cache: this trainer computes frozen layers in every step; write `cache: auto`")
        hold_still(trainer.model)
        return None, ""
    lengths: dict[bool, Any] = {True: rows.lengths}
    if trainer.eval_dataset is not None:
        lengths[False] = [len(ids) for ids in trainer.eval_dataset["input_ids"]]
    report = job.progress
    progress = None if report is None else lambda done, total: report(done, total, {})
    trainer.trunk, said = prepare(trainer, freeze.cache, lengths, job.out, profile.train_dtype, job.config.epochs, progress, job.note)
    return trainer.trunk, said


def counted(model: Any) -> tuple[int, int]:
    """Number of parameters that move, and of all parameters. In 4 bits two of them are kept in one byte."""
    each = [(p, p.numel() * (2 * p.element_size() if type(p).__name__ == "Params4bit" else 1)) for p in model.parameters()]
    return sum(count for p, count in each if p.requires_grad), sum(count for _, count in each)


def gathered(trainer: Any) -> dict[str, Any] | None:
    """All weights where each process holds a shard of them (FSDP2, ZeRO-3), in process 0; None where every process has all.

    Called by all processes.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    if getattr(trainer, "is_deepspeed_enabled", False):
        return trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not any(hasattr(parameter, "full_tensor") for parameter in trainer.model.parameters()):
        return None
    return get_model_state_dict(trainer.model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def save(
    job: TrainJob,
    trainer: Any,
    adapter: bool,
    write: Callable[[Path], None] | None = None,
    weights: dict[str, Any] | None = None,
) -> Path:
    """Write the result next to its final place and rename it, so that a folder of that name is always complete.

    ``weights``: of the model, where it holds only a shard of them itself, see :func:`gathered`.
    """
    final = job.out / ("adapter" if adapter else "model")
    part = final.with_name(final.name + ".part")
    for old in (part, final):
        shutil.rmtree(old, ignore_errors=True)
    model = trainer.accelerator.unwrap_model(trainer.model)
    if write is not None:
        write(part)
    elif adapter:
        forget_start(model)
        model.save_pretrained(part, save_embedding_layers=False, state_dict=weights)
        (part / "README.md").unlink(missing_ok=True)  # peft's card, empty but for the path of the base model
    else:
        model.save_pretrained(part, state_dict=weights)
        trainer.processing_class.save_pretrained(part)
    part.rename(final)
    return final


def forget_start(model: Any) -> None:
    """The text at which virtual tokens started is past, and PEFT would ask for it, and for the tokenizer's folder, when it loads them."""
    config = model.peft_config["default"]
    if getattr(config, "prompt_tuning_init", None) is not None:
        config.prompt_tuning_init, config.prompt_tuning_init_text, config.tokenizer_name_or_path = "RANDOM", None, None


def summary(log: Path, trainer: Any, rows: Rows, seconds: float) -> dict[str, float]:
    """Numbers of the whole run, the part before an interruption included (but for ``seconds``, which is of this call)."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    losses = [line for line in lines if "loss" in line]
    weights = [now["step"] - before for now, before in zip(losses, [0, *(line["step"] for line in losses)], strict=False)]
    metrics = {
        "train_loss": sum(line["loss"] * n for line, n in zip(losses, weights, strict=True)) / max(1, sum(weights)),
        "first_loss": losses[0]["loss"] if losses else math.nan,
        "final_loss": losses[-1]["loss"] if losses else math.nan,
        "steps": float(trainer.state.global_step),
        "epochs": float(trainer.state.epoch or 0),
        "rows": float(len(rows.ids)),
        "tokens": float(rows.tokens),
        "supervised_tokens": float(rows.supervised),
        "seconds": round(seconds, 2),
    }
    evaluations = [line["eval_loss"] for line in lines if "eval_loss" in line]
    if trainer.args.load_best_model_at_end and trainer.state.best_metric is not None:
        return metrics | {"eval_loss": trainer.state.best_metric, "best_step": float(trainer.state.best_global_step or 0)}
    return metrics | ({"eval_loss": evaluations[-1]} if evaluations else {})


def evaluated_now(state: Any) -> bool:
    """True if there is a validation loss of the last step. Not read from the log, which only the first process writes."""
    return any("eval_loss" in entry and entry["step"] == state.global_step for entry in state.log_history)


class memory_advice:
    """Turns a lack of memory into a line that says what to change."""

    def __init__(self, trainer: Any, profile: Profile, options: LoopOptions, lengths: Sequence[int]):
        self.trainer, self.profile, self.options, self.lengths = trainer, profile, options, lengths

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if not ran_out(error):
            return
        args = self.trainer.args
        longest = max(self.lengths[i] for i in self.trainer.step_rows or range(len(self.lengths)))
        half = f"micro_batch: {max(1, args.per_device_train_batch_size // 2)}"
        if self.options.micro_batch_is_free:
            advice = (
                f"Try {half}, then gradient_checkpointing: true, then a smaller data.max_length; "
                "the result stays the same except for the last"
            )
        else:
            advice = (
                f"Try gradient_checkpointing: true, which keeps the result; or {half} or a smaller data.max_length, which change it: "
                "here the rows of a micro-batch are compared with one another, so agentft does not make it smaller by itself"
            )
        raise OutOfMemory(
            f"out of memory on {self.profile.device} at step {self.trainer.state.global_step + 1} with "
            f"micro_batch {args.per_device_train_batch_size} and rows of up to {longest} tokens. {advice}"
        ) from error
