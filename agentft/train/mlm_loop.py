"""transformers' Trainer for masked language modelling. Imported only when training starts: it needs torch and transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch

from agentft.engine.masked import masked_losses
from agentft.engine.score import pad
from agentft.render.masking import masked
from agentft.train.loop import EpochOrder
from agentft.train.rows import Rows, read_table
from agentft.train.summed import SummedTrainer


class MaskingCollator:
    """Rows -> ``input_ids``, ``attention_mask``, ``labels`` (-100 where nothing is masked) of shape (B, longest), and ``row`` (B,).

    The masks of a training row are drawn anew in each epoch from seed, epoch and row alone, so that a resumed run goes on with the very
    masks that were next. Those of a validation row are always the same.
    """

    def __init__(self, order: EpochOrder, seed: int, share: float, tokenizer: Any, vocabulary: Sequence[int]):
        self.order, self.seed, self.share, self.vocabulary = order, seed, share, vocabulary
        self.mask_id, self.pad_id = tokenizer.mask_token_id, tokenizer.pad_token_id

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        hidden, labels = zip(*(self._masked(row) for row in rows), strict=True)
        return {
            "input_ids": pad(hidden, self.pad_id),
            "attention_mask": pad([[1] * len(row) for row in hidden], 0),
            "labels": pad(labels, -100),
            "row": torch.tensor([row["row"] for row in rows]),
        }

    def _masked(self, row: Mapping[str, Any]) -> tuple[list[int], list[int]]:
        when = "held out" if row["fixed"] else self.order.epoch
        draw = Random(f"{self.seed}/{when}/{row['row']}")
        return masked(row["input_ids"], row["words"], draw, share=self.share, mask_id=self.mask_id, vocabulary=self.vocabulary)


class MlmTrainer(SummedTrainer):
    """The mean loss over the masked tokens of an optimiser step, whatever the micro-batches."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        rows, mask = inputs["row"].tolist(), inputs["attention_mask"]
        losses, owner, _ = masked_losses(model, inputs["input_ids"], mask, inputs["labels"])
        loss = losses.sum() / (len(losses) if num_items_in_batch is None else num_items_in_batch)
        self.account(rows, int(mask.sum()), loss, bad=owner[~torch.isfinite(losses.detach())])
        return (loss, {}) if return_outputs else loss


def read_masked_rows(path: Path, fixed: bool = False) -> Rows:
    """Rows as :func:`agentft.render.texts.mlm_rows` writes them, in one Arrow table; ``fixed``: their masks never change.

    Raises:
        TrainingError: there are none.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from datasets import Dataset

    ids = pa.list_(pa.int32())
    table, names = read_table(path, {"input_ids": ids, "words": ids})
    lengths = pc.list_value_length(table["input_ids"]).to_pylist()
    guessed = int(pc.sum(pc.greater_equal(pc.list_flatten(table["words"]), 0)).as_py())
    return Rows(Dataset(table.append_column("fixed", pa.array([fixed] * len(names)))), names, lengths, guessed)
