"""What an earlier try left in the folder of a job: a finished result, or checkpoints to continue from."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from agentft import processes
from agentft.contracts import TrainJob, TrainResult
from agentft.engine.digest import write_json

if TYPE_CHECKING:
    from agentft.engine.profile import Profile

# Besides the weights; there is one rng_state per process. transformers writes trainer_state.json last.
_STATES = ("optimizer.pt", "scheduler.pt", "rng_state*.pth")


def finished(job: TrainJob, train: Callable[[TrainJob, Profile], TrainResult]) -> TrainResult:
    """The result of ``train(job, profile)``, or of an earlier try that came to its end; checkpoints are removed then.

    Under torchrun ``train`` (a function of a module) is called in every process.
    """
    result = claim(job)
    if result is None:
        result = processes.call(_here, train, job, others=(train, replace(job, progress=None, note=None)))
        remember(job, result)
    shutil.rmtree(job.out / "checkpoints", ignore_errors=True)
    return result


def _here(train: Callable[[TrainJob, Profile], TrainResult], job: TrainJob) -> TrainResult:
    """Train on this process's device."""
    from agentft.engine.profile import Profile
    from agentft.engine.quiet import quiet_libraries
    from agentft.train.fitting import backing_off

    profile = Profile.from_dict(job.device)
    if processes.world() > 1 and profile.device == "cuda":
        profile = replace(profile, device=f"cuda:{processes.local_rank()}")
    profile.apply()
    with quiet_libraries():
        return backing_off(job, profile, train)


def claim(job: TrainJob) -> TrainResult | None:
    """Make ``job.out`` belong to this job; the result if it was finished before.

    What another job (other rows, options, model or seed) left there is removed, so that nobody continues from it.
    """
    mark = job.out / "job.json"
    wanted = _identity(job)
    if not mark.is_file() or mark.read_text(encoding="utf-8") != wanted:
        for name in ("checkpoints", "adapter", "model"):
            shutil.rmtree(job.out / name, ignore_errors=True)
        for name in ("metrics.jsonl", "result.json", "reference.jsonl", "micro_batch.json"):
            (job.out / name).unlink(missing_ok=True)
        job.out.mkdir(parents=True, exist_ok=True)
        mark.write_text(wanted, encoding="utf-8")
    try:
        data = json.loads((job.out / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    folders = {key: job.out / data[key] if data.get(key) else None for key in ("adapter", "model", "examples")}
    data |= {key: tuple(data.get(key, ())) for key in ("notes", "warnings")}
    return TrainResult(**{**data, **folders}) if all(path is None or path.is_dir() for path in folders.values()) else None


def begin(job: TrainJob) -> tuple[Path, Path | None]:
    """The log of the job, and the checkpoint to continue from; what the log says of later steps is cut off."""
    log, checkpoint = job.out / "metrics.jsonl", processes.agreed(lambda: last_complete(job.out / "checkpoints"))
    if processes.rank() == 0:
        cut_log(log, step_of(checkpoint) if checkpoint else 0)
    return log, checkpoint


def remember(job: TrainJob, result: TrainResult) -> None:
    """Note that the job is finished; until here a killed process continues from its last checkpoint."""
    write_json(job.out / "result.json", asdict(result) | {k: path.name if path else None for k, path in _folders(result).items()})


def _folders(result: TrainResult) -> dict[str, Path | None]:
    return {"adapter": result.adapter, "model": result.model, "examples": result.examples}


def _identity(job: TrainJob) -> str:
    """Everything that decides the result, but not the machine: a run may be continued on another one."""
    files = [path for path in (job.rows, job.validation, *_files(job.adapter), *_files(job.reference)) if path]
    parts = {
        "model": job.model.digest,
        "config": job.config.model_dump(mode="json"),
        "seed": job.seed,
        "pad": job.pad_token_id,
        "files": [hashlib.sha256(path.read_bytes()).hexdigest() for path in files],
    }
    return json.dumps(parts, sort_keys=True)


def _files(adapter: Path | None) -> list[Path]:
    return sorted(adapter.glob("adapter_*")) if adapter else []


def last_complete(folder: Path) -> Path | None:
    """The latest checkpoint under ``folder`` that was written to its end, or None.

    A process that is killed while it writes leaves a checkpoint without its last files, or with half a file.
    """
    for path in sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True):
        if step_of(path) and is_complete(path):
            return path
    return None


def is_complete(path: Path) -> bool:
    """True if all files are there and the weights and the state can be read."""
    from safetensors import SafetensorError, safe_open

    weights = list(path.glob("*.safetensors"))
    states = [list(path.glob(pattern)) for pattern in _STATES]
    # torch.save writes zip files, whose table of contents is at the end.
    if not weights or not all(files and all(map(zipfile.is_zipfile, files)) for files in states):
        return False
    try:
        state = json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        for file in weights:
            with safe_open(file, "pt") as tensors:  # checks that the file is as long as its header says
                tensors.keys()
    except (ValueError, OSError, SafetensorError):
        return False
    return state.get("global_step") == step_of(path)


def cut_log(log: Path, step: int) -> None:
    """Drop the lines of ``metrics.jsonl`` after ``step``: they are about to be written again."""
    if not log.exists():
        return
    kept = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            break  # the last line of a killed process
        if entry["step"] <= step:
            kept.append(line)
    log.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def step_of(path: Path) -> int:
    """Optimiser step of a checkpoint folder, 0 if it is none."""
    number = path.name.removeprefix("checkpoint-")
    return int(number) if number.isdigit() else 0
