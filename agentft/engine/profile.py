"""The one place that decides how this machine is used: device, dtypes, threads, attention, micro-batch, checkpointing.

Measured on two Zen-4 cores with SmolLM2-135M: LoRA training in bf16 is up to 2.8 times as fast as in fp32 where the CPU multiplies
bf16 in hardware; decoding one token at a time gains nothing from it. Which dtypes and how many threads are fast here is timed once and
remembered (:mod:`agentft.engine.measure`), so that the decision is the same on every run of one machine; where that is not
possible, the processor's flags decide.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentft.errors import Problem, RecipeError, did_you_mean

if TYPE_CHECKING:
    from agentft.engine.measure import Decision

DTYPES = {
    "bf16": "bfloat16",
    "fp16": "float16",
    "fp32": "float32",
    "bfloat16": "bfloat16",
    "float16": "float16",
    "float32": "float32",
}
ATTENTION = ("sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention")


@dataclass(frozen=True)
class Profile:
    """How models run here.

    Attributes:
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        train_dtype: ``bfloat16`` or ``float16`` = mixed precision (autocast) with float32 trainable weights; ``float32``.
        decode_dtype: dtype of the weights when the model generates or scores.
        threads: CPU threads.
        attention: transformers' ``attn_implementation``.
        micro_batch: rows per forward and backward pass; 0: as many as memory allows, see :mod:`agentft.train.fitting`.
        score_batch: rows per forward pass where log-probabilities are computed; fewer where their logits would not fit.
        gradient_checkpointing: recompute activations in the backward pass: less memory, up to half again the time.
        share_prefix: run the tokens that all rows of a batch start with (the persona) once per batch.
        notes: why, for people.
    """

    device: str = "cpu"
    train_dtype: str = "float32"
    decode_dtype: str = "float32"
    threads: int = 1
    attention: str = "sdpa"
    micro_batch: int = 0
    score_batch: int = 64
    gradient_checkpointing: bool = False
    share_prefix: bool = True
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "notes": list(self.notes)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Profile:
        """The inverse of :meth:`to_dict`; a mapping that is not complete is taken as overrides of :func:`detect`."""
        if set(data) >= {f.name for f in fields(cls)}:
            return cls(**{**data, "notes": tuple(data["notes"])})
        return detect({key: value for key, value in data.items() if key != "notes"})

    def apply(self) -> None:
        """Set torch's number of CPU threads."""
        import torch

        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)

    def __str__(self) -> str:
        return "\n".join(
            (
                f"device {self.device}, {self.threads} CPU threads, attention {self.attention}",
                f"training {self.train_dtype}, decoding {self.decode_dtype}, micro-batch {self.micro_batch or 'by memory'}, "
                f"gradient checkpointing {'on' if self.gradient_checkpointing else 'off'}, "
                f"shared prefix {'on' if self.share_prefix else 'off'}",
                *(f"  {note}" for note in self.notes),
            )
        )


def check_overrides(overrides: Mapping[str, Any] | None) -> list[Problem]:
    """What is wrong with the recipe's ``device:`` mapping, without looking at the machine (torch is not imported)."""
    problems = []
    types = {f.name: f.type for f in fields(Profile) if f.name != "notes"}
    for key, value in (overrides or {}).items():
        if key not in types:
            problems.append(Problem(f"device: unknown key '{key}'", hint=did_you_mean(str(key), types)))
        elif key.endswith("_dtype") and value not in DTYPES:
            problems.append(Problem(f"device.{key} must be one of bf16, fp16, fp32, not {value!r}"))
        elif key == "attention" and value not in ATTENTION:
            problems.append(Problem(f"device.attention: unknown value {value!r}", hint=did_you_mean(str(value), ATTENTION)))
        elif types[key] == "int" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            problems.append(Problem(f"device.{key} must be a whole number >= 1, not {value!r}"))
        elif types[key] == "bool" and not isinstance(value, bool):
            problems.append(Problem(f"device.{key} must be true or false, not {value!r}"))
        elif key == "device" and str(value).split(":")[0] not in ("cpu", "cuda", "mps"):
            problems.append(Problem(f"device.device must be cpu, cuda, cuda:N or mps, not {value!r}"))
    return problems


def detect(overrides: Mapping[str, Any] | None = None, *, again: bool = False) -> Profile:
    """Look at the machine and decide; ``overrides`` (the recipe's ``device:`` mapping) win over what was found.

    Args:
        again: time the machine although an earlier decision is remembered.

    Raises:
        RecipeError: an unknown key, a wrong value, or a device that this machine does not have.
    """
    problems = check_overrides(overrides)
    if problems:
        raise RecipeError(problems)
    chosen = dict(overrides or {})
    device = _device(chosen.get("device"))
    profile = {"cuda": _cuda, "mps": _mps, "cpu": _cpu}[device.split(":")[0]](device)
    found = None if {"train_dtype", "decode_dtype", "threads"} <= chosen.keys() else measured(device, again=again)
    if found is not None:
        note = f"{profile.device}: {found}"
        profile = replace(profile, train_dtype=found.train_dtype, decode_dtype=found.decode_dtype, threads=found.threads, notes=(note,))
    for key in ("train_dtype", "decode_dtype"):
        if key in chosen:
            chosen[key] = DTYPES[chosen[key]]
    if chosen.get("train_dtype") == "float16" and device == "cpu":
        raise RecipeError("device.train_dtype: fp16 training needs a GPU (its loss scaling does not exist on CPUs); use bf16 or fp32")
    notes = [f"{key} {value} is set by the recipe" for key, value in chosen.items()]
    return replace(profile, **{**chosen, "device": device}, notes=(*profile.notes, *notes))


def measured(device: str, *, again: bool = False) -> Decision | None:
    """What was timed on ``device``, now or earlier; None on Apple's GPUs, and where timing is switched off or fails."""
    import torch

    from agentft.engine.measure import decision

    dtypes = ["float32", "bfloat16"]
    if device.startswith("cuda"):
        hardware = torch.cuda.is_bf16_supported(including_emulation=False)
        half = torch.cuda.get_device_capability(device) >= (7, 0)
        dtypes = ["float32", *(["bfloat16"] if hardware else []), *(["float16"] if half else [])]
    return None if device.startswith("mps") else decision(device, _threads(), dtypes, again=again)


def _device(wanted: str | None) -> str:
    import torch

    found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if wanted is None or wanted == "cpu":
        return wanted or found
    kind, _, index = wanted.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else int(torch.backends.mps.is_available())
    if count == 0 or (index and (not index.isdigit() or int(index) >= count)):
        seen = f"{count} such device{'s' * (count != 1)}" if count else "none"
        raise RecipeError(
            f"device.device: {wanted} is not available here (torch {torch.__version__} sees {seen}); "
            f"remove the key to use '{found}', or install a torch build for your GPU (https://pytorch.org/get-started)"
        )
    return wanted


def _cuda(device: str) -> Profile:
    import torch

    name = torch.cuda.get_device_name(device)
    if torch.cuda.is_bf16_supported(including_emulation=False):
        dtype, why = "bfloat16", f"{name} multiplies bf16 in hardware"
    elif torch.cuda.get_device_capability(device) >= (7, 0):
        dtype, why = "float16", f"{name} has no bf16: fp16 with loss scaling"
    else:
        dtype, why = "float32", f"{name} is fast in neither bf16 nor fp16"
    return Profile(device, dtype, dtype, threads=_threads(), notes=(why,))


def _mps(device: str) -> Profile:
    # fp32 on purpose: bf16 needs macOS 14 and fp16 overflows in several model families. device.train_dtype overrides.
    return Profile(device, threads=_threads(), notes=("Apple GPU: fp32 is what all models and macOS versions run correctly",))


def _cpu(device: str) -> Profile:
    flag = bf16_hardware()
    threads = _threads()
    if flag:
        note = f"the CPU multiplies bf16 in hardware ({flag}): bf16 autocast for training, fp32 for decoding"
        return Profile(device, "bfloat16", "float32", threads=threads, notes=(note,))
    return Profile(device, threads=threads, notes=("the CPU has no bf16 products (AVX512-BF16, AMX): fp32",))


def bf16_hardware() -> str:
    """Name of the instruction set with which this CPU multiplies bf16, or an empty string.

    Torch runs bf16 on any CPU, but without these instructions by conversion, which gains nothing.
    """
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:  # not Linux: ask torch, whose (private) probes know x86 only
        import torch

        probes = {"AMX": "_is_amx_tile_supported", "AVX512-BF16": "_is_avx512_bf16_supported"}
        return next((name for name, probe in probes.items() if getattr(torch.cpu, probe, bool)()), "")
    return "AMX" if "amx_bf16" in flags else "AVX512-BF16" if "avx512_bf16" in flags else ""


def _threads() -> int:
    """Threads torch would take, but no more than the process may use (affinity, container quota)."""
    import torch

    limits = [torch.get_num_threads()]
    if hasattr(os, "sched_getaffinity"):
        limits.append(len(os.sched_getaffinity(0)))
    try:  # "max 100000" or "200000 100000": quota and period in microseconds
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        limits.append(max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass  # no cgroup v2, or no quota: nothing to limit by
    return max(1, min(limits))
