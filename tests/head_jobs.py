"""Rows and jobs of tasks with heads, on tiny models, for several test files."""

from __future__ import annotations

import json
from pathlib import Path

from agentft.contracts import RowsJob, TrainJob
from agentft.engine.heads import is_causal
from agentft.engine.models import load_tokenizer
from agentft.labelled import Labelled
from agentft.render import heads as rows_of
from agentft.train.heads import ClassifyConfig, RegressConfig, SpanConfig, TagConfig

DEVICE = {"device": "cpu", "train_dtype": "fp32", "threads": 1}
KINDS = {
    "classify": (
        ClassifyConfig,
        [Labelled(f"r{n}", {"text": f"{'red' if n % 2 else 'blue'} {n}"}, "warm" if n % 2 else "cold") for n in range(16)],
    ),
    "several": (ClassifyConfig, [Labelled(f"r{n}", {"text": f"text {n}"}, ["odd"] if n % 2 else ["even", "nice"]) for n in range(16)]),
    "regress": (RegressConfig, [Labelled(f"r{n}", {"text": "a" * (n % 5 + 1)}, 10.0 * (n % 5)) for n in range(16)]),
    "tag": (
        TagConfig,
        [Labelled(f"r{n}", {"tokens": ["we", "meet", "ann" if n % 2 else "bob", "today"]}, ["O", "O", "B-PER", "O"]) for n in range(16)],
    ),
    "span": (
        SpanConfig,
        [
            Labelled(f"r{n}", {"question": "who?", "context": f"{n} it is ann"}, [{"text": "ann", "start": len(f"{n} it is ")}])
            for n in range(16)
        ],
    ),
}


def job_for(kind: str, ref, folder: Path, records=None, **options) -> TrainJob:
    """Rows rendered as the pipeline renders them, and the job."""
    config_model, made = KINDS[kind]
    folder.mkdir(parents=True, exist_ok=True)
    for part, found in (("train", records or made), ("validation", made[:4])):
        (folder / f"in-{part}.jsonl").write_text("".join(json.dumps(row.to_dict()) + "\n" for row in found), "utf-8")
    config = config_model.model_validate({"epochs": 2, "batch_size": 8, "learning_rate": 1e-2} | options)
    tokenizer = load_tokenizer(ref)
    name = "classify" if kind == "several" else kind
    render = getattr(rows_of, f"{name}_rows")
    render(RowsJob(folder / "in-train.jsonl", folder / "in-validation.jsonl", folder, tokenizer, config, 64, is_causal(ref.path)))
    return TrainJob(
        ref,
        folder / "train.jsonl",
        folder / "out",
        config,
        3,
        tokenizer.pad_token_id,
        validation=folder / "validation.jsonl",
        device=DEVICE,
    )


def weights(folder: Path):
    from safetensors.torch import load_file

    return load_file(next(folder.glob("*.safetensors")))
