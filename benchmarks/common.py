"""What the benchmarks share: runs of several arms in turn, medians with their spread, peak memory, and what the machine can do.

    from common import compare, machine, peak_rss, ratios

    times = compare({"peer": peer, "ours": ours}, repeats=5)
    print(times["ours"]["median"], ratios(times, "peer")["ours"])

Times on a machine that others use are noise. Runs alternate so that a busy moment hits all arms alike, and the ratio of two arms is
taken within each round, which is steadier than the ratio of their medians.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def compare(arms: Mapping[str, Callable[[], Any]], repeats: int = 5, warm: bool = True) -> dict[str, dict[str, Any]]:
    """Seconds of each arm: ``{arm: {"median", "min", "max", "runs", "cpu"}}``, ``runs`` in the order of the rounds.

    ``cpu``: the same as processor seconds of all threads. Where others use the machine, compare these, on one thread
    (``OMP_NUM_THREADS=1``); with more threads, those that wait count too.

    Every round runs each arm once; every other round runs them backwards, so that no arm is always first.

    Args:
        arms: name -> what to run, without arguments; results are thrown away (an arm that has some keeps them itself).
        repeats: rounds, at least 1.
        warm: run each arm once before the clock starts: caches, lazy imports and memory that is taken for the first time.
    """
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}, and must be at least 1")
    if warm:
        for arm in arms.values():
            arm()
    runs: dict[str, list[float]] = {name: [] for name in arms}
    cpu: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(repeats):
        for name in list(arms) if number % 2 == 0 else reversed(list(arms)):
            start, used = time.perf_counter(), time.process_time()
            arms[name]()
            runs[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - used)
    return {name: summary(seconds) | {"cpu": summary(cpu[name])} for name, seconds in runs.items()}


def summary(values: list[float]) -> dict[str, Any]:
    """Median, least and greatest of ``values``, and the values."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "runs": values}


def ratios(times: Mapping[str, Mapping[str, Any]], base: str) -> dict[str, dict[str, Any]]:
    """How many times as fast as ``base`` each arm is, within each round: above 1 is faster."""
    return {
        name: summary([other / own for other, own in zip(times[base]["runs"], arm["runs"], strict=True)]) for name, arm in times.items()
    }


def rounded(value: Any, digits: int = 4) -> Any:
    """``value`` with all floats in it rounded to ``digits`` significant digits, for printing."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, Mapping):
        return {key: rounded(one, digits) for key, one in value.items()}
    return [rounded(one, digits) for one in value] if isinstance(value, list | tuple) else value


def machine(size: int = 1024, seconds: float = 0.5) -> dict[str, Any]:
    """The CPU, its threads, and FLOP/s of a large matrix product in fp32 and bf16, the best of as many as fit into ``seconds`` each."""
    import torch

    found: dict[str, Any] = {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        left, right = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
        left @ right
        best, until = float("inf"), time.perf_counter() + seconds
        while time.perf_counter() < until:
            start = time.perf_counter()
            left @ right
            best = min(best, time.perf_counter() - start)
        found[f"{name}_gflops"] = round(2 * size**3 / best / 1e9, 1)
    return found


def peak_rss(call: Callable[[], Any], before: Callable[[], Any] | None = None) -> int:
    """Bytes by which the resident memory rises at most while ``call`` runs, in a forked child (Linux only).

    The child starts with the memory of this process and gives all of it back, so that arms do not see each other's leftovers. It
    runs on one thread: OpenMP's other threads do not survive a fork.

    Args:
        before: runs in the child before memory is looked at, e.g. a forward pass that reads mapped weights for the first time.

    Raises:
        RuntimeError: the child failed; the message is its own.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            found: Any = _rise(call, before)
        except BaseException as error:
            found = f"{type(error).__name__}: {error}"
        with os.fdopen(write, "wb") as stream:
            pickle.dump(found, stream)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        data = stream.read()
    os.waitpid(child, 0)
    found = pickle.loads(data) if data else "it was killed, perhaps for want of memory"
    if isinstance(found, str):
        raise RuntimeError(f"the child that measures memory failed: {found}")
    return int(found)


def _rise(call: Callable[[], Any], before: Callable[[], Any] | None) -> int:
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)
    if before:
        before()
    return peak_rise(call)


def peak_rise(call: Callable[[], Any]) -> int:
    """Bytes by which the resident memory of this process rises at most while ``call`` runs (Linux only)."""
    # What this process freed and kept for later would be used first, and not count.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here (proc(5))
    start = _status("VmRSS")
    call()
    return _status("VmHWM") - start


def _status(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
