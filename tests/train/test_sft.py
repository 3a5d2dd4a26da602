"""The sft trainer on a tiny model: what moves, what does not, and that an interruption leaves no trace."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import tiny_model, write_rows

from agentft.contracts import TrainJob
from agentft.errors import TrainingError
from agentft.train.sft import SFTConfig, train

LORA = {"lora": {"r": 4, "alpha": 8}}


@pytest.fixture
def job(tiny_ref, cpu, tmp_path):
    """A short LoRA job; ``replace`` makes others from it."""
    rows = write_rows(tmp_path / "rows.jsonl", 20)
    config = SFTConfig(strategy=LORA, epochs=2, learning_rate=2e-2)
    return TrainJob(model=tiny_ref, rows=rows, out=tmp_path / "out", config=config, seed=3, pad_token_id=2, device=cpu.to_dict())


def weights(folder: Path):
    from safetensors.torch import load_file

    return load_file(next(iter(Path(folder).glob("*.safetensors"))))


def same(left: Path, right: Path, tolerance: float = 0.0) -> bool:
    import torch

    a, b = weights(left), weights(right)
    assert a.keys() == b.keys()
    return all(torch.allclose(a[k], b[k], rtol=0, atol=tolerance) for k in a)


def log_of(job: TrainJob) -> list[dict]:
    return [json.loads(line) for line in (job.out / "metrics.jsonl").read_text().splitlines()]


def test_lora_learns_and_leaves_the_base_alone(job):
    before = weights(Path(job.model.path))
    seen = []
    result = train(replace(job, progress=lambda step, total, info: seen.append((step, total, dict(info)))))
    assert result.model is None and result.adapter == job.out / "adapter"
    adapter = weights(result.adapter)
    assert result.trainable == sum(tensor.numel() for tensor in adapter.values()) < result.total
    assert all("lora_" in name for name in adapter)
    assert all(tensor.abs().sum() > 0 for name, tensor in adapter.items() if "lora_B" in name)  # B starts at zero
    assert all((before[k] == v).all() for k, v in weights(Path(job.model.path)).items())
    assert result.metrics["final_loss"] < 0.8 * result.metrics["first_loss"]
    assert [step for step, _, _ in seen] == [1, 2, 3, 4, 5, 6] and {total for _, total, _ in seen} == {6}
    assert all(info["tokens_per_second"] > 0 for _, _, info in seen)
    assert [info["loss"] for _, _, info in seen] == pytest.approx([line["loss"] for line in log_of(job)])


def test_full_training_moves_every_weight(job):
    result = train(replace(job, config=SFTConfig(strategy="full", epochs=1, learning_rate=1e-2)))
    assert result.adapter is None and result.trainable == result.total
    before, after = weights(Path(job.model.path)), weights(result.model)
    assert before.keys() == after.keys()
    assert [name for name in before if (before[name] == after[name]).all()] == []
    # It stands on its own: tokenizer, chat template and configuration travel with it.
    from agentft.engine.models import load_model, load_tokenizer, resolve_builtin
    from agentft.engine.profile import Profile

    ref = resolve_builtin(str(result.model))
    assert load_tokenizer(ref).chat_template and load_model(ref, Profile()).num_parameters() == result.total


@pytest.mark.slow
def test_same_seed_gives_the_same_weights_and_another_seed_does_not(job, tmp_path):
    first = train(job).adapter
    assert same(first, train(replace(job, out=tmp_path / "again")).adapter)
    assert not same(first, train(replace(job, out=tmp_path / "other", seed=4)).adapter)


def test_accumulation_does_not_change_the_result(job, tmp_path):
    """1 x 8 rows, 4 x 2 and 8 x 1 are the same optimiser step: the loss is divided by the tokens of the whole step."""
    paths = {}
    for micro in (8, 2, 1):
        config = SFTConfig(strategy="full", epochs=1, learning_rate=1e-3, micro_batch=micro, extra={"optim": "sgd"})
        paths[micro] = replace(job, out=tmp_path / str(micro), config=config)
        train(paths[micro])
    for micro in (2, 1):
        assert same(paths[8].out / "model", paths[micro].out / "model", 1e-6)
        assert [line["loss"] for line in log_of(paths[micro])] == pytest.approx([line["loss"] for line in log_of(paths[8])], rel=1e-5)


@pytest.mark.slow
def test_adapter_of_the_stage_before_is_continued(job, tmp_path):
    first = train(job)
    second = train(replace(job, adapter=first.adapter, out=tmp_path / "second"))
    assert second.metrics["first_loss"] < first.metrics["first_loss"] * 0.8
    assert not same(first.adapter, second.adapter)
    with pytest.raises(TrainingError, match="has r=4 and alpha=8, not r=8"):
        train(replace(job, adapter=first.adapter, out=tmp_path / "third", config=SFTConfig(strategy={"lora": {"r": 8}})))


def test_full_training_after_an_adapter_starts_from_both(job, tmp_path):
    first = train(job)
    second = train(replace(job, adapter=first.adapter, out=tmp_path / "second", config=SFTConfig(strategy="full", epochs=0.1)))
    assert second.metrics["first_loss"] < first.metrics["first_loss"] * 0.8
    assert weights(second.model).keys() == weights(Path(job.model.path)).keys()


def test_bf16_profile_learns_the_same_to_its_precision(job, cpu, tmp_path):
    plain = train(job).metrics
    half = train(replace(job, out=tmp_path / "half", device=replace(cpu, train_dtype="bfloat16").to_dict()))
    assert half.metrics["final_loss"] == pytest.approx(plain["final_loss"], rel=0.05)
    assert half.metrics["final_loss"] != plain["final_loss"]
    assert {str(tensor.dtype) for tensor in weights(half.adapter).values()} == {"torch.float32"}


def test_gradient_checkpointing_gives_the_same_weights(job, tmp_path):
    first = train(job).adapter
    config = SFTConfig(strategy=LORA, epochs=2, learning_rate=2e-2, gradient_checkpointing=True)
    assert same(first, train(replace(job, out=tmp_path / "slow", config=config)).adapter, 2e-4)


def test_validation_loss_is_the_mean_over_tokens_and_ends_the_log(job, tmp_path):
    config = SFTConfig(strategy=LORA, epochs=1, learning_rate=1e-2, eval_every=2)
    result = train(replace(job, validation=write_rows(tmp_path / "val.jsonl", 6), config=config))
    lines = [line for line in log_of(job) if "eval_loss" in line]
    assert [line["step"] for line in lines] == [2, 3]
    assert result.metrics["eval_loss"] == lines[-1]["eval_loss"]


def test_early_stopping_stops_and_keeps_the_best(job, tmp_path):
    validation = write_rows(tmp_path / "val.jsonl", 8, seed=99)  # noise that training rows say nothing about
    config = SFTConfig(strategy=LORA, epochs=40, learning_rate=5e-2, eval_every=1, early_stopping=2)
    result = train(replace(job, validation=validation, config=config))
    losses = [line["eval_loss"] for line in log_of(job) if "eval_loss" in line]
    assert len(losses) < 100 and result.metrics["steps"] == len(losses)
    best = min(range(len(losses)), key=losses.__getitem__)
    assert len(losses) - 1 - best == 2
    assert (result.metrics["best_step"], result.metrics["eval_loss"]) == (best + 1, losses[best])
    assert evaluate(job, result.adapter, validation) == pytest.approx(losses[best], rel=1e-5)


def evaluate(job: TrainJob, adapter: Path, path: Path) -> float:
    """Mean loss of rows under base and adapter, loaded from the saved files."""
    import torch

    from agentft.engine.models import load_model
    from agentft.engine.profile import Profile

    model = load_model(job.model, Profile(), adapter)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    with torch.inference_mode():
        losses = [model(input_ids=torch.tensor([r["input_ids"]]), labels=torch.tensor([r["labels"]])).loss for r in rows]
    return float(torch.stack(losses).mean())


DROPOUT = {"lora": {"r": 4, "dropout": 0.2}}


@pytest.mark.parametrize(
    ("strategy", "stop_at"),
    [(LORA, 2), (LORA, 3), (LORA, 4), ("full", 4), (DROPOUT, 4)],
    ids=["lora2", "lora3", "lora4", "full", "dropout"],
)
def test_resumed_training_ends_with_the_same_weights(job, tmp_path, stop_at, strategy):
    """In the first epoch, at its end, and in the second one; with and without randomness in the step."""
    config = SFTConfig(strategy=strategy, epochs=2, learning_rate=1e-2, scheduler="cosine", warmup=0.2, save_every=1)
    whole = replace(job, config=config, out=tmp_path / "whole", validation=write_rows(tmp_path / "val.jsonl", 4))
    name = "model" if strategy == "full" else "adapter"
    expected = train(whole)

    class Killed(Exception):
        pass

    def kill(step, *_):
        if step == stop_at + 1:
            raise Killed

    broken = replace(whole, out=tmp_path / "broken")
    with pytest.raises(Killed):
        train(replace(broken, progress=kill))
    steps = []
    result = train(replace(broken, progress=lambda step, *_: steps.append(step)))
    assert steps[0] == stop_at + 1
    assert same(whole.out / name, broken.out / name)
    assert [(line["step"], line.get("loss"), line.get("eval_loss")) for line in log_of(whole)] == [
        (line["step"], line.get("loss"), line.get("eval_loss")) for line in log_of(broken)
    ]
    assert {k: v for k, v in result.metrics.items() if k != "seconds"} == {k: v for k, v in expected.metrics.items() if k != "seconds"}
    assert not (broken.out / "checkpoints").exists()


KILLED = """
import json, os, signal, sys
from pathlib import Path
from agentft.components import ModelRef
from agentft.contracts import TrainJob
from agentft.engine.profile import Profile
from agentft.train.sft import SFTConfig, train
folder, model, stop = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
steps = []
def kill(step, *_):
    steps.append(step)
    if step == stop:
        os.kill(os.getpid(), signal.SIGKILL)
ref = ModelRef(model, model, "0" * 64, "folder")
config = SFTConfig(strategy={"lora": {"r": 4, "alpha": 8}}, epochs=2, learning_rate=2e-2, save_every=2)
train(TrainJob(ref, folder / "rows.jsonl", folder / "out", config, 3, 2, device=Profile().to_dict(), progress=kill))
print(*steps)
"""


@pytest.mark.slow
def test_sigkill_and_a_torn_checkpoint(job, tmp_path):
    """Killed for real; then the newest checkpoint is damaged as if the kill had come while it was written."""

    def run(stop):
        command = [sys.executable, "-W", "default", "-c", KILLED, str(tmp_path), job.model.path, str(stop)]
        return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})

    killed = run(6)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert sorted(path.name for path in (job.out / "checkpoints").iterdir()) == ["checkpoint-2", "checkpoint-4"]
    state = job.out / "checkpoints" / "checkpoint-4" / "trainer_state.json"
    state.write_text(state.read_text()[:100])
    finished = run(99)
    assert (finished.returncode, finished.stdout) == (0, "3 4 5 6\n"), finished.stderr
    whole = train(replace(job, config=job.config.model_copy(update={"save_every": 2}), out=tmp_path / "whole"))
    assert same(whole.adapter, job.out / "adapter")
    # Nothing of transformers, TRL or tqdm on the console; other libraries may complain about Python.
    noise = [
        line for line in finished.stderr.splitlines() if any(word in line for word in ("transformers", "trl", "peft", "agentft", "%|"))
    ]
    assert noise == []


@pytest.fixture(scope="module")
def interrupted(tiny_ref, cpu, tmp_path_factory):
    """The checkpoints of a job that was stopped after step 4."""
    folder = tmp_path_factory.mktemp("interrupted")
    rows = write_rows(folder / "rows.jsonl", 20)

    def stop(step, *_):
        if step == 5:
            raise KeyboardInterrupt

    config = SFTConfig(strategy=LORA, epochs=2, save_every=2)
    with pytest.raises(KeyboardInterrupt):
        train(TrainJob(tiny_ref, rows, folder / "out", config, 3, 2, device=cpu.to_dict(), progress=stop))
    return folder / "out" / "checkpoints"


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"])
@pytest.mark.parametrize("damage", ["absent", "empty", "half"])
def test_checkpoint_without_all_its_files_is_passed_over(interrupted, tmp_path, file, damage):
    from agentft.train.checkpoints import last_complete

    folder = Path(shutil.copytree(interrupted, tmp_path / "copy"))
    assert last_complete(folder) == folder / "checkpoint-4"
    path = folder / "checkpoint-4" / file
    data = path.read_bytes()
    path.unlink()
    if damage != "absent":
        path.write_bytes(b"" if damage == "empty" else data[: len(data) // 2])
    assert last_complete(folder) == folder / "checkpoint-2"


def test_finished_job_is_not_trained_again(job):
    first = train(job)
    assert train(replace(job, progress=lambda *_: pytest.fail("trained again"))) == first


@pytest.mark.parametrize("change", ["seed", "config", "rows"])
def test_folder_of_another_job_is_not_continued(job, change):
    first = train(job)
    before = weights(first.adapter)
    changes = {"seed": {"seed": 9}, "config": {"config": SFTConfig(strategy=LORA, epochs=1)}, "rows": {}}[change]
    if change == "rows":
        write_rows(job.rows, 20, seed=1)
    second = train(replace(job, **changes))
    after = weights(second.adapter)
    assert any((before[name] != after[name]).any() for name in before)
    assert log_of(job)[0]["step"] == 1 and len(log_of(job)) == second.metrics["steps"]


def poison(model_folder: Path, out: Path) -> Path:
    """A copy of the model in which the embedding of token 200 is not a number."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(model_folder, out)
    tensors = load_file(out / "model.safetensors")
    tensors["model.embed_tokens.weight"][255] = float("nan")
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    return out


def test_loss_that_is_not_finite_names_step_rows_and_remedy(job, tmp_path):
    folder = poison(Path(job.model.path), tmp_path / "poisoned")
    lines = [json.loads(line) for line in job.rows.read_text().splitlines()]
    lines[7]["input_ids"][-8] = 255
    lines[7]["id"] = "the bad one"
    job.rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(TrainingError) as caught:
        train(replace(job, model=replace(job.model, path=str(folder))))
    message = str(caught.value)
    assert "loss is not finite at step" in message and "of 6" in message
    assert "rows of this batch: 'the bad one'." in message, "only the row that it came from is named"
    assert "learning_rate (now 0.02)" in message


def test_gradient_that_is_not_finite_stops_before_the_weights_move(job, monkeypatch):
    import torch

    from agentft.train import loop

    real = loop.token_losses

    class Spoil(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * float("inf")

    def spoiled(*args, **kwargs):
        losses, owner = real(*args, **kwargs)
        return Spoil.apply(losses), owner

    monkeypatch.setattr(loop, "token_losses", spoiled)
    with pytest.raises(TrainingError, match="gradient norm is not finite at step 1 of 6; rows of this batch: 'r"):
        train(job)


def test_lack_of_memory_says_what_to_change(job, monkeypatch):
    import torch

    from agentft.train import loop

    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loop, "token_losses", full)
    with pytest.raises(
        TrainingError, match="out of memory on cpu at step 1 with micro_batch 4.*Try micro_batch: 2, then gradient_checkpointing"
    ):
        train(job)


def test_rows_that_cannot_be_learned_from_are_refused(job):
    row = json.loads(job.rows.read_text().splitlines()[0])
    for change, message in (
        ({"labels": [-100] * len(row["labels"])}, "row 'r0' has no supervised token"),
        ({"labels": row["labels"][1:]}, "row 'r0' has not one label per token"),
    ):
        job.rows.write_text(json.dumps(row | change) + "\n")
        with pytest.raises(TrainingError, match=message):
            train(job)
    job.rows.write_text("")
    with pytest.raises(TrainingError, match="not one row"):
        train(job)


def test_early_stopping_without_validation_is_refused(job):
    with pytest.raises(TrainingError, match=r"needs validation rows; set data\.split\.validation"):
        train(replace(job, config=SFTConfig(early_stopping=2)))


def test_value_that_trl_refuses_is_a_users_error(job):
    with pytest.raises(TrainingError, match="TRL does not take these options"):
        train(replace(job, config=SFTConfig(extra={"optim": "adamx"})))


def test_extra_reaches_trl(job, tmp_path):
    frozen = train(replace(job, config=SFTConfig(strategy=LORA, epochs=2, extra={"max_steps": 2})))
    assert frozen.metrics["steps"] == 2


def test_reference_model_differs_by_seed(tmp_path):
    """The tests above compare weights: two models of the helper must not be equal by accident."""
    assert not same(Path(tiny_model(tmp_path / "a", 0).path), Path(tiny_model(tmp_path / "b", 1).path))
