"""TRL's DPOTrainer with our rows, a reference that is computed once, and the persona's prompt run once per batch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from trl import DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from agentft.contracts import TrainJob
from agentft.engine.score import token_losses
from agentft.train.loop import EpochOrder, Watched

if TYPE_CHECKING:
    from agentft.engine.profile import Profile
    from agentft.train.rows import Rows

REFERENCE = "reference.jsonl"


class Collator(DataCollatorForPreference):
    """TRL's collator, and the index of each row."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        return {**super().torch_call(examples), "row": torch.tensor([example["row"] for example in examples])}


class Shared:
    """Stands in for the model in TRL's loss: the same log-probabilities, from :func:`~agentft.engine.score.token_losses`.

    What TRL only logs (entropy, mean logits, top-1 hits) is zero: it would need logits of every position.
    """

    def __init__(self, model: Any, share_prefix: bool):
        self.model, self.share_prefix = model, share_prefix

    def __call__(self, *, input_ids: Any, attention_mask: Any, labels: Any, **_: Any) -> Any:
        losses, _ = token_losses(self.model, input_ids, attention_mask, labels, share_prefix=self.share_prefix)
        where = labels[:, 1:] != -100
        log_probs = torch.zeros(where.shape, dtype=losses.dtype, device=losses.device).masked_scatter(where, -losses)
        nothing = torch.zeros_like(log_probs)
        return SimpleNamespace(log_probs=log_probs, entropy=nothing, mean_logits=nothing, is_top1=where & False)


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
        from peft import set_peft_model_state_dict
        from peft.tuners.lora import LoraLayer

        self.watch(order, ids)
        self._share = share_prefix
        super().__init__(data_collator=Collator(pad_token_id=kwargs["processing_class"].pad_token_id), **kwargs)
        if weights is not None:
            set_peft_model_state_dict(self.model, dict(weights))
        for module in self.model.modules():
            if isinstance(module, LoraLayer) and cast:  # PEFT would turn its input to float32, and autocast turn it back
                module.cast_input_dtype_enabled = False
        # WPO weights need the logits; with several processes gradients are averaged by a wrapper around one forward pass.
        self._ours = not self.use_weighting and not self.aux_loss_enabled and self.accelerator.num_processes == 1

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


def reference_logps(job: TrainJob, profile: Profile, arguments: Any, rows: Rows, share_prefix: bool) -> None:
    """Add ``ref_chosen_logps`` and ``ref_rejected_logps`` to the rows: sums of log-probabilities under the reference.

    Computed with the very code and precision of training, once, and kept in ``out/reference.jsonl`` for a resumed try.
    """
    import pyarrow as pa
    from datasets import Dataset, concatenate_datasets

    file = job.out / REFERENCE
    known: dict[str, list[float]] = {}
    if file.is_file():
        known = {row["id"]: row["logps"] for row in map(json.loads, file.read_text(encoding="utf-8").splitlines())}
    if set(known) != set(rows.ids):
        known = _computed(job, profile, arguments, rows, share_prefix)
        temporary = file.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps({"id": key, "logps": known[key]}) + "\n" for key in rows.ids), encoding="utf-8")
        temporary.replace(file)
    columns = {
        name: pa.array([known[key][side] for key in rows.ids]) for side, name in enumerate(("ref_chosen_logps", "ref_rejected_logps"))
    }
    object.__setattr__(rows, "dataset", concatenate_datasets([rows.dataset, Dataset(pa.table(columns))], axis=1))


def _computed(job: TrainJob, profile: Profile, arguments: Any, rows: Rows, share_prefix: bool) -> dict[str, list[float]]:
    from agentft.engine.models import load_model

    dtype = profile.train_dtype if job.config.strategy.lora else "float32"
    adapter = job.reference or job.adapter
    model = load_model(job.model, replace(profile, decode_dtype=dtype), adapter=adapter)
    source = Shared(model, share_prefix)
    collator = Collator(pad_token_id=job.pad_token_id)
    order = sorted(range(len(rows.ids)), key=lambda index: rows.lengths[index])
    size, found = arguments.per_device_train_batch_size, dict[str, list[float]]()
    mixed = profile.train_dtype if profile.train_dtype != "float32" else None
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        batch = {key: value.to(profile.device) for key, value in collator([rows.dataset[index] for index in chosen]).items()}
        labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
        device = profile.device.split(":")[0]
        with torch.no_grad(), torch.autocast(device, dtype=getattr(torch, mixed) if mixed else None, enabled=bool(mixed)):
            log_probs = source(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).log_probs
        sums = _sums(log_probs, batch["completion_mask"][:, 1:], arguments.ld_alpha)
        for place, index in enumerate(chosen):
            found[rows.ids[index]] = [float(sums[place]), float(sums[len(chosen) + place])]
        if job.progress is not None:
            job.progress(min(start + size, len(order)), len(order), {})
    return found


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
