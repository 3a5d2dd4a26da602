"""TRL's SFTTrainer with our rows, our order and our loss. Imported only when training starts: it needs torch and TRL."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, TrainerCallback
from trl import SFTTrainer

from agentft import processes
from agentft.engine.score import pad, token_losses
from agentft.errors import TrainingError
from agentft.train.optimisers import layered
from agentft.train.options import LoopOptions
from agentft.train.schedules import schedule

Progress = Callable[[int, int, Mapping[str, float]], None]


class Collator:
    """Rows -> ``input_ids``, ``labels``, ``attention_mask`` of shape (B, longest), padded on the right, and ``row`` (B,).

    Rows with weights give ``weights`` (B, longest) float32 too, 1 on padding.

    The mask comes from the lengths, because in many tokenizers the padding token is also the stop token.
    """

    def __init__(self, pad_token_id: int):
        self.pad_token_id = pad_token_id

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        ids = [row["input_ids"] for row in rows]
        batch = {
            "input_ids": pad(ids, self.pad_token_id),
            "labels": pad([row["labels"] for row in rows], -100),
            "attention_mask": pad([[1] * len(row) for row in ids], 0),
            "row": torch.tensor([row["row"] for row in rows]),
        }
        if "weights" in rows[0]:
            batch["weights"] = pad([row["weights"] for row in rows], 1).float()
        return batch


class EpochOrder(torch.utils.data.Sampler[int]):
    """Order of the rows, a function of seed and epoch alone: a resumed run continues with the rows that were next.

    Rows are shuffled, and within windows of a few batches sorted by length, so that a batch holds rows of similar length
    and little padding is computed. The order of the batches is shuffled again; a batch that is not full comes last.
    """

    WINDOW = 8  # batches; larger saves little more padding and makes the batches of two epochs alike

    def __init__(self, lengths: Sequence[int], batch: int, seed: int):
        self.lengths, self.batch, self.seed, self.epoch = lengths, batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        draw = random.Random(f"{self.seed}/{self.epoch}")
        order = list(range(len(self.lengths)))
        draw.shuffle(order)
        window = self.batch * self.WINDOW
        for start in range(0, len(order), window):
            order[start : start + window] = sorted(order[start : start + window], key=lambda i: (self.lengths[i], i))
        batches = [order[start : start + self.batch] for start in range(0, len(order), self.batch)]
        rest = [batches.pop()] if len(batches[-1]) < self.batch else []
        draw.shuffle(batches)
        return iter([i for batch in batches + rest for i in batch])


class Shares(torch.utils.data.Sampler[list[int]]):
    """The batches of ``order`` in pieces for several processes: of every ``world`` pieces one goes to each process.

    accelerate would fill the last batch up with rows from the start, which one process does not see. Here its rows are spread over the
    processes; a process for which none is left gets a row without labels (index + number of rows, see :class:`Unlabelled`). So
    each step learns from the same rows, whatever the number of processes.
    """

    batch_size = None  # the pieces differ in size, for accelerate

    def __init__(self, order: EpochOrder, batch: int, micro: int, world: int):
        self.order, self.batch, self.micro, self.world = order, batch, micro, world

    def set_epoch(self, epoch: int) -> None:
        self.order.set_epoch(epoch)

    def __len__(self) -> int:
        full, rest = divmod(len(self.order), self.batch)
        return (full * (self.batch // self.micro)) + math.ceil(rest / (self.micro * self.world)) * self.world

    def __iter__(self) -> Iterator[list[int]]:
        order = list(self.order)
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            count = math.ceil(len(rows) / (self.micro * self.world)) * self.world
            for number in range(count):
                yield rows[number::count] or [len(order) + rows[0]]


class Unlabelled(torch.utils.data.Dataset[Mapping[str, Any]]):
    """``rows``, and behind them the same rows without anything to learn."""

    def __init__(self, rows: Any):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        if index < len(self.rows):
            return self.rows[index]
        row = self.rows[index - len(self.rows)]
        return {**row, "labels": [-100] * len(row["labels"])} if "labels" in row else row


class Watched:
    """What all our trainers have in common: the order of the rows, and errors that name the rows they came from.

    Stands before a trainer of TRL in the list of bases; :meth:`watch` is called before the trainer's own ``__init__``.
    """

    args: Any
    model: Any
    state: Any
    accelerator: Any
    train_dataset: Any
    data_collator: Any
    optimizer: Any
    lr_scheduler: Any
    options: LoopOptions | None = None  # set by :func:`agentft.train.outcome.fit`

    def watch(self, order: torch.utils.data.Sampler[int] | None, ids: Sequence[str]) -> None:
        self._order, self._ids = order, ids
        self.tokens, self.step_loss, self.step_rows = 0, 0.0, list[int]()

    def _get_train_sampler(self, *_: Any) -> torch.utils.data.Sampler[int] | None:
        return self._order

    def get_train_dataloader(self) -> Any:
        if processes.world() == 1 or not isinstance(self._order, EpochOrder):
            return super().get_train_dataloader()  # type: ignore[misc]
        args, world = self.args, processes.world()
        micro = args.per_device_train_batch_size
        shares = Shares(self._order, micro * args.gradient_accumulation_steps * world, micro, world)
        dataset: Any = Unlabelled(self.train_dataset)
        loader = torch.utils.data.DataLoader(
            dataset, batch_sampler=shares, collate_fn=self.data_collator, pin_memory=args.dataloader_pin_memory
        )
        return self.accelerator.prepare(loader)

    def create_optimizer(self, model: Any = None) -> Any:
        if self.optimizer is None and self.options is not None and self.options.layer_decay is not None:
            self.optimizer = layered(self, self.options, self.model if model is None else model)
            return self.optimizer
        return super().create_optimizer(model)  # type: ignore[misc]

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        if self.lr_scheduler is None and self.options is not None:
            warmup = self.args.get_warmup_steps(num_training_steps)
            self.lr_scheduler = schedule(self.optimizer if optimizer is None else optimizer, self.options, warmup, num_training_steps)
            self._created_lr_scheduler = True  # as the parent notes it: made anew if training starts again
            return self.lr_scheduler
        return super().create_scheduler(num_training_steps, optimizer)  # type: ignore[misc]

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """The run's report says what was done; TRL's card would be written with every checkpoint."""

    def account(self, rows: list[int], tokens: int, loss: Any, bad: Any = None) -> None:
        """Note a micro-batch; ``bad``: positions in ``rows`` whose loss is not finite, where that is known.

        Raises:
            TrainingError: the loss is not finite.
        """
        if not self.model.training:
            return
        self.step_rows += rows
        self.tokens += tokens
        value = float(loss.detach())
        self.step_loss += value
        if not math.isfinite(value):
            named = rows if bad is None or not len(bad) else [rows[i] for i in sorted(set(bad.tolist()))]
            self.stop("the loss", named)

    def stop(self, what: str, rows: Sequence[int] | None = None) -> None:
        """Raise the error for a loss or gradient that is not a number, naming the rows it came from."""
        rows = self.step_rows if rows is None else rows
        names = ", ".join(f"'{self._ids[i]}'" for i in rows[:8]) + (f" and {len(rows) - 8} more" if len(rows) > 8 else "")
        raise TrainingError(
            f"{what} is not finite at step {self.state.global_step + 1} of {self.state.max_steps}; rows of this batch: {names}. "
            f"Try a smaller learning_rate (now {self.args.learning_rate:g}), more warmup, a smaller max_grad_norm, "
            "`device: {train_dtype: fp32}`, and look at these rows with `agentft data`"
        )


class Trainer(Watched, SFTTrainer):
    """SFTTrainer whose loss is computed from supervised positions only, with the shared prefix run once per micro-batch.

    Same loss and gradient as the parent's ``compute_loss`` (asserted in ``tests/train/test_loss.py``), without its
    entropy and accuracy on every step. What the parent knows and this does not (mixture-of-experts losses, DFT) goes to the
    parent. A message's weight multiplies the loss of its tokens, in training and validation; the sum is divided by the number of
    supervised tokens, not by the sum of weights, so that a weight scales its message and no other. Labels are smoothed in training
    only: a validation loss is a mean negative log-likelihood whatever was trained with.
    """

    def __init__(self, *, order: EpochOrder, ids: Sequence[str], share_prefix: bool, smoothing: float = 0.0, **kwargs: Any):
        self.watch(order, ids)
        self.trunk: Any = None  # hidden states behind frozen layers, see agentft.train.trunk
        self._share, self._smoothing = share_prefix, smoothing
        super().__init__(**kwargs)
        nll = getattr(self.args, "loss_type", "nll") == "nll" and not self.args.label_smoothing_factor
        self._ours = nll and not getattr(self, "aux_loss_enabled", False)

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        rows, tokens = inputs.pop("row").tolist(), int(inputs["attention_mask"].sum())
        weights, training = inputs.pop("weights", None), self.model.training
        if weights is not None and not self._ours:
            raise TrainingError(
                "messages with a weight ('train' is a number) need the plain loss: leave loss_type and the loss of a mixture of experts "
                "out, or make the weights true or false"
            )
        if self.trunk is not None:
            self.trunk.use(rows, training)
        if not self._ours:
            result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            self.account(rows, tokens, result[0] if return_outputs else result)
            return result
        smoothing = self._smoothing if training else 0.0
        batch = (inputs["input_ids"], inputs["attention_mask"], inputs["labels"])
        losses, owner = token_losses(model, *batch, share_prefix=self._share and self.trunk is None, smoothing=smoothing)
        if weights is not None:  # in the order of token_losses: labels[:, t] is predicted at t - 1
            losses = losses * weights[:, 1:][batch[2][:, 1:] != -100].to(losses.device)
        # num_items_in_batch: labelled tokens of all micro-batches of this optimiser step, so that 1 x 8 rows equal 8 x 1.
        loss = losses.sum() / (max(1, len(losses)) if num_items_in_batch is None else num_items_in_batch)
        if num_items_in_batch is not None:  # counted over all processes, and the gradient is the mean over them
            loss = loss * self.accelerator.num_processes
        self.account(rows, tokens, loss, bad=owner[~torch.isfinite(losses.detach())])
        return (loss, {}) if return_outputs else loss  # transformers asks for outputs where it evaluates, and drops them


def over_all(trainer: Any, count: int) -> int:
    """The sum of ``count`` over all processes."""
    if processes.world() == 1:
        return count
    return int(trainer.accelerator.reduce(torch.tensor(count, device=trainer.accelerator.device), reduction="sum"))


def callbacks(options: LoopOptions, monitor: Monitor) -> list[TrainerCallback]:
    """The monitor, and early stopping where the options ask for it."""
    patience = options.early_stopping
    return [monitor, *([EarlyStoppingCallback(patience)] if patience else [])]


class Monitor(TrainerCallback):
    """Progress, ``metrics.jsonl`` and the check of the gradient."""

    def __init__(self, log: Path, progress: Progress | None, check_gradient: bool, further: Mapping[str, str] | None = None):
        self.log, self.progress, self.check_gradient = log, progress, check_gradient
        self.further = dict(further or {})  # what TRL logs -> our word for it
        self.trainer: Any = None
        self.seconds, self.seconds_logged, self.tokens_logged, self.started = 0.0, 0.0, 0, 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.trainer is not None
        self.started = time.perf_counter()
        self.trainer.step_loss, self.trainer.step_rows = 0.0, []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.trainer is not None
        if not self.check_gradient:  # fp16: the loss scaler meets infinities on purpose and skips the step
            return
        gradients = [p.grad for p in self.trainer.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients) if gradients else torch.zeros(())
        if not math.isfinite(float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)):  # sharded: a norm of all shards
            self.trainer.stop("the gradient norm")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.trainer is not None
        self.seconds += time.perf_counter() - self.started
        if self.progress is not None:
            rate = self.trainer.tokens / self.seconds
            self.progress(state.global_step, state.max_steps, {"loss": self.trainer.step_loss, "tokens_per_second": rate})

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **kwargs: Any) -> None:
        assert self.trainer is not None
        logs = logs or {}
        line = {"step": state.global_step, "epoch": round(state.epoch or 0.0, 4)}
        line |= {key: logs[key] for key in ("loss", "eval_loss", "learning_rate", "grad_norm") if key in logs}
        line |= {name: logs[key] for key, name in self.further.items() if key in logs}
        if "loss" in line:
            tokens, seconds = over_all(self.trainer, self.trainer.tokens - self.tokens_logged), self.seconds - self.seconds_logged
            line["tokens_per_second"] = round(tokens / max(seconds, 1e-9), 1)
            self.tokens_logged, self.seconds_logged = self.trainer.tokens, self.seconds
        if len(line) > 2 and processes.rank() == 0:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
