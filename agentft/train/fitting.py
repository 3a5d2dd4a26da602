"""How many rows go through the model at once where the recipe leaves `micro_batch` out, and what is done when memory runs out anyway.

Rows per pass change time and memory, not the result: the loss of an optimiser step is the sum over its labelled tokens, whatever passes
they came in. (KTO is the exception: its KL term looks at neighbours in the micro-batch.)
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from agentft import processes
from agentft.contracts import TrainJob, TrainResult
from agentft.engine.digest import write_json
from agentft.errors import TrainingError
from agentft.train.optimisers import full_name
from agentft.train.options import LoopOptions

if TYPE_CHECKING:
    from agentft.engine.profile import Profile
    from agentft.train.rows import Rows

FILE = "micro_batch.json"
CPU_TOKENS = 8192  # of one pass on a CPU: beyond it nothing gets faster, and memory goes to waste
MARGIN = 0.8  # share of the available memory that is planned for: the estimate may be off by a quarter


class OutOfMemory(TrainingError):
    """Memory ran out in a training step; the message says what to change."""


@dataclass(frozen=True)
class Plan:
    """Rows per forward pass, and why.

    Attributes:
        tokens: of the longest micro-batch, shared ones once; ``bytes``: estimated peak with it.
        available: bytes that were free when it was made.
    """

    micro_batch: int
    tokens: int = 0
    bytes: int = 0
    available: int = 0

    def __str__(self) -> str:
        if not self.bytes:
            return f"micro-batch {self.micro_batch}"
        return (
            f"micro-batch {self.micro_batch}: up to {self.tokens:,} tokens, about {self.bytes / 1e9:.1f} GB "
            f"of {self.available / 1e9:.1f} GB available"
        )


def tokens_of(lengths: Sequence[int], prefix: int, rows: int) -> int:
    """Tokens of the longest micro-batch of ``rows`` rows: ``prefix`` once, or every row as long as the longest if it is 0."""
    longest = sorted(lengths)[-rows:]
    return prefix + sum(length - prefix for length in longest) if prefix else len(longest) * longest[-1]


def rows_that_fit(lengths: Sequence[int], prefix: int, batch_size: int, tokens: int) -> int:
    """The largest divisor of ``batch_size`` whose longest micro-batch has at most ``tokens`` tokens; 1 where none has."""
    divisors = [n for n in range(1, batch_size + 1) if batch_size % n == 0]
    return max((n for n in divisors if tokens_of(lengths, prefix, n) <= tokens), default=1)


def plan(job: TrainJob, profile: Profile, rows: Rows, *, share: bool, checkpointing: bool, sides: int = 1) -> Plan | None:
    """The largest micro-batch that fits; None where the model's shape is not known.

    What an earlier try decided (``out/micro_batch.json``) stands: a run that is continued goes on with the same passes, to the last bit.

    Args:
        share: the tokens that all rows begin with are run once.
        sides: rows that each of ``rows`` becomes where nothing is shared: two for a pair.
    """
    from agentft.engine import memory

    config: LoopOptions = job.config
    earlier = kept(job)
    if earlier is not None and config.batch_size % earlier.micro_batch == 0:
        return earlier
    shape = memory.shape_at(job.model.path)
    if shape is None:
        return None
    strategy = config.strategy
    options: dict[str, Any] = {"optimizer": full_name(config.optimizer), "checkpointing": checkpointing}
    prefix = rows.shared_prefix if share and not strategy.virtual else 0
    lengths = rows.lengths if prefix else [sides * length + strategy.virtual for length in rows.lengths]
    labelled = min(1.0, rows.supervised / max(1, sum(lengths) - prefix * len(lengths)))
    free = memory.available(profile.device)
    room = memory.tokens_that_fit(shape, strategy, profile, int(MARGIN * free), supervised_share=labelled, **options)
    micro = rows_that_fit(lengths, prefix, config.batch_size, min(room, CPU_TOKENS) if profile.device == "cpu" else room)
    tokens = tokens_of(lengths, prefix, micro)
    more = micro < config.batch_size
    found = memory.training(shape, strategy, profile, tokens, round((tokens - prefix) * labelled), accumulates=more, **options)
    return Plan(micro, tokens, found.total, free)


def kept(job: TrainJob) -> Plan | None:
    """What an earlier try of this job decided."""
    try:
        return Plan(**json.loads((job.out / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def keep(job: TrainJob, chosen: Plan) -> None:
    """Note the decision, for a try that continues this one."""
    if kept(job) != chosen:
        write_json(job.out / FILE, asdict(chosen))


def ran_out(error: BaseException | None) -> bool:
    """Whether ``error`` says that memory is not enough."""
    import torch

    return isinstance(error, (OutOfMemory, torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )


def backing_off(job: TrainJob, profile: Profile, train: Callable[[TrainJob, Profile], TrainResult]) -> TrainResult:
    """``train(job, profile)``; where memory runs out, once more with half the rows per pass, from the last checkpoint.

    Raises:
        OutOfMemory: again, or there is nothing to halve.
    """
    try:
        return train(job, profile)
    except Exception as error:
        found = kept(job) if ran_out(error) else None
        smaller = _half(job, found.micro_batch) if found else None
        if smaller is None:
            raise
        assert found is not None
        failed = str(error).splitlines()[0]
    # Only here is nothing left that holds the trainer of the first try: the error and its frames are gone.
    gc.collect()
    _empty(profile.device)
    keep(job, replace(found, micro_batch=smaller))
    said = (
        f"memory ran out with micro_batch {found.micro_batch}: training went on from its last checkpoint with micro_batch {smaller} and "
        "twice the passes per step, which gives the same result in more time"
    )
    if job.note is not None:
        job.note(f"{said} ({failed})")
    result = train(replace(job, config=job.config.model_copy(update={"micro_batch": smaller})), profile)
    return replace(result, warnings=(*result.warnings, f"{said}; set micro_batch: {smaller} in the recipe"))


def _half(job: TrainJob, micro: int) -> int | None:
    """The largest micro-batch of at most half of ``micro``; None where there is none or it would change the result."""
    if not getattr(job.config, "micro_batch_is_free", False) or processes.world() > 1:
        return None  # other processes do not know, and would wait for ever
    smaller = [n for n in range(1, micro // 2 + 1) if job.config.batch_size % n == 0]
    return max(smaller, default=None)


def _empty(device: str) -> None:
    import torch

    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    elif device.startswith("mps"):
        torch.mps.empty_cache()
