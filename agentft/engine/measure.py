"""What this machine is fast at: short matrix products in each precision and with several numbers of threads, timed once and remembered.

The decision, not the timing, is what runs depend on. It is kept in the user's cache under a key made of everything it rests on
(processor, its flags, torch, the container's quota, the GPU), so that every run on one machine takes the same one, whatever else the
machine does at the time. `agentft profile --measure` takes it anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

VERSION = 1  # raise it when the decision is made otherwise: everybody measures again
ROUNDS, SECONDS = 7, 1.2  # timings of each kind, and when to stop if that takes longer
TRAIN_MARGIN = 1.3  # so many times as fast has a smaller dtype to be before it is trained with
DECODE_MARGIN = 1.5  # and before answers are rounded to it
THREAD_MARGIN = 1.1  # fewer threads have to be so much faster
VARIABLE = "AGENTFT_PROFILE"  # "flags": nothing is timed, the processor's flags decide
_FLAGS = ("amx_bf16", "amx_tile", "avx512_bf16", "avx512f", "avx2", "bf16", "asimd", "sve")


@dataclass(frozen=True)
class Decision:
    """What was decided, and the timings it rests on.

    Attributes:
        train_dtype, decode_dtype, threads: as in :class:`agentft.engine.profile.Profile`.
        machine: what the key was made of.
        train: dtype -> GFLOP/s of a large product.
        decode: dtype -> how often a small decoder layer runs per second, with one token for each of 16 rows.
        scaling: number of threads -> GFLOP/s in ``train_dtype``.
    """

    train_dtype: str
    decode_dtype: str
    threads: int
    machine: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, float] = field(default_factory=dict)
    decode: Mapping[str, float] = field(default_factory=dict)
    scaling: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        products = ", ".join(f"{name} {value:,.0f}" for name, value in self.train.items())
        steps = ", ".join(f"{name} {value:,.0f}" for name, value in self.decode.items())
        return f"measured: products {products} GFLOP/s; decoding {steps} layers/s"


def decision(device: str, threads: int, dtypes: Sequence[str], *, again: bool = False) -> Decision | None:
    """What was measured on this machine, now or earlier; None where measuring is switched off or fails.

    Args:
        device: ``cpu`` or ``cuda:N``.
        threads: how many this process may use.
        dtypes: to choose from, ``float32`` first.
        again: measure though there is a decision.
    """
    if os.environ.get(VARIABLE) == "flags":
        return None
    about = machine(device, threads, dtypes)
    file = _file(about)
    known = None if again else _read(file)
    if known is not None:
        return known
    over = again or file.exists()  # asked for, or there is one that cannot be read
    try:
        found = _measure(device, threads, dtypes, about)
    except (RuntimeError, ValueError, NotImplementedError, MemoryError):
        return None  # an operation that this build of torch does not have, or no memory: the flags decide
    _write(file, found, over)
    return _read(file) or found


def machine(device: str, threads: int, dtypes: Sequence[str]) -> dict[str, Any]:
    """Everything that the decision rests on."""
    import torch

    processor, flags = _processor()
    card = f"{torch.cuda.get_device_name(device)} {torch.cuda.get_device_capability(device)}" if device.startswith("cuda") else ""
    return {
        "version": VERSION,
        "processor": processor,
        "flags": [flag for flag in _FLAGS if flag in flags],
        "torch": torch.__version__,
        "threads": threads,
        "card": card,
        "dtypes": list(dtypes),
    }


def decide(
    train: Mapping[str, float], decode: Mapping[str, float], scaling: Mapping[int, float], *, idle: bool, gpu: bool
) -> tuple[str, str, int]:
    """Dtype to train in, dtype to decode in, number of threads.

    float32 and all threads, unless something else is faster by its margin. On a machine that is busy only the dtype of training is
    judged, where the difference is large: there, fewer threads and smaller tensors look faster than they are because others take the cores.
    """

    def fastest(rates: Mapping[str, float], margin: float) -> str:
        best = max((name for name in rates if name != "float32"), key=lambda name: rates[name], default="float32")
        return best if best != "float32" and rates[best] >= margin * rates["float32"] else "float32"

    chosen = fastest(train, TRAIN_MARGIN)
    # bf16 has the range of float32: no loss scaling. It is taken unless fp16 is faster by the margin too.
    if chosen == "float16" and train.get("bfloat16", 0) * TRAIN_MARGIN > train["float16"]:
        chosen = "bfloat16"
    most = max(scaling)
    fewer = max(scaling, key=lambda count: scaling[count])
    threads = fewer if idle and scaling[fewer] > THREAD_MARGIN * scaling[most] else most
    return chosen, chosen if gpu else fastest(decode, DECODE_MARGIN) if idle else "float32", threads


def _measure(device: str, threads: int, dtypes: Sequence[str], about: Mapping[str, Any]) -> Decision:
    import torch

    gpu = device.startswith("cuda")
    size = 4096 if gpu else 512
    before = torch.get_num_threads()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    idle = load < 0.5 * (os.cpu_count() or 1)
    counts = sorted({threads, max(1, threads // 2)}) if not gpu else [threads]
    try:
        torch.set_num_threads(threads)
        with torch.no_grad():
            # The same products with and without hardware: seconds apart, so what disturbs one disturbs the other.
            products = {name: _product(device, name, size) for name in dtypes}
            layers = {name: _layer(device, name) for name in dtypes}
            best = _alternately({**{("train", n): f for n, f in products.items()}, **{("decode", n): f for n, f in layers.items()}}, device)
            work = 2 * size * (2 * size) * (2 * size)
            train = {name: work / best["train", name] / 1e9 for name in dtypes}
            decode = {name: 1 / best["decode", name] for name in dtypes}
            quick = max(train, key=lambda name: train[name])

            def with_threads(count: int) -> Callable[[], None]:
                def run() -> None:
                    torch.set_num_threads(count)
                    products[quick]()

                return run

            times = (
                _alternately({count: with_threads(count) for count in counts}, device)
                if len(counts) > 1
                else {threads: best["train", quick]}
            )
            scaling = {count: work / seconds / 1e9 for count, seconds in times.items()}
    finally:
        torch.set_num_threads(before)
    chosen = decide(train, decode, scaling, idle=idle, gpu=gpu)
    rounded = [{str(key): round(value, 1) for key, value in rates.items()} for rates in (train, decode, scaling)]
    return Decision(*chosen, about, *rounded)


def _alternately(tasks: Mapping[Any, Callable[[], Any]], device: str) -> dict[Any, float]:
    """Seconds of each task: the best of several rounds in which they take turns; the first round warms up."""
    import torch

    def wait() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)

    best = dict.fromkeys(tasks, float("inf"))
    began = time.perf_counter()
    for number in range(ROUNDS + 1):
        for name, task in tasks.items():
            wait()
            start = time.perf_counter()
            task()
            wait()
            if number:
                best[name] = min(best[name], time.perf_counter() - start)
        if number >= 2 and time.perf_counter() - began > SECONDS / 2:
            break
    return best


def _product(device: str, dtype: str, size: int) -> Callable[[], Any]:
    """A large product as in training: (size, 2 size) @ (2 size, 2 size)."""
    import torch

    options: dict[str, Any] = {"device": device, "dtype": getattr(torch, dtype)}
    left, right = torch.ones(size, 2 * size, **options), torch.ones(2 * size, 2 * size, **options)
    return lambda: left @ right


def _layer(device: str, dtype: str) -> Callable[[], Any]:
    """A decoder layer of SmolLM2's width for one new token of each of 16 rows: norms, thin products, attention to 64 cached tokens."""
    import torch
    import torch.nn.functional as F

    options: dict[str, Any] = {"device": device, "dtype": getattr(torch, dtype)}
    x, cache = torch.ones(16, 576, **options), torch.ones(16, 9, 64, 64, **options)
    square, up, down = torch.ones(576, 576, **options), torch.ones(1536, 576, **options), torch.ones(576, 1536, **options)

    def norm(values: Any) -> Any:
        wide = values.float()
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)).to(values.dtype)

    def run() -> Any:
        query = F.linear(norm(x), square).view(16, 9, 1, 64)
        mixed = F.scaled_dot_product_attention(query, cache, cache).reshape(16, 576)
        hidden = x + F.linear(mixed, square)
        return hidden + F.linear(F.silu(F.linear(norm(hidden), up)) * F.linear(norm(hidden), up), down)

    return run


def _processor() -> tuple[str, set[str]]:
    """Name of the processor, and its flags where the system tells them."""
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine(), set()
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    name = facts.get("model name") or f"{platform.machine()} {facts.get('CPU implementer', '')} {facts.get('CPU part', '')}".strip()
    return name, set((facts.get("flags") or facts.get("Features") or "").split())


def _file(about: Mapping[str, Any]) -> Path:
    import hashlib

    from agentft.engine.models import cache_dir

    return cache_dir() / "profiles" / f"{hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]}.json"


def _read(file: Path) -> Decision | None:
    try:
        return Decision(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _write(file: Path, found: Decision, over: bool) -> None:
    """Best effort: where the cache cannot be written, the next run measures again.

    Of several processes that measure at the same time (torchrun), the first one to write decides for all.
    """
    from agentft.engine.digest import write_json

    try:
        if over:
            write_json(file, asdict(found))
            return
        own = file.with_suffix(f".{os.getpid()}")
        write_json(own, asdict(found))
        with contextlib.suppress(FileExistsError):
            os.link(own, file)
        own.unlink()
    except OSError:
        return
