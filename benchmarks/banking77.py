"""BANKING77 with a plain ``transformers.Trainer``: the arms of docs/choosing.md again, without agentft.

    python benchmarks/banking77.py --data FOLDER --arms full freeze lora head-only head-only-still decoder --seeds 1 2 3

FOLDER has ``train.csv`` and ``test.csv`` with the columns ``text`` and ``category``. Data, model, epochs, learning rates and precision are
those of the recipes there; a twentieth of the training rows is left out, as their validation part is. Nothing of agentft is used but the
place of the bundled model. A Trainer leaves dropout on in frozen layers; ``head-only-still`` turns it off, as agentft does, so that
the body is computed once. ``decoder`` is SmolLM2 with a head. On two cores an arm takes ten minutes and more, ``head-only-still`` one.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import random
import tempfile
import time
from pathlib import Path
from typing import Any

ARMS: dict[str, dict[str, float]] = {
    "full": {"epochs": 6, "learning_rate": 2e-4},
    "freeze": {"epochs": 6, "learning_rate": 2e-4},
    "lora": {"epochs": 6, "learning_rate": 1e-3},
    "head-only": {"epochs": 20, "learning_rate": 5e-3},
    "head-only-still": {"epochs": 20, "learning_rate": 5e-3},
    "decoder": {"epochs": 2, "learning_rate": 5e-4},
}
BATCH = 32
WARMUP = 0.05  # share of the steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.csv and test.csv")
    parser.add_argument("--arms", nargs="+", choices=[*ARMS], default=[*ARMS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--rows", type=int, help="only so many training rows, to try it")
    args = parser.parse_args()
    train, test = (rows(args.data / f"{name}.csv") for name in ("train", "test"))
    names = sorted({label for _, label in train})
    for seed in args.seeds:
        draw = random.Random(seed)
        kept = draw.sample(train, args.rows or round(0.95 * len(train)))
        for arm in args.arms:
            print(json.dumps({"arm": arm, "seed": seed, **fine_tune(arm, kept, test, names, seed)}), flush=True)


def rows(path: Path) -> list[tuple[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return [(row["text"], row["category"]) for row in csv.DictReader(stream)]


def fine_tune(arm: str, train: list[Any], test: list[Any], names: list[str], seed: int) -> dict[str, Any]:
    """Trains one arm; accuracy and macro F1 on the test rows, and the seconds of the training."""
    from datasets import Dataset
    from sklearn.metrics import accuracy_score, f1_score
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    from agentft.engine.models import resolve_builtin

    set_seed(seed)
    folder = resolve_builtin("smollm2-135m" if arm == "decoder" else "minilm").path
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=len(names), pad_token_id=tokenizer.pad_token_id, dtype="float32"
    )
    body, model = model, moving(arm, model)

    def table(found: list[Any]) -> Dataset:
        if arm == "head-only-still":
            return Dataset.from_dict({"pooled": pooled(body, tokenizer, found), "labels": [names.index(label) for _, label in found]})
        ids = tokenizer([text for text, _ in found], truncation=True, max_length=256)["input_ids"]
        return Dataset.from_dict({"input_ids": ids, "labels": [names.index(label) for _, label in found]})

    options = ARMS[arm]
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            out,
            num_train_epochs=options["epochs"],
            learning_rate=options["learning_rate"],
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=64,
            warmup_steps=round(WARMUP * options["epochs"] * math.ceil(len(train) / BATCH)),
            lr_scheduler_type="linear",
            bf16=True,
            use_cpu=True,
            save_strategy="no",
            report_to=[],
            logging_steps=50,
            disable_tqdm=True,
            seed=seed,
            dataloader_pin_memory=False,
        )
        collator = None if arm == "head-only-still" else DataCollatorWithPadding(tokenizer)
        trainer = Trainer(model=model, args=arguments, train_dataset=table(train), data_collator=collator)
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
        guessed = trainer.predict(table(test)).predictions.argmax(-1)
    truth = [names.index(label) for _, label in test]
    figures = {"accuracy": accuracy_score(truth, guessed), "macro_f1": f1_score(truth, guessed, average="macro")}
    return {key: round(float(value), 4) for key, value in figures.items()} | {"seconds": round(seconds)}


def moving(arm: str, model: Any) -> Any:
    """The model with the parameters of the arm set to move."""
    if arm == "lora":
        from peft import LoraConfig, get_peft_model

        return get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="SEQ_CLS"))
    if arm == "head-only-still":
        return head(model)
    if arm == "freeze":
        frozen = [model.bert.embeddings, *model.bert.encoder.layer[:4]]
    elif arm == "decoder":
        frozen = [model.model.embed_tokens, *model.model.layers[:27]]
    else:
        frozen = [model.bert] if arm == "head-only" else []
    for part in frozen:
        part.requires_grad_(False)
    return model


def head(model: Any) -> Any:
    """The head of ``model`` alone, for what its body gave."""
    import torch

    class Head(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dropout, self.classifier = model.dropout, model.classifier

        def forward(self, pooled: Any, labels: Any) -> dict[str, Any]:
            logits = self.classifier(self.dropout(pooled)).float()
            return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    return Head()


def pooled(model: Any, tokenizer: Any, found: list[Any]) -> list[list[float]]:
    """What the body gives for each text, without dropout."""
    import torch

    values: dict[int, list[float]] = {}
    order = sorted(range(len(found)), key=lambda index: len(found[index][0]))
    model.bert.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for start in range(0, len(order), 64):
            batch = order[start : start + 64]
            read = tokenizer([found[index][0] for index in batch], truncation=True, max_length=256, padding=True, return_tensors="pt")
            values |= dict(zip(batch, model.bert(**read).pooler_output.float().tolist(), strict=True))
    return [values[index] for index in range(len(found))]


if __name__ == "__main__":
    main()
