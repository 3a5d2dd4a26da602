"""transformers' Trainer for encoder-decoders. Imported only when training starts: it needs torch and transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from agentft.engine.score import pad
from agentft.engine.seq2seq import target_losses
from agentft.train.summed import SummedTrainer


class Collator:
    """Rows -> ``input_ids`` and ``attention_mask`` (B, longest source), ``labels`` (B, longest target) and ``row`` (B,)."""

    def __init__(self, pad_token_id: int):
        self.pad_token_id = pad_token_id

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        sources = [row["input_ids"] for row in rows]
        return {
            "input_ids": pad(sources, self.pad_token_id),
            "attention_mask": pad([[1] * len(row) for row in sources], 0),
            "labels": pad([row["labels"] for row in rows], -100),
            "row": torch.tensor([row["row"] for row in rows]),
        }


class PairTrainer(SummedTrainer):
    """The mean loss over the target tokens of an optimiser step, whatever the micro-batches.

    Args:
        smoothing: label smoothing; only in training.
    """

    def __init__(self, *, smoothing: float, **kwargs: Any):
        self._smoothing = smoothing
        super().__init__(**kwargs)

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        rows, mask, labels = inputs["row"].tolist(), inputs["attention_mask"], inputs["labels"]
        smoothing = self._smoothing if self.model.training else 0.0
        losses, owner = target_losses(model, inputs["input_ids"], mask, labels, smoothing)
        loss = losses.sum() / (len(losses) if num_items_in_batch is None else num_items_in_batch)
        self.account(rows, int(mask.sum()) + len(losses), loss, bad=owner[~torch.isfinite(losses.detach())])
        return (loss, {}) if return_outputs else loss
