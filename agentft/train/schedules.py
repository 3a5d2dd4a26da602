"""How the learning rate moves over a run, as a share of its peak. One formula per schedule, without torch."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from agentft.train.options import LoopOptions

Scheduler = Literal["linear", "cosine", "exponential", "constant", "wsd"]
# Where the rate ends unless `final_rate` says otherwise, as a share of the peak. An exponential never arrives at 0.
FINAL = {"linear": 0.0, "cosine": 0.0, "exponential": 0.01, "constant": 1.0, "wsd": 0.0}
COOLDOWN = 0.2


def share_at(step: int, *, scheduler: Scheduler, warmup: int, total: int, final: float, cooldown: float = COOLDOWN) -> float:
    """Learning rate of ``step`` (from 0) divided by the peak rate.

    While ``step < warmup`` it is ``step / warmup``. After that, with ``p = (step - warmup) / (total - warmup)`` and ``f = final``:

    - ``linear``: ``f + (1 - f) (1 - p)``
    - ``cosine``: ``f + (1 - f) (1 + cos(pi p)) / 2`` (Loshchilov and Hutter 2017, without restarts)
    - ``exponential``: ``f ** p``, the same factor from each step to the next
    - ``constant``: ``1``
    - ``wsd``: ``1`` until the last ``c = ceil(cooldown * total)`` steps, there ``f + (1 - f) (total - step) / c``
      (warm-up, stable, decay: Hu et al. 2024, arXiv 2404.06395)

    Args:
        warmup: steps over which the rate rises.
        total: steps of the run.
        final: share of the peak at ``step == total``; above 0 for ``exponential``.
        cooldown: share of the run over which ``wsd`` falls.
    """
    if step < warmup:
        return step / warmup
    if scheduler == "constant":
        return 1.0
    if scheduler == "wsd":
        falling = min(max(1, math.ceil(cooldown * total)), max(1, total - warmup))
        return final + (1 - final) * min(1.0, max(0.0, (total - step) / falling))
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    if scheduler == "exponential":
        return float(final**done)
    left = 1 - done if scheduler == "linear" else (1 + math.cos(math.pi * done)) / 2
    return final + (1 - final) * left


def schedule(optimizer: Any, options: LoopOptions, warmup: int, total: int) -> Any:
    """A ``LambdaLR`` that moves the rate of every parameter group by :func:`share_at`."""
    from torch.optim.lr_scheduler import LambdaLR

    final = FINAL[options.scheduler] if options.final_rate is None else options.final_rate
    share = partial(share_at, scheduler=options.scheduler, warmup=warmup, total=total, final=final, cooldown=options.cooldown or COOLDOWN)
    return LambdaLR(optimizer, share)
