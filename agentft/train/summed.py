"""transformers' Trainer with the loss of an optimiser step divided by what the whole step learns from, whatever the micro-batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import Trainer

from agentft.render.conversation import MASKED
from agentft.train.loop import EpochOrder, Watched


class SummedTrainer(Watched, Trainer):
    """Base of trainers whose ``compute_loss`` divides a sum by ``num_items_in_batch``."""

    def __init__(self, *, order: EpochOrder, ids: Sequence[str], **kwargs: Any):
        self.watch(order, ids)
        super().__init__(**kwargs)
        self.model_accepts_loss_kwargs = True  # else transformers would divide by the number of micro-batches once more
        self.label_names = ["labels"]

    def weigh(self, labels: torch.Tensor) -> torch.Tensor:
        """Weight of everything in ``labels`` that is learned from; by default 1 for each that is not masked."""
        return (labels != MASKED).flatten()

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor | None:
        if not batch_samples:
            return None
        return torch.stack([self.weigh(batch["labels"]).sum() for batch in batch_samples]).sum().to(device)
