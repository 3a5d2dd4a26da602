"""Several processes on one machine, as torchrun starts them, against one: the same run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from agentft import processes

PERSONA = """\
name: clerk
summary: A clerk who is brief
language: en
role: You are a clerk at the counter of a small library.
policies: [{id: brief, text: Answer in at most 20 words., rule: {words: {max: 20}}}]
"""
RECIPE = """\
name: clerk
model: {model}
persona: persona.yaml
data:
  sources: [{{use: jsonl, path: talks.jsonl}}]
  split: {{validation: 0.08, test: 0.1, seed: 3}}
train:
  - {train}
evaluate: []
device: {{device: cpu, train_dtype: fp32, threads: 1}}
"""
SFT = "{use: sft, strategy: lora, epochs: 2, batch_size: 8, micro_batch: 2, learning_rate: 1e-2, save_every: 2, warmup: 0}"


@pytest.fixture(scope="module")
def job(tmp_path_factory, tiny_ref) -> Path:
    folder = tmp_path_factory.mktemp("distributed")
    draw = random.Random(0)
    talks = []
    for n in range(48):
        words = " ".join(draw.choices(["left", "right", "shelf", "floor", "left", "请"], k=draw.randrange(1, 12)))
        turns = [{"role": "user", "content": f"Where is {n}?"}, {"role": "assistant", "content": f"Go {words}."}]
        talks.append({"id": f"t{n}", "messages": turns})
    (folder / "talks.jsonl").write_text("\n".join(map(json.dumps, talks)), "utf-8")
    (folder / "persona.yaml").write_text(PERSONA, "utf-8")
    write(folder, tiny_ref, SFT)
    return folder


def write(folder: Path, model, train: str, name: str = "recipe.yaml") -> None:
    (folder / name).write_text(RECIPE.format(model=model.path, train=train), "utf-8")


def command(job: Path, runs: str, world: int, *further: str, recipe: str = "recipe.yaml") -> list[str]:
    start = ["-m", "torch.distributed.run", "--nproc-per-node", str(world), "--standalone"] if world > 1 else []
    store = ["--runs", str(job / runs), "--until", "train", *further]
    return [sys.executable, *start, "-m", "agentft", "run", str(job / recipe), *store]


def run(job: Path, runs: str, world: int, *further: str, recipe: str = "recipe.yaml") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command(job, runs, world, *further, recipe=recipe), capture_output=True, text=True, env=environment, timeout=500)


def trained(job: Path, runs: str) -> Path:
    found = [path for path in (job / runs / "stages").glob("train-0-*") if not path.name.endswith(".partial")]
    assert len(found) == 1, found
    return found[0]


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [line.get("loss", line.get("eval_loss")) for line in lines]


def same(job: Path, one: str, other: str) -> None:
    import torch
    from safetensors.torch import load_file

    assert losses(trained(job, one)) == pytest.approx(losses(trained(job, other)), rel=1e-4)
    weights = [load_file(next(trained(job, name).glob("*/*.safetensors"))) for name in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def alone(job) -> str:
    done = run(job, "alone", 1)
    assert done.returncode == 0, done.stderr
    return "alone"


@pytest.mark.slow
def test_two_processes_have_the_losses_and_the_weights_of_one(job, alone):
    done = run(job, "pair", 2)
    assert done.returncode == 0, done.stderr
    rows = losses(trained(job, alone))
    assert len(rows) == 12 and rows[-2] < rows[0]  # 39 rows: the last of five batches of an epoch is not full; one validation per epoch
    same(job, alone, "pair")
    # One writer: every line once, every stage announced once.
    assert done.stderr.count("train-0: new") == 1 and done.stdout.count("run clerk-") == 1
    assert not list((job / "pair" / "stages").glob("*.partial"))
    again = run(job, "pair", 1)
    assert "train-0: unchanged, reused" in again.stderr


@pytest.mark.slow
def test_preferences_in_two_processes(job, tiny_ref):
    draw = random.Random(1)
    pairs = [{"prompt": f"Where is {n}?", "chosen": f"Go {draw.random():.3f}", "rejected": f"No {draw.random():.5f}"} for n in range(20)]
    (job / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)), "utf-8")
    write(job, tiny_ref, "{use: dpo, epochs: 1, batch_size: 4, micro_batch: 2, learning_rate: 1e-3, warmup: 0}", "dpo.yaml")
    text = (job / "dpo.yaml").read_text("utf-8").replace("use: jsonl, path: talks", "use: preferences, path: pairs")
    (job / "dpo.yaml").write_text(text.replace("validation: 0.08, test: 0.1", "validation: 0, test: 0"), "utf-8")
    for runs, world in (("dpo-1", 1), ("dpo-2", 2)):
        done = run(job, runs, world, recipe="dpo.yaml")
        assert done.returncode == 0, done.stderr
    assert len(losses(trained(job, "dpo-1"))) == 5  # every batch is full
    same(job, "dpo-1", "dpo-2")


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_a_killed_run_is_continued_by_another_number_of_processes(job, alone, first, then):
    runs = f"killed-{first}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command(job, runs, first), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 500
    while not list((job / runs).glob("stages/train-0-*.partial/checkpoints/checkpoint-4/trainer_state.json")):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.005)
    for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        os.kill(one.pid, signal.SIGKILL)
    process.wait()
    assert list((job / runs).glob("stages/train-0-*.partial")), "it was too quick to be killed"
    done = run(job, runs, then)
    assert done.returncode == 0, done.stderr
    assert "train-0: continued after an interruption" in done.stderr
    same(job, alone, runs)


@pytest.mark.slow
def test_a_mistake_is_said_once(job):
    done = run(job, "wrong", 2, "--set", "train.0.batch_size=7", "--set", "train.0.micro_batch=1")
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and "batch_size 7 is over all processes and cannot be divided by 2" in lines[0]
    assert not (job / "wrong" / "stages").exists()
    assert done.returncode != 0 and "exitcode  : 2" in done.stderr  # torchrun's own code is 1 whatever ours is


def test_what_cannot_be_shared_is_refused_before_torch(job, tiny_ref):
    write(job, tiny_ref, "{use: seq2seq, batch_size: 6}", "seq2seq.yaml")
    for recipe, expected in (("seq2seq.yaml", "'seq2seq' trains in one process only"), ("recipe.yaml", "cannot be divided by 3")):
        code = (
            "import sys; from agentft.distributed import check_processes; from agentft.session import open_recipe\n"
            f"try: check_processes(open_recipe({str(job / recipe)!r}), 3)\n"
            "except Exception as error: print(error)\nassert 'torch' not in sys.modules"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout and f"{recipe}:" in done.stdout


def test_accelerate_that_started_one_process_is_noticed(monkeypatch):
    for name in [name for name in os.environ if name.startswith("ACCELERATE_")] + ["WORLD_SIZE"]:
        monkeypatch.delenv(name, raising=False)
    assert processes.advice() == ""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert "torchrun --nproc-per-node N -m agentft" in processes.advice()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert processes.advice() == ""


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 16, 21])
@pytest.mark.parametrize(("world", "micro"), [(1, 8), (2, 1), (2, 4), (4, 1), (8, 1)])
def test_every_step_sees_the_rows_of_one_process(count, world, micro):
    from agentft.train.loop import EpochOrder, Shares

    order = EpochOrder([n % 5 for n in range(count)], 8, seed=1)
    order.set_epoch(3)
    shares = Shares(order, 8, micro, world)
    pieces = list(shares)
    assert len(pieces) == len(shares) and len(pieces) % world == 0
    assert all(1 <= len(piece) <= micro for piece in pieces)
    wanted, per_step = list(order), 8 // micro
    for step, start in enumerate(range(0, count, 8)):
        rows = [i for piece in pieces[step * per_step : (step + 1) * per_step] for i in piece]
        assert sorted(i for i in rows if i < count) == sorted(wanted[start : start + 8])


SHARDED = """\
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM, AutoTokenizer

from agentft import processes
from agentft.train.outcome import gathered, save

source, out = map(Path, sys.argv[1:])
dist.init_process_group("gloo")
model = AutoModelForCausalLM.from_pretrained(source)
for layer in model.model.layers:
    fully_shard(layer)
fully_shard(model)
mine = sum(p.to_local().numel() for p in model.parameters())
assert mine < 0.6 * sum(p.numel() for p in model.parameters())
optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
ids = torch.arange(3, 23).reshape(2, 10)
model(input_ids=ids, labels=ids).loss.backward()
optimiser.step()
plain = SimpleNamespace(unwrap_model=lambda m: m)
trainer = SimpleNamespace(model=model, accelerator=plain, processing_class=AutoTokenizer.from_pretrained(source))
weights = gathered(trainer)
if processes.rank() == 0:
    save(SimpleNamespace(out=out), trainer, False, weights=weights)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_shards_of_fsdp2_are_gathered_before_they_are_saved(tmp_path, tiny_ref):
    import torch
    from transformers import AutoModelForCausalLM

    (tmp_path / "shard.py").write_text(SHARDED, "utf-8")
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", str(tmp_path / "shard.py")]
    done = subprocess.run([*start, str(tiny_ref.path), str(tmp_path)], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    model = AutoModelForCausalLM.from_pretrained(tiny_ref.path)
    ids = torch.arange(3, 23).reshape(2, 10)
    model(input_ids=ids, labels=ids).loss.backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    for (name, wanted), found in zip(model.named_parameters(), saved.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.slow
def test_sharding_that_accelerate_does_not_do_on_cpus_is_an_error(job, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    done = run(job, "unsharded", 2)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode and len(lines) == 1 and "it shards on GPUs only" in lines[0], done.stderr
