"""Log-probabilities under the reference: computed once, before training, with the code and precision of training, and stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from agentft.contracts import TrainJob
from agentft.engine.score import token_losses

if TYPE_CHECKING:
    from agentft.engine.profile import Profile

FILE = "reference.jsonl"


class Shared:
    """Stands in for the model in TRL's losses: the same log-probabilities, from :func:`~agentft.engine.score.token_losses`.

    What TRL only logs (entropy, mean logits, top-1 hits) is zero: it would need logits of every position.
    """

    def __init__(self, model: Any, share_prefix: bool):
        self.model, self.share_prefix = model, share_prefix

    def __call__(self, *, input_ids: Any, attention_mask: Any, labels: Any, **_: Any) -> Any:
        import torch

        losses, _owner = token_losses(self.model, input_ids, attention_mask, labels, share_prefix=self.share_prefix)
        where = labels[:, 1:] != -100
        log_probs = torch.zeros(where.shape, dtype=losses.dtype, device=losses.device).masked_scatter(where, -losses)
        nothing = torch.zeros_like(log_probs)
        return SimpleNamespace(log_probs=log_probs, entropy=nothing, mean_logits=nothing, is_top1=where & False)


def stored_logps(
    job: TrainJob,
    profile: Profile,
    ids: Sequence[str],
    batches: Sequence[Sequence[int]],
    compute: Callable[[Shared, Sequence[int]], Sequence[Sequence[float]]],
) -> dict[str, list[float]]:
    """Row id -> its numbers under the reference, from ``out/reference.jsonl`` where an earlier try left it.

    Args:
        batches: rows by index, in the batches in which they are run.
        compute: a model and a batch -> the numbers of each of its rows.
    """
    file = job.out / FILE
    known: dict[str, list[float]] = {}
    if file.is_file():
        known = {row["id"]: row["logps"] for row in map(json.loads, file.read_text(encoding="utf-8").splitlines())}
    if set(known) != set(ids):
        source = Shared(_model(job, profile), profile.share_prefix)
        known = {}
        for batch in batches:
            with _quietly(profile):
                found = compute(source, batch)
            known |= {ids[index]: list(map(float, numbers)) for index, numbers in zip(batch, found, strict=True)}
            if job.progress is not None:
                job.progress(len(known), len(ids), {})
        temporary = file.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps({"id": key, "logps": known[key]}) + "\n" for key in ids), encoding="utf-8")
        temporary.replace(file)
    return known


def _model(job: TrainJob, profile: Profile) -> Any:
    """The reference, in the dtype in which training will hold the model. It is gone before the model to train is loaded."""
    from agentft.engine.models import load_model
    from agentft.train.setup import frozen_dtype, quantisation

    strategy = job.config.strategy
    dtype, further = frozen_dtype(strategy, profile), quantisation(strategy, profile)
    return load_model(job.model, replace(profile, decode_dtype=dtype), adapter=job.reference or job.adapter, **further)


class _quietly(AbstractContextManager[None]):
    """No gradient, and the mixed precision of training."""

    def __init__(self, profile: Profile):
        import torch

        mixed = profile.train_dtype if profile.train_dtype != "float32" else None
        dtype = getattr(torch, mixed) if mixed else None
        self._parts = (torch.no_grad(), torch.autocast(profile.device.split(":")[0], dtype=dtype, enabled=bool(mixed)))

    def __enter__(self) -> None:
        for part in self._parts:
            part.__enter__()

    def __exit__(self, *details: Any) -> None:
        for part in reversed(self._parts):
            part.__exit__(*details)


def to_device(batch: Mapping[str, Any], device: str) -> dict[str, Any]:
    return {key: value.to(device) for key, value in batch.items()}
