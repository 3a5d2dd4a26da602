"""transformers' Trainer for models with heads. Imported only when training starts: it needs torch and transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from agentft.contracts import LossContext
from agentft.engine.heads import outputs
from agentft.engine.score import pad
from agentft.render.heads import MASKED
from agentft.render.task import Task
from agentft.train.summed import SummedTrainer


class Collator:
    """Rows -> ``input_ids``, ``attention_mask``, ``types`` (B, L), ``labels``, and ``row`` (B,).

    ``labels``: class numbers (B,), 0 / 1 per class (B, C), numbers (B,), tags with -100 elsewhere (B, L), or the first and last token of
    the answer (B, 2).
    """

    def __init__(self, task: Task, pad_token_id: int):
        self.task, self.pad_token_id = task, pad_token_id

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        ids = [row["input_ids"] for row in rows]
        return {
            "input_ids": pad(ids, self.pad_token_id),
            "attention_mask": pad([[1] * len(row) for row in ids], 0),
            "types": pad([row["types"] for row in rows], 0),
            "labels": self._labels([row["target"] for row in rows]),
            "row": torch.tensor([row["row"] for row in rows]),
        }

    def _labels(self, targets: Sequence[Sequence[float]]) -> torch.Tensor:
        if self.task.name == "regress":
            return torch.tensor([target[0] for target in targets], dtype=torch.float32)
        if self.task.name == "tag":
            return pad([[int(tag) for tag in target] for target in targets], MASKED)
        if self.task.multi:
            hot = torch.zeros(len(targets), len(self.task.labels))
            for number, target in enumerate(targets):
                hot[number, [int(one) for one in target]] = 1.0
            return hot
        return torch.tensor([[int(one) for one in target] for target in targets]).squeeze(-1)


class HeadTrainer(SummedTrainer):
    """The loss of every row, token or answer weighed, and divided by all weights of an optimiser step, whatever the micro-batches.

    Args:
        loss: ``(logits, targets, context) -> losses``.
        weights: of the classes, or None.
    """

    def __init__(
        self,
        *,
        task: Task,
        loss: Any,
        context: LossContext,
        weights: Sequence[float] | None,
        pad_token_id: int,
        **kwargs: Any,
    ):
        self.trunk: Any = None  # hidden states behind frozen layers, see agentft.train.trunk
        self._task, self._loss, self._context = task, loss, context
        self._weights = None if weights is None else torch.tensor(weights)
        super().__init__(data_collator=Collator(task, pad_token_id), **kwargs)

    def weigh(self, labels: torch.Tensor) -> torch.Tensor:
        """Weight of each row, tag or answer, in the order of :meth:`_losses`."""
        targets = labels[labels != MASKED] if self._task.name == "tag" else labels
        if self._weights is None:
            return torch.ones(len(targets), device=labels.device)
        return self._weights.to(labels.device)[targets]

    def _losses(self, logits: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self._task.name == "span":
            hidden = logits.masked_fill(mask[..., None] == 0, torch.finfo(logits.dtype).min)
            sides = [self._loss(hidden[..., side], labels[:, side], self._context) for side in (0, 1)]
            return torch.stack(sides).mean(0)
        if self._task.name == "tag":
            kept = labels != MASKED
            return self._loss(logits[kept], labels[kept], self._context)
        return self._loss(logits, labels, self._context)

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        rows, mask = inputs["row"].tolist(), inputs["attention_mask"]
        if self.trunk is not None:
            self.trunk.use(rows, self.model.training)
        logits = outputs(model, self._task, inputs["input_ids"], mask, inputs["types"]).float()
        weights = self.weigh(inputs["labels"])
        losses = self._losses(logits, inputs["labels"], mask)
        # A batch without a single tag to learn has no weight; it then counts for nothing.
        total = weights.sum().clamp(min=1e-12) if num_items_in_batch is None else num_items_in_batch
        loss = (losses * weights).sum() / total
        bad = ~torch.isfinite(losses.detach())
        self.account(rows, int(mask.sum()), loss, bad=bad.nonzero().flatten() if len(losses) == len(rows) else None)
        return (loss, {"logits": logits}) if return_outputs else loss
