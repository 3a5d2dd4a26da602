"""TRL's KTOTrainer with our rows, a reference that is computed once, and the persona's prompt run once per batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from trl import KTOTrainer
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

from agentft.contracts import TrainJob
from agentft.train.loop import Watched
from agentft.train.pair_loop import put_adapter
from agentft.train.reference import Shared, stored_logps, to_device

if TYPE_CHECKING:
    from agentft.engine.profile import Profile
    from agentft.train.rows import Rows


class Collator(DataCollatorForUnpairedPreference):
    """TRL's collator, and the index of each row."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        return {**super().torch_call(examples), "row": torch.tensor([example["row"] for example in examples])}


class AnswerTrainer(Watched, KTOTrainer):
    """KTOTrainer on rows that are tokenised already. The loss formulas are the parent's.

    Args:
        weights: of the adapter that training continues, or None for a fresh one.
    """

    def __init__(self, *, ids: Sequence[str], share_prefix: bool, weights: Mapping[str, Any] | None, cast: bool, **kwargs: Any):
        # In the order of the file: the KL term needs the neighbours that it was computed with.
        self.watch(torch.utils.data.SequentialSampler(kwargs["train_dataset"]), ids)
        self._share = share_prefix
        super().__init__(data_collator=Collator(pad_token_id=kwargs["processing_class"].pad_token_id), **kwargs)
        put_adapter(self.model, weights, cast)
        self._ours = not self.aux_loss_enabled

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset  # our rows are tokenised, and have their neighbours' answers already

    def _precompute_ref_logps(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset  # they carry their reference log-probabilities, see reference_logps()

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        rows, tokens = inputs.pop("row").tolist(), int(inputs["attention_mask"].sum())
        source = Shared(model, self._share) if self._ours and not return_outputs else model
        result = super().compute_loss(source, inputs, return_outputs, num_items_in_batch)
        self.account(rows, tokens, result[0] if return_outputs else result)
        return result


def reference_logps(job: TrainJob, profile: Profile, arguments: Any, rows: Rows) -> Any:
    """The rows' dataset with the answers of their neighbours, ``ref_logps`` and ``ref_KL_logps``.

    Each prompt gets the answer of the row before it in its micro-batch, the first one that of the last, as in TRL.
    """
    import pyarrow as pa
    from datasets import Dataset, concatenate_datasets

    size = arguments.per_device_train_batch_size
    batches = [list(range(start, min(start + size, len(rows.ids)))) for start in range(0, len(rows.ids), size)]
    before = [batch[place - 1] for batch in batches for place in range(len(batch))]
    answers = rows.dataset["completion_ids"]
    neighbours = pa.array([answers[index] for index in before], pa.list_(pa.int32()))
    dataset = concatenate_datasets([rows.dataset, Dataset(pa.table({"KL_completion_ids": neighbours}))], axis=1)
    collator = Collator(pad_token_id=job.pad_token_id)

    def compute(source: Shared, batch: Sequence[int]) -> list[tuple[float, float]]:
        inputs = to_device(collator([dataset[index] for index in batch]), profile.device)
        sums = []
        for prefix in ("", "KL_"):
            ids, mask = inputs[f"{prefix}input_ids"], inputs[f"{prefix}attention_mask"]
            labels = ids.masked_fill(inputs[f"{prefix}completion_mask"] == 0, -100)
            sums.append(source(input_ids=ids, attention_mask=mask, labels=labels).log_probs.sum(1).tolist())
        return list(zip(*sums, strict=True))

    known = stored_logps(job, profile, rows.ids, batches, compute)
    columns = {name: pa.array([known[key][side] for key in rows.ids]) for side, name in enumerate(("ref_logps", "ref_KL_logps"))}
    return concatenate_datasets([dataset, Dataset(pa.table(columns))], axis=1)
