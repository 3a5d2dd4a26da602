"""Estimated peak memory beside the real one, for training steps and for generation.

    python benchmarks/memory.py                         # SmolLM2-135M, LoRA and full, several numbers of tokens
    python benchmarks/memory.py --device cuda --tokens 2048 8192 32768
    python benchmarks/memory.py --model FOLDER --strategies lora:bfloat16 generate:float32

Each measurement is a process of its own. On a CPU the peak is VmHWM of the process minus what it held before the model was loaded; on CUDA
it is `max_memory_allocated`. A training step is two optimiser steps of AdamW on one row of `tokens` tokens with a label on every fourth.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

LABELLED = 4  # a label on every so many tokens


def held() -> dict[str, int]:
    """VmRSS and VmHWM of this process in bytes."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {parts[0].rstrip(":"): int(parts[1]) * 1024 for parts in lines if parts and parts[0] in ("VmRSS:", "VmHWM:")}


def child(model: str, what: str, dtype: str, device: str, tokens: int, rows: int) -> dict[str, float]:
    import torch

    from agentft.engine import memory
    from agentft.engine.models import load_model, load_tokenizer, resolve_builtin
    from agentft.engine.profile import Profile
    from agentft.engine.score import token_losses
    from agentft.train.setup import frozen_dtype, with_strategy
    from agentft.train.strategies import Strategy

    profile = Profile(device, dtype, dtype, threads=torch.get_num_threads())
    ref = resolve_builtin(model)
    shape = memory.shape_at(ref.path)
    assert shape is not None
    cuda = device.startswith("cuda")
    # What every process has, whatever the model's size, is not part of the estimate: libraries, and a tokenizer with its vocabulary.
    import peft  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401

    tokenizer = load_tokenizer(ref)
    tokenizer("x")

    torch.ones(64, 64, dtype=getattr(torch, dtype)) @ torch.ones(64, 64, dtype=getattr(torch, dtype))  # what libraries allocate once
    before = held()["VmRSS"]
    if what == "generate":
        found = memory.generation(shape, profile, rows, tokens // rows // 2, tokens // rows // 2)
        run = _generate(ref, profile, rows, tokens // rows)
    else:
        strategy = Strategy.model_validate(what)
        loaded = load_model(ref, profile, trainable=True, dtype=frozen_dtype(strategy, profile))
        loaded, fresh = with_strategy(loaded, strategy, task_type="CAUSAL_LM")
        if fresh is not None:
            from peft import get_peft_model
            from peft.tuners.lora import LoraLayer

            loaded = get_peft_model(loaded, fresh)
            for module in loaded.modules():
                if isinstance(module, LoraLayer):
                    module.cast_input_dtype_enabled = dtype == "float32"
        loaded = loaded.to(device).train()
        optimiser = torch.optim.AdamW([p for p in loaded.parameters() if p.requires_grad], lr=1e-5, fused=cuda)
        ids = torch.randint(10, 2000, (1, tokens), device=device, generator=torch.Generator(device).manual_seed(0))
        labels = ids.masked_fill(torch.arange(tokens, device=device) % LABELLED != 0, -100)
        supervised = int((labels[:, 1:] != -100).sum())
        found = memory.training(shape, strategy, profile, tokens, supervised)

        def run() -> None:
            for _ in range(2):
                with torch.autocast(device.split(":")[0], getattr(torch, dtype), enabled=dtype != "float32"):
                    losses, _owner = token_losses(loaded, ids, torch.ones_like(ids), labels)
                losses.mean().backward()
                optimiser.step()
                optimiser.zero_grad()

    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    run()
    peak = torch.cuda.max_memory_allocated() if cuda else held()["VmHWM"] - before
    return {"estimate": found.total, "peak": peak, "parts": vars(found)}  # type: ignore[dict-item]


def _generate(ref, profile, rows: int, tokens: int):  # type: ignore[no-untyped-def]
    """Half of the tokens are the prompt, the others the answer."""
    from agentft.contracts import GenerationSettings
    from agentft.engine.agent import LoadedAgent
    from agentft.records import Example, Message

    agent = LoadedAgent.load(ref, profile=profile)
    words = [f"word{n}" for n in range(tokens)]
    ids = agent.tokenizer(" ".join(words))["input_ids"][: max(1, tokens // 2 - 30)]
    text = agent.tokenizer.decode(ids)
    prompts = [Example(f"{n}", (Message("user", f"{n} {text}"),)) for n in range(rows)]
    agent.renderer.stop_token_ids = ()  # type: ignore[assignment]
    settings = GenerationSettings(max_new_tokens=tokens // 2, batch_size=rows)

    def run() -> None:
        from agentft.engine.generate import TransformersBackend

        TransformersBackend(agent).generate(prompts, settings)

    return run


def measure(model: str, what: str, dtype: str, device: str, tokens: int, rows: int = 8) -> dict[str, float]:
    """One measurement in a process of its own: ``{"estimate": bytes, "peak": bytes, "parts": {...}}``."""
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, __file__, "--child", json.dumps([model, what, dtype, device, tokens, rows])]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="smollm2-135m")
    options.add_argument(
        "--strategies", nargs="+", default=["lora", "full", "generate"], help="with a dtype of its own behind a colon, if need be"
    )
    options.add_argument("--dtypes", nargs="+", default=["bfloat16", "float32"])
    options.add_argument("--tokens", nargs="+", type=int, default=[512, 2048, 4096])
    options.add_argument("--device", default="cpu")
    options.add_argument("--json", action="store_true", help="at the end, all of it on one line, in bytes")
    options.add_argument("--child", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.child:
        print(json.dumps(child(*json.loads(given.child))))
        return
    lines = []
    print(f"{'what':>9} {'dtype':>9} {'tokens':>7} {'estimate MB':>12} {'peak MB':>9} {'ratio':>6}")
    for strategy in given.strategies:
        what, _, own = strategy.partition(":")
        for dtype in [own] if own else given.dtypes:
            for tokens in given.tokens:
                found = measure(given.model, what, dtype, given.device, tokens)
                ratio = found["estimate"] / found["peak"]
                lines.append({"what": what, "dtype": dtype, "tokens": tokens, "estimate": found["estimate"], "peak": found["peak"]})
                print(
                    f"{what:>9} {dtype:>9} {tokens:>7} {found['estimate'] / 1e6:>12.0f} {found['peak'] / 1e6:>9.0f} {ratio:>6.2f}",
                    flush=True,
                )
    if given.json:
        print(json.dumps(lines))


if __name__ == "__main__":
    main()
