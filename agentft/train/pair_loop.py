"""TRL's DPOTrainer with our rows, a reference that is computed once, and the persona's prompt run once per batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from trl import DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from agentft.contracts import TrainJob
from agentft.train.loop import EpochOrder, Watched
from agentft.train.reference import Shared, stored_logps, to_device

if TYPE_CHECKING:
    from agentft.engine.profile import Profile
    from agentft.train.rows import Rows


class Collator(DataCollatorForPreference):
    """TRL's collator, and the index of each row."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        return {**super().torch_call(examples), "row": torch.tensor([example["row"] for example in examples])}


class PairTrainer(Watched, DPOTrainer):
    """DPOTrainer on rows that are tokenised already. The loss formulas are the parent's.

    Args:
        weights: of the adapter that training continues, or None for a fresh one.
    """

    def __init__(
        self,
        *,
        order: EpochOrder,
        ids: Sequence[str],
        share_prefix: bool,
        weights: Mapping[str, Any] | None,
        cast: bool,
        **kwargs: Any,
    ):
        self.watch(order, ids)
        self._share = share_prefix
        super().__init__(data_collator=Collator(pad_token_id=kwargs["processing_class"].pad_token_id), **kwargs)
        put_adapter(self.model, weights, cast)
        self._ours = not self.use_weighting and not self.aux_loss_enabled  # weights of WPO need the logits

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset  # our rows are tokenised

    def _precompute_ref_logps(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset  # they carry their reference log-probabilities, see reference_logps()

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        rows, tokens = inputs.pop("row").tolist(), int(inputs["attention_mask"].sum())
        source = Shared(model, self._share) if self._ours and not return_outputs else model
        result = super().compute_loss(source, inputs, return_outputs, num_items_in_batch)
        self.account(rows, tokens, result[0] if return_outputs else result)
        return result


def put_adapter(model: Any, weights: Mapping[str, Any] | None, cast: bool) -> None:
    """Load the weights of an earlier adapter into the fresh one that TRL made; ``cast``: autocast decides about dtypes."""
    from peft import set_peft_model_state_dict
    from peft.tuners.lora import LoraLayer

    if weights is not None:
        set_peft_model_state_dict(model, dict(weights))
    for module in model.modules():
        if isinstance(module, LoraLayer) and cast:  # PEFT would turn its input to float32, and autocast turn it back
            module.cast_input_dtype_enabled = False


def reference_logps(job: TrainJob, profile: Profile, arguments: Any, rows: Rows) -> Any:
    """The rows' dataset with ``ref_chosen_logps`` and ``ref_rejected_logps``: sums of log-probabilities under the reference."""
    import pyarrow as pa
    from datasets import Dataset, concatenate_datasets

    collator = Collator(pad_token_id=job.pad_token_id)

    def compute(source: Shared, batch: Sequence[int]) -> list[tuple[float, float]]:
        inputs = to_device(collator([rows.dataset[index] for index in batch]), profile.device)
        labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
        log_probs = source(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], labels=labels).log_probs
        sums = _sums(log_probs, inputs["completion_mask"][:, 1:], arguments.ld_alpha).tolist()
        return list(zip(sums[: len(batch)], sums[len(batch) :], strict=True))

    size = arguments.per_device_train_batch_size
    order = sorted(range(len(rows.ids)), key=lambda index: rows.lengths[index])
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    known = stored_logps(job, profile, rows.ids, batches, compute)
    names = ("ref_chosen_logps", "ref_rejected_logps")
    columns = {name: pa.array([known[key][side] for key in rows.ids]) for side, name in enumerate(names)}
    return concatenate_datasets([rows.dataset, Dataset(pa.table(columns))], axis=1)


def _sums(log_probs: Any, mask: Any, ld_alpha: float | None) -> Any:
    """Sum per answer; with ``ld_alpha``, tokens beyond the shorter answer's length count with that weight (LD-DPO, arXiv 2409.06411)."""
    if ld_alpha is None:
        return log_probs.sum(1)
    lengths = mask.sum(1)
    shared = torch.minimum(*lengths.chunk(2)).repeat(2)
    position = mask.cumsum(1)
    head = (position > 0) & (position <= shared[:, None])
    tail = position > shared[:, None]
    return (log_probs * head).sum(1) + ld_alpha * (log_probs * tail).sum(1)
