"""``few-shot``: a baseline that trains nothing. The agent is shown the most similar training conversations before it answers."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from agentft.contracts import TrainJob, TrainResult
from agentft.errors import TrainingError
from agentft.validation import Model

FOLDER = "fewshot"


class FewShotConfig(Model):
    """Options of ``use: few-shot``."""

    examples: int = Field(4, ge=1, description="conversations that are shown before each prompt")
    by: Literal["similarity", "bm25", "random"] = Field(
        "similarity",
        description="which ones: the most similar (MiniLM embeddings of English where the extra `semantic` is installed, else runs of "
        "characters), the most similar by words (BM25), or the same random ones for every prompt",
    )
    per_label: bool = Field(False, description="`examples` of each label (`meta.label`, else the answer) instead of in all")


def train(job: TrainJob) -> TrainResult:
    """Leave the training conversations that end with an answer, and the options, in ``out/fewshot``; no weight moves.

    Weights that an earlier stage trained go on as they are.

    Raises:
        TrainingError: there are no conversations.
    """
    from agentft.data.jsonl import read_examples
    from agentft.engine import shots

    started = time.perf_counter()
    if job.examples is None:
        raise TrainingError("few-shot needs the training conversations; it can be a stage of `train:` only")
    examples = [one for one in read_examples(job.examples) if one.as_prompt()[1]]
    if not examples:
        raise TrainingError("few-shot: no training conversation ends with an answer; `agentft data RECIPE` shows where rows were dropped")
    job.out.mkdir(parents=True, exist_ok=True)
    part = job.out / f"{FOLDER}.part"
    for old in (part, job.out / FOLDER):
        shutil.rmtree(old, ignore_errors=True)
    config: FewShotConfig = job.config
    written = shots.write(part, examples, count=config.examples, by=config.by, per_label=config.per_label, seed=job.seed)
    folder = part.rename(job.out / FOLDER)
    if job.progress:
        job.progress(len(examples), len(examples), {})
    trained = Path(job.model.path) if job.model.origin == "trained" else None
    metrics = {
        "examples": float(config.examples),
        "rows": float(len(examples)),
        "steps": 0.0,
        "by_meaning": float(written["method"] == "minilm"),
    }
    return TrainResult(
        adapter=_taken_over(job.adapter, job.out / "adapter"),
        model=_taken_over(trained, job.out / "model"),
        metrics=metrics | {"seconds": round(time.perf_counter() - started, 2)},
        trainable=0,
        total=parameters(Path(job.model.path)),
        examples=folder,
    )


def _taken_over(source: Path | None, target: Path) -> Path | None:
    """The folder of an earlier stage, linked file by file where the disk can: it must not be copied for nothing."""
    if source is None:
        return None
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(source, target, copy_function=_link))


def _link(source: str, target: str) -> Any:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def parameters(folder: Path) -> int:
    """Number of parameters in the safetensors files of a model, read from their headers."""
    from safetensors import safe_open

    total = 0
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "np") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (no mapping)
                count = 1
                for size in tensors.get_slice(name).get_shape():
                    count *= size
                total += count
    return total
