"""Several processes of one run, as ``torchrun`` starts them: the first runs the recipe, the others wait to be called.

Everything that a run reads, writes and prints is the business of process 0. Where all are needed (training), it calls a function
in all of them with :func:`call`; the others spend the rest of the run in :func:`serve`. They talk through the store with which
torch's processes find one another, so nothing times out while process 0 generates or evaluates for hours.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from agentft.errors import TrainingError, UserError

T = TypeVar("T")
WAIT_DAYS = 365  # others wait as long as process 0 lives; torchrun ends them if it dies


class Left(Exception):
    """Raised in processes other than the first where only the first has more to do; caught by :func:`serve`."""


def world() -> int:
    """How many processes were started together; 1 without torchrun (which sets RANK beside WORLD_SIZE)."""
    return _number("WORLD_SIZE", 1) if "RANK" in os.environ else 1


def rank() -> int:
    """Number of this process, from 0."""
    return _number("RANK", 0) if world() > 1 else 0


def local_rank() -> int:
    """Number of this process on its machine: which GPU is its own."""
    return _number("LOCAL_RANK", 0)


def shards() -> bool:
    """Whether ``accelerate launch`` was told to divide the model among the processes (FSDP, DeepSpeed)."""
    return any(os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true" for name in ("FSDP", "DEEPSPEED"))


def advice() -> str:
    """What to say if ``accelerate launch`` started this process alone; an empty string otherwise.

    On CPUs ``accelerate launch --cpu --num_processes 2`` starts one process and says nothing.
    """
    if "WORLD_SIZE" in os.environ or not any(name.startswith("ACCELERATE_") for name in os.environ):
        return ""
    return (
        "accelerate started one process, whatever its --num_processes says (on CPUs it always does); "
        "for N processes: torchrun --nproc-per-node N -m agentft ..."
    )


@dataclass
class _Calls:
    made: int = 0
    first: int = 0
    failed: bool = False
    running: bool = False


_CALLS = _Calls()


def call(function: Callable[..., T], *arguments: Any, others: tuple[Any, ...] | None = None) -> T:
    """``function(*arguments)`` in all processes; the result of this one. Called by process 0 only.

    Args:
        others: the arguments in the other processes, where they differ; must be picklable.

    Raises:
        TrainingError: another process failed; its message.
    """
    if world() == 1:
        return function(*arguments)
    try:
        message = pickle.dumps((function, arguments if others is None else others))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TrainingError(f"this job cannot be sent to the other processes ({error}); start it without torchrun") from error
    _CALLS.made += 1
    _CALLS.running = True
    _store().set(f"call/{_CALLS.made}", message)
    try:
        result = function(*arguments)
        _CALLS.running = False
        return result
    except Exception as error:
        if _store().check(["failed"]) and (told := _store().get("failed").decode()) != "0":
            raise TrainingError(f"process {told} failed") from error
        raise


def serve() -> int:
    """Do what process 0 calls for, until it releases this process.

    Returns: the exit code: that of process 0; 2 after a user's error here and 1 after any other.
    """
    while True:
        _CALLS.made += 1
        message = _store().get(f"call/{_CALLS.made}")
        if message.isdigit():
            _leave()
            if int(message):
                time.sleep(3)  # torchrun names the process that ends first as the cause
            return int(message)
        function, arguments = pickle.loads(message)  # from process 0 of the same job, which torch itself trusts as much
        try:
            function(*arguments)
        except Left:
            continue
        except Exception as error:
            if not first_to_fail():
                return 1
            if not isinstance(error, UserError):
                raise
            print(f"error: process {rank()}: {error}", file=sys.stderr, flush=True)
            return error.exit_code


def release(code: int) -> None:
    """Let the other processes end with ``code``. Does nothing where there are none."""
    if world() == 1 or rank():
        return
    _CALLS.made += 1
    _store().set(f"call/{_CALLS.made}", str(code))
    if not _CALLS.running:  # else they may hang in the middle of a collective operation, and torchrun ends them
        _leave()


def first_to_fail() -> bool:
    """True in the first process that asks, and so may print its error; the others fail because that one did."""
    if world() == 1 or _CALLS.failed:
        return True
    _CALLS.failed = _store().compare_set("failed", "", str(rank())).decode() == str(rank())
    return _CALLS.failed


def in_turn(function: Callable[[], T]) -> T:
    """``function()``, in process 0 and then in the others, which so find the files that it wrote. Called by all."""
    if rank():
        agreed(lambda: None)  # process 0 is through
        return function()
    result = function()
    agreed(lambda: None)
    return result


def agreed(function: Callable[[], T]) -> T:
    """What ``function()`` is in process 0, in all of them; must be picklable. Called by all."""
    if world() == 1:
        return function()
    _CALLS.first += 1
    key = f"first/{_CALLS.first}"
    if rank():
        return pickle.loads(_store().get(key))
    result = function()
    _store().set(key, pickle.dumps(result))
    return result


@cache
def _store() -> Any:
    from datetime import timedelta

    from torch.distributed import PrefixStore, rendezvous

    store, _, _ = next(rendezvous("env://", timeout=timedelta(days=WAIT_DAYS)))
    return PrefixStore("agentft", store)


def _leave() -> None:
    """Wait until all have heard that it is over: process 0 may hold the store. Then close what torch opened."""
    import torch.distributed as dist

    _store().set(f"left/{rank()}", "1")
    if rank() == 0:
        _store().wait([f"left/{number}" for number in range(world())])
    if dist.is_initialized():
        dist.destroy_process_group()


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else default
