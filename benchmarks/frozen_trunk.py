"""Frozen layers computed once against frozen layers computed in every step: seconds, and how far the losses are apart.

    python benchmarks/frozen_trunk.py                  # MiniLM with a head (6 layers)
    python benchmarks/frozen_trunk.py --chat           # SmolLM2-135M, supervised fine-tuning (30 layers)

Both run in one process, one after the other, on the same rows in the same order; the time with the cache includes filling it.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

WORDS = (
    "card",
    "refund",
    "late",
    "order",
    "parcel",
    "bank",
    "my",
    "the",
    "is",
    "where",
    "has",
    "been",
    "charged",
    "twice",
    "again",
    "lost",
)


def write_labelled(path: Path, rows: int) -> None:
    draw = random.Random(1)
    with path.open("w", encoding="utf-8") as stream:
        for number in range(rows):
            text = " ".join(draw.choices(WORDS, k=draw.randint(6, 30)))
            stream.write(json.dumps({"id": str(number), "inputs": {"text": text}, "label": text.split()[0]}) + "\n")


def head_job(folder: Path, rows: int, epochs: int, freeze: dict) -> tuple:
    from agentft.contracts import RowsJob, TrainJob
    from agentft.engine.models import load_tokenizer, resolve_builtin
    from agentft.render.heads import classify_rows
    from agentft.train.heads import ClassifyConfig, train

    ref = resolve_builtin("minilm")
    write_labelled(folder / "in.jsonl", rows)
    (folder / "none.jsonl").touch()
    config = ClassifyConfig.model_validate({"strategy": {"freeze": freeze}, "epochs": epochs, "learning_rate": 2e-4, "log_every": 1})
    tokenizer = load_tokenizer(ref)
    classify_rows(RowsJob(folder / "in.jsonl", folder / "none.jsonl", folder, tokenizer, config, 512, False))
    return train, TrainJob(ref, folder / "train.jsonl", folder / "out", config, 0, tokenizer.pad_token_id)


def chat_job(folder: Path, rows: int, epochs: int, freeze: dict) -> tuple:
    from agentft.contracts import DataContext, TrainJob
    from agentft.engine.models import load_tokenizer, resolve_builtin
    from agentft.records import Example, Message
    from agentft.render.conversation import Renderer
    from agentft.render.rows import render_rows
    from agentft.train.sft import SFTConfig, train

    ref, draw = resolve_builtin("smollm2-135m"), random.Random(1)
    tokenizer = load_tokenizer(ref)

    def said(words: int) -> str:
        return " ".join(draw.choices(WORDS, k=words))

    talks = [Example(str(n), (Message("user", said(20)), Message("assistant", said(30)))) for n in range(rows)]
    renderer = Renderer(tokenizer, "You are the support agent of a small bank. Be brief.")
    render_rows(renderer, talks, folder / "train.jsonl", max_length=512, overflow="error", ctx=DataContext())
    config = SFTConfig.model_validate({"strategy": {"freeze": freeze}, "epochs": epochs, "log_every": 1})
    return train, TrainJob(ref, folder / "train.jsonl", folder / "out", config, 0, tokenizer.pad_token_id)


def losses(folder: Path) -> list[float]:
    lines = (folder / "out" / "metrics.jsonl").read_text("utf-8").splitlines()
    return [line["loss"] for line in map(json.loads, lines) if "loss" in line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chat", action="store_true")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    make, rows = (chat_job, options.rows or 48) if options.chat else (head_job, options.rows or 2000)
    columns = ("frozen", "every step", "once", "ratio", "largest difference of a loss")
    print(f"{rows} rows, {options.epochs} epochs")
    print(f"{columns[0]:>12} {columns[1]:>11} {columns[2]:>8} {columns[3]:>6} {columns[4]:>29}")
    for freeze in ({"layers": 20}, {"layers": 28}) if options.chat else ({"layers": 4}, {"only": "head"}):
        found = {}
        for cache in ("off", "on"):
            with tempfile.TemporaryDirectory() as name:
                train, job = make(Path(name), rows, options.epochs, freeze | {"cache": cache})
                began = time.perf_counter()
                train(job)
                found[cache] = time.perf_counter() - began, losses(Path(name))
        (plain, without), (cached, with_cache) = found["off"], found["on"]
        apart = max(abs(a - b) / abs(a) for a, b in zip(without, with_cache, strict=True))
        label = "head only" if "only" in freeze else f"{freeze['layers']} layers"
        print(f"{label:>12} {plain:>9.1f} s {cached:>6.1f} s {plain / cached:>6.1f} {apart:>28.2%}", flush=True)


if __name__ == "__main__":
    main()
