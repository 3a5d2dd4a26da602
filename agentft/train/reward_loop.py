"""TRL's RewardTrainer with our rows, and the head on a base model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from trl import RewardTrainer

from agentft.contracts import TrainJob
from agentft.engine.reward import last_scores
from agentft.engine.score import pad
from agentft.train.loop import EpochOrder, Watched
from agentft.train.setup import frozen_dtype, quantisation, with_strategy

if TYPE_CHECKING:
    from agentft.engine.profile import Profile


class Collator:
    """Pairs -> ``input_ids`` and ``attention_mask`` of shape (2B, longest), chosen first, and ``row`` (B,)."""

    def __init__(self, pad_token_id: int):
        self.pad_token_id = pad_token_id

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        ids = [row["prompt_ids"] + row[f"{side}_ids"] for side in ("chosen", "rejected") for row in rows]
        mask = pad([[1] * len(row) for row in ids], 0)
        return {"input_ids": pad(ids, self.pad_token_id), "attention_mask": mask, "row": torch.tensor([row["row"] for row in rows])}


class ScoreTrainer(Watched, RewardTrainer):
    """RewardTrainer on rows that are tokenised already; the loss is the parent's.

    The score is read at the last real token, found by the mask: with pad == eos a model would look for it in the wrong place.
    """

    def __init__(self, *, order: EpochOrder, ids: Sequence[str], share_prefix: bool, **kwargs: Any):
        self.watch(order, ids)
        self._share = share_prefix
        super().__init__(data_collator=Collator(kwargs["processing_class"].pad_token_id), **kwargs)

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        rows, tokens = inputs.pop("row").tolist(), int(inputs["attention_mask"].sum())

        def scored(*, input_ids: Any, attention_mask: Any, **_: Any) -> Any:
            scores = last_scores(model, input_ids, attention_mask, share_prefix=self._share)
            return SimpleNamespace(logits=scores[:, None].float())

        result = super().compute_loss(scored, inputs, return_outputs, num_items_in_batch)
        self.account(rows, tokens, result[0] if return_outputs else result)
        return result


def head_on(job: TrainJob, profile: Profile) -> tuple[Any, Any]:
    """The base model with a fresh head of one output, and the configuration of its adapter (None where a full model is trained)."""
    from transformers import set_seed

    from agentft.engine.models import pretrained

    strategy = job.config.strategy
    set_seed(job.seed)  # the head is drawn
    model = pretrained(
        "AutoModelForSequenceClassification",
        job.model.path,
        frozen_dtype(strategy, profile),
        num_labels=1,
        attn_implementation=profile.attention,
        **quantisation(strategy, profile),
    )
    model.config.get_text_config().pad_token_id = job.pad_token_id
    return with_strategy(model, strategy, task_type="SEQ_CLS", heads=["score"])
