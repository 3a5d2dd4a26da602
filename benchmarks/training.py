"""A training step for an agent with a persona's prompt: agentft against raw TRL, with equal loss curves.

    python benchmarks/training.py sft --repeats 5
    python benchmarks/training.py sft --prefix 0,128,512,2048     # how the cost grows with the persona's prompt; 0: nothing is shared
    python benchmarks/training.py dpo --repeats 5
    python benchmarks/training.py score --candidates 1,4,8,16
    python benchmarks/training.py sft --repeats 5 --memory        # also the peak memory of each arm

LoRA r=16 on all linear layers, bf16 where the CPU multiplies it. All arms train the same rows in the same batches from the same
initial adapter; their losses are compared step by step.

* ``TRL, defaults``: SFTTrainer / DPOTrainer as they come: gradient checkpointing, float32 weights under bf16 autocast, the reference run
  beside every step;
* ``TRL, tuned``: as somebody sets it up who knows it: no checkpointing, frozen weights in bf16, rows of similar length together,
  micro-batches of the size that is fastest here (4 rows, accumulated), the reference once before training, PEFT's input casts off;
* ``agentft``: ``use: sft`` / ``use: dpo``.

``sft`` gives seconds per optimiser step (median over the steps after the first); ``dpo`` seconds for all pairs including the reference,
without the time to load the model; ``score`` seconds for the log-probabilities of the candidates of a prompt, against a padded forward pass
that keeps logits only where they are needed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import compare, machine, peak_rise, ratios, rounded, summary


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


ARMS = {"defaults": "TRL, defaults", "tuned": "TRL, tuned", "agentft": "agentft"}


def arms(text: str) -> list[str]:
    """Short names of arms, in the order of :data:`ARMS`."""
    given = text.split(",")
    if unknown := set(given) - set(ARMS):
        raise argparse.ArgumentTypeError(f"no such arm: {', '.join(sorted(unknown))}; there are {', '.join(ARMS)}")
    return [arm for arm in ARMS if arm in given]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["sft", "dpo", "score"])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--batch", type=int, default=16, help="rows, or pairs, of a micro-batch and optimiser step")
    parser.add_argument("--tuned-micro", type=int, default=4, help="rows of a forward pass of the tuned TRL")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--prefix", type=numbers, default=[256], help="tokens of the persona's prompt; several with commas")
    parser.add_argument("--candidates", type=numbers, default=[8], help="for score")
    parser.add_argument("--arms", type=arms, default=[*ARMS], help="only these of defaults, tuned and agentft, with commas")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="also the peak memory of each arm, for sft and dpo")
    parser.add_argument("--json", action="store_true", help="on one line")
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)  # the child that one arm's memory is measured in
    args = parser.parse_args()
    if args.memory and args.what == "score":
        parser.error("--memory is for sft and dpo")

    from agentft.engine.models import pull
    from agentft.engine.quiet import quiet_libraries

    reference = pull(args.model)
    if args.peak:
        print(json.dumps(rise(reference, args)))
        return
    with quiet_libraries():
        before = machine()
        case = {"sft": sft, "dpo": dpo, "score": score}[args.what]
        cases = [case(reference, args, prefix) for prefix in args.prefix]
        for one in cases if args.memory else []:
            one["memory_mib"] = {arm: peak(args, one["prefix"], arm) for arm in one["seconds"]}
        found = {"what": args.what, "machine": before, "bf16_gflops_after": machine()["bf16_gflops"], "cases": rounded(cases, 6)}
    print(json.dumps(found, indent=None if args.json else 2))


def words(draw: random.Random, count: int) -> list[int]:
    return [draw.randrange(300, 40000) for _ in range(count)]


def conversations(prefix: int, count: int) -> list[dict[str, Any]]:
    """Rows of about 30 tokens of a question and 55 of an answer behind ``prefix`` common ones, those of similar length together."""
    draw = random.Random(0)
    persona = words(draw, prefix)
    rows = []
    for _ in range(count):
        prompt, answer = persona + words(draw, draw.randrange(24, 37)), words(draw, draw.randrange(44, 67))
        rows.append({"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer})
    rows.sort(key=lambda row: len(row["input_ids"]))
    return rows


def pairs(prefix: int, count: int) -> list[dict[str, Any]]:
    draw = random.Random(0)
    persona = words(draw, prefix)
    rows = []
    for _ in range(count):
        prompt = persona + words(draw, draw.randrange(24, 37))
        rows.append({"prompt_ids": prompt} | {f"{side}_ids": words(draw, draw.randrange(44, 67)) for side in ("chosen", "rejected")})
    rows.sort(key=lambda row: len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])))
    return rows


# --- arms -----------------------------------------------------------------------------------------------------------------------------


def lora() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")


class Clock:
    """Times of the optimiser steps, as a callback of transformers."""

    def __init__(self) -> None:
        from transformers import TrainerCallback

        clock = self

        class Ticks(TrainerCallback):
            def on_step_begin(self, *_: Any, **__: Any) -> None:
                clock.start = time.perf_counter()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                clock.steps.append(time.perf_counter() - clock.start)

            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
                if logs and "loss" in logs:
                    clock.losses.append(logs["loss"])

        self.steps: list[float] = []
        self.losses: list[float] = []
        self.callback = Ticks()


def trl_trainer(kind: str, reference: Any, rows: list[dict[str, Any]], args: Any, tuned: bool, folder: Path) -> tuple[Any, Clock]:
    """TRL's trainer on rows that are tokenised already, and its clock."""
    import torch
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, set_seed

    from agentft.engine.models import load_tokenizer
    from agentft.engine.profile import detect

    profile, tokenizer = detect(), load_tokenizer(reference)
    mixed = profile.train_dtype == "bfloat16"
    dtype = torch.bfloat16 if tuned and mixed else torch.float32
    model = AutoModelForCausalLM.from_pretrained(reference.path, dtype=dtype)
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "use_cpu": profile.device == "cpu",
        "bf16": mixed,
        "per_device_train_batch_size": args.batch,
        "learning_rate": 2e-4,
        "lr_scheduler_type": "constant",
        "num_train_epochs": 1,
        "train_sampling_strategy": "sequential",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": 0,
        "max_length": None,
        "dataloader_pin_memory": False,
    }
    if tuned:
        micro = math.gcd(args.batch, args.tuned_micro)
        settings |= {"gradient_checkpointing": False, "per_device_train_batch_size": micro}
        settings |= {"gradient_accumulation_steps": args.batch // micro}
        if kind == "DPO":
            settings |= {"precompute_ref_log_probs": True, "precompute_ref_batch_size": micro}
    clock = Clock()
    set_seed(0)
    if kind == "SFT":
        config = trl.SFTConfig(dataset_kwargs={"skip_prepare_dataset": True}, **settings)
        given: dict[str, Any] = {"train_dataset": Dataset.from_list(rows)}
        cls: Any = trl.SFTTrainer
    else:
        config = trl.DPOConfig(loss_type=["sigmoid", "sft"], loss_weights=[1.0, 0.1], **settings)
        given = {"train_dataset": Dataset.from_list(rows)}

        class Prepared(trl.DPOTrainer):
            def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
                return dataset  # tokenised already, for all arms

        cls = Prepared
    trainer = cls(model=model, args=config, processing_class=tokenizer, peft_config=lora(), callbacks=[clock.callback], **given)
    if tuned:
        from peft.tuners.lora import LoraLayer

        for module in trainer.model.modules():
            if isinstance(module, LoraLayer):
                module.cast_input_dtype_enabled = False
    return trainer, clock


def ours(kind: str, reference: Any, rows: list[dict[str, Any]], args: Any, folder: Path) -> tuple[list[float], list[float], float]:
    """agentft's own door: a job, from its rows in a file to the saved adapter. Times of the steps, losses, and seconds of the whole."""
    from agentft.contracts import TrainJob
    from agentft.engine.models import load_tokenizer
    from agentft.engine.profile import detect
    from agentft.train import dpo as dpo_module
    from agentft.train import sft as sft_module

    module: Any = sft_module if kind == "SFT" else dpo_module
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps({"id": f"r{i}", "group": None, **row}) + "\n" for i, row in enumerate(rows)), encoding="utf-8")
    options = {
        "strategy": {"lora": {"r": 16, "alpha": 32.0}},
        "batch_size": args.batch,
        "micro_batch": args.batch,
        "learning_rate": 2e-4,
        "scheduler": "constant",
        "warmup": 0.0,
        "epochs": 1.0,
        "log_every": 1,
        "save_every": 10**6,
        "extra": {"train_sampling_strategy": "sequential"},
    }
    config = getattr(module, f"{kind}Config").model_validate(options)
    ticks: list[float] = []
    started = time.perf_counter()
    job = TrainJob(
        reference,
        file,
        folder / "out",
        config,
        seed=0,
        pad_token_id=load_tokenizer(reference).pad_token_id,
        device=detect().to_dict(),
        progress=lambda *_: ticks.append(time.perf_counter()),
    )
    with in_order():
        module.train(job)
    whole = time.perf_counter() - started
    lines = [json.loads(line) for line in (folder / "out" / "metrics.jsonl").read_text().splitlines()]
    return [b - a for a, b in itertools.pairwise(ticks)], [line["loss"] for line in lines if "loss" in line], whole


class in_order:
    """agentft draws an order of its own; here all arms must see the same batches."""

    def __enter__(self) -> None:
        from agentft.train.loop import EpochOrder

        self.kind: Any = EpochOrder
        self.real = EpochOrder.__iter__
        self.kind.__iter__ = lambda order: iter(range(len(order)))

    def __exit__(self, *_: Any) -> None:
        self.kind.__iter__ = self.real


# --- cases ----------------------------------------------------------------------------------------------------------------------------


def sft(reference: Any, args: Any, prefix: int) -> dict[str, Any]:
    rows = conversations(prefix, args.batch * (args.steps + 1))
    seconds: dict[str, list[float]] = {}
    curves: dict[str, list[float]] = {}

    def arm(name: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            if name == "agentft":
                steps, losses, _ = ours("SFT", reference, rows, args, Path(folder))
                steps = steps[: args.steps]  # the first step is not among them
            else:
                trainer, clock = trl_trainer("SFT", reference, rows, args, name == "TRL, tuned", Path(folder))
                trainer.train()
                steps, losses = clock.steps[1:], clock.losses
        seconds.setdefault(name, []).append(statistics.median(steps))
        curves[name] = losses

    run_in_turns(arm, [ARMS[arm] for arm in args.arms], args.repeats)
    batches = [rows[at : at + args.batch] for at in range(args.batch, len(rows), args.batch)]  # those that are timed
    return outcome(prefix, seconds, curves, {"tokens_of_a_step": sum(len(row["input_ids"]) for row in rows) / (args.steps + 1)}) | {
        "rows_of_a_step": args.batch,
        "gflop_of_a_step": statistics.median(step_gflop(reference, batch) for batch in batches),
    }


def dpo(reference: Any, args: Any, prefix: int) -> dict[str, Any]:
    rows = pairs(prefix, args.batch * args.steps)
    seconds: dict[str, list[float]] = {}
    curves: dict[str, list[float]] = {}

    def arm(name: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            if name == "agentft":
                _, losses, whole = ours("DPO", reference, rows, args, Path(folder))  # loads the model twice, and saves
            else:
                started = time.perf_counter()
                trainer, clock = trl_trainer("DPO", reference, rows, args, name == "TRL, tuned", Path(folder))
                trainer.train()
                losses, whole = clock.losses, time.perf_counter() - started
        seconds.setdefault(name, []).append(whole)
        curves[name] = losses

    run_in_turns(arm, [ARMS[arm] for arm in args.arms], args.repeats)
    return outcome(prefix, seconds, curves, {"pairs": len(rows), "pairs_of_a_step": args.batch})


def score(reference: Any, args: Any, prefix: int) -> dict[str, Any]:
    import torch

    from agentft.engine.models import load_model
    from agentft.engine.profile import detect
    from agentft.engine.score import pad, token_losses

    profile = detect()
    profile.apply()
    model = load_model(reference, profile)
    found = []
    for count in args.candidates:
        draw = random.Random(0)
        persona = words(draw, prefix)
        prompts = [persona + words(draw, 30) for _ in range(max(1, 64 // count))]
        rows = [(prompt, words(draw, draw.randrange(44, 67))) for prompt in prompts for _ in range(count)]
        ids = [prompt + answer for prompt, answer in rows]
        labels = [[-100] * len(prompt) + answer for prompt, answer in rows]
        batch = (pad(ids, 2), pad([[1] * len(row) for row in ids], 0), pad(labels, -100))
        results: dict[str, Any] = {}

        def run(name: str, share: bool, batch: Any = batch, results: Any = results) -> None:
            with torch.inference_mode():
                results[name] = token_losses(model, *batch, share_prefix=share)[0]

        times = compare({"padded forward": lambda: run("padded forward", False), "agentft": lambda: run("agentft", True)}, args.repeats)
        found.append(
            {
                "candidates": count,
                "prompts": len(prompts),
                "prefix": prefix,
                "seconds": {name: [one["median"], one["min"], one["max"]] for name, one in times.items()},
                "times_as_fast": ratios(times, "padded forward")["agentft"],
                "largest_difference": float((results["agentft"] - results["padded forward"]).abs().max()),
            }
        )
    return {"prefix": prefix, "dtype": profile.decode_dtype, "cases": found}


# --- memory ---------------------------------------------------------------------------------------------------------------------------


def peak(args: Any, prefix: int, arm: str) -> float:
    """MiB by which an arm's resident memory rises at most, in a process of its own, for two steps. Weights count, libraries do not."""
    command = [sys.executable, __file__, args.what, "--model", args.model, "--batch", str(args.batch), "--prefix", str(prefix)]
    short = next(name for name, full in ARMS.items() if full == arm)
    command += ["--steps", "1", "--repeats", "1", "--arms", short, "--peak"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def rise(reference: Any, args: Any) -> float:
    """Run the one arm of ``args`` here (Linux only)."""
    import peft  # noqa: F401
    import torch
    import transformers.models.llama.modeling_llama  # noqa: F401
    import trl

    import agentft.train.dpo
    import agentft.train.sft  # noqa: F401
    from agentft.engine.models import load_tokenizer

    _ = (trl.SFTTrainer, trl.DPOTrainer)  # they are imported when first asked for
    load_tokenizer(reference)("x")
    torch.ones(64, 64, dtype=torch.bfloat16) @ torch.ones(64, 64, dtype=torch.bfloat16)  # what libraries allocate once
    args.steps += args.what == "dpo"  # sft has one more anyway, which is not timed
    return peak_rise(lambda: {"sft": sft, "dpo": dpo}[args.what](reference, args, args.prefix[0])) / 2**20


def run_in_turns(arm: Any, names: list[str], repeats: int) -> None:
    for number in range(repeats):
        for name in names if number % 2 == 0 else reversed(names):
            arm(name)


def outcome(prefix: int, seconds: dict[str, list[float]], curves: dict[str, list[float]], further: dict[str, Any]) -> dict[str, Any]:
    times = {name: summary(runs) for name, runs in seconds.items()}
    fast = {name: ratios(times, name)["agentft"] for name in times if name != "agentft"} if "agentft" in times else {}
    return {
        "prefix": prefix,
        **further,
        "seconds": {name: [one["median"], one["min"], one["max"]] for name, one in times.items()},
        "times_as_fast_as": {name: [one["median"], one["min"], one["max"]] for name, one in fast.items()},
        "losses": curves,
    }


def step_gflop(reference: Any, rows: list[dict[str, Any]]) -> float:
    """Arithmetic of one LoRA step over the tree in 10^9 operations, by the usual count (2 per multiply-add).

    Linear layers: forward, and the gradient of their input. The output layer: the same, where a label is. LoRA: forward, gradient of
    the input and of both matrices. Attention: two products forward, five backward, over the pairs that look at each other.
    """
    from transformers import AutoConfig

    from agentft.engine.tree import grow

    config = AutoConfig.from_pretrained(reference.path)
    tree = grow([row["input_ids"] for row in rows])
    labels = sum(label != -100 for row in rows for label in row["labels"])
    hidden, layers, heads = config.hidden_size, config.num_hidden_layers, config.num_attention_heads
    size = getattr(config, "head_dim", None) or hidden // heads
    key = config.num_key_value_heads * size
    shapes = [(hidden, heads * size), (hidden, key), (hidden, key), (heads * size, hidden), *[(hidden, config.intermediate_size)] * 3]
    linear = layers * sum(a * b for a, b in shapes)
    adapter = layers * sum(16 * (a + b) for a, b in shapes)
    seen = int(tree.seen().sum())
    attention = layers * heads * seen * size
    total = 2 * (2 * linear + 3 * adapter) * len(tree) + 2 * 2 * hidden * config.vocab_size * labels + 2 * 7 * attention
    return total / 1e9


if __name__ == "__main__":
    main()
