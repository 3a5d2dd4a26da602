"""How many rows go through the model at once, and what happens when that was too many."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import write_rows

from agentft.contracts import TrainJob
from agentft.errors import TrainingError
from agentft.train.fitting import Plan, rows_that_fit, tokens_of
from agentft.train.rows import common_start, read_rows
from agentft.train.sft import SFTConfig, train

LORA = {"lora": {"r": 4, "alpha": 8}}


@pytest.fixture
def job(tiny_ref, cpu, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", 20)
    config = SFTConfig(strategy=LORA, epochs=2, learning_rate=2e-2, save_every=1)
    return TrainJob(model=tiny_ref, rows=rows, out=tmp_path / "out", config=config, seed=3, pad_token_id=2, device=cpu.to_dict())


def weights(folder: Path):
    from safetensors.torch import load_file

    return load_file(next(iter(Path(folder).glob("*.safetensors"))))


def losses(job: TrainJob) -> list[float]:
    return [line["loss"] for line in map(json.loads, (job.out / "metrics.jsonl").read_text().splitlines()) if "loss" in line]


@given(
    lengths=st.lists(st.integers(8, 60), min_size=1, max_size=30),
    prefix=st.integers(0, 8),
    batch=st.integers(1, 24),
    room=st.integers(0, 900),
)
def test_rows_that_fit_divide_the_batch_and_are_the_most_that_fit(lengths, prefix, batch, room):
    found = rows_that_fit(lengths, prefix, batch, room)
    assert batch % found == 0
    assert found == 1 or tokens_of(lengths, prefix, found) <= room
    assert all(tokens_of(lengths, prefix, n) > room for n in range(found + 1, batch + 1) if batch % n == 0)


def test_shared_tokens_count_once():
    assert tokens_of([10, 12, 14], 8, 2) == 8 + (12 - 8) + (14 - 8)
    assert tokens_of([10, 12, 14], 0, 2) == 2 * 14  # nothing shared: padded to the longest


def test_common_start_finds_the_persona(job):
    import pyarrow as pa

    assert read_rows(job.rows).shared_prefix == 40
    lists = pa.array([[1, 2, 3, 4], [1, 2, 3], [1, 2, 5, 6]])
    assert common_start(pa.chunked_array([lists])) == 2
    assert common_start(pa.chunked_array([lists[:2], lists[2:]])) == 2
    assert common_start(pa.chunked_array([lists[1:2]])) == 3


def test_whole_batch_goes_through_at_once_where_memory_allows(job):
    said = []
    train(replace(job, note=said.append))
    chosen = Plan(**json.loads((job.out / "micro_batch.json").read_text()))
    assert chosen.micro_batch == 8 and chosen.tokens < 8 * 70 and 0 < chosen.bytes < chosen.available
    assert any(line.startswith("micro-batch 8: up to ") and "GB available" in line for line in said)


def test_little_memory_gives_smaller_micro_batches_and_the_same_losses(job, monkeypatch, tmp_path):
    from agentft.engine import memory

    train(job)
    shape = memory.shape_at(job.model.path)
    rows, cpu = read_rows(job.rows), memory.Profile()
    wanted = tokens_of(rows.lengths, rows.shared_prefix, 2)
    share = rows.supervised / (rows.tokens - rows.shared_prefix * len(rows.ids))
    need = memory.training(shape, job.config.strategy, cpu, wanted, round(wanted * share), accumulates=True).total
    monkeypatch.setattr(memory, "available", lambda _: int(need / 0.8) + 1)
    small = replace(job, out=tmp_path / "small")
    train(small)
    assert json.loads((small.out / "micro_batch.json").read_text())["micro_batch"] == 2
    assert losses(small) == pytest.approx(losses(job), rel=1e-5)


def test_recipe_wins_over_memory(job, cpu):
    train(replace(job, config=job.config.model_copy(update={"micro_batch": 4})))
    assert json.loads((job.out / "micro_batch.json").read_text())["micro_batch"] == 4


def test_device_mapping_wins_over_memory(job, cpu):
    train(replace(job, device={**cpu.to_dict(), "micro_batch": 2}))
    assert json.loads((job.out / "micro_batch.json").read_text())["micro_batch"] == 2


def exhausted_above(rows: int, monkeypatch, from_call: int = 0):
    """A model that runs out of memory with more than ``rows`` rows, from the n-th pass on; returns the sizes that were tried."""
    import torch

    from agentft.train import loop

    real, seen = loop.token_losses, []

    def limited(model, input_ids, *args, **kwargs):
        seen.append(len(input_ids))
        if len(input_ids) > rows and len(seen) > from_call:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(model, input_ids, *args, **kwargs)

    monkeypatch.setattr(loop, "token_losses", limited)
    return seen


@pytest.mark.parametrize("after", [0, 4])
def test_lack_of_memory_is_answered_once_with_half_the_rows_and_the_same_result(job, monkeypatch, tmp_path, after):
    whole = train(replace(job, out=tmp_path / "whole"))
    seen = exhausted_above(4, monkeypatch, after)
    said = []
    result = train(replace(job, note=said.append))
    assert seen[: after + 1].count(8) >= 1 and max(seen[after + 1 :]) == 4
    # Nothing was learned twice: the log has each step once, and what comes out is what comes out with room enough.
    assert losses(job) == pytest.approx(losses(replace(job, out=tmp_path / "whole")), rel=1e-5)
    a, b = weights(result.adapter), weights(whole.adapter)
    assert all((a[k] - b[k]).abs().max() < 2e-5 for k in a)
    assert (
        len(result.warnings) == 1
        and "memory ran out with micro_batch 8" in result.warnings[0]
        and "set micro_batch: 4" in result.warnings[0]
    )
    assert whole.warnings == () and any("CUDA out of memory" in line or "out of memory on cpu" in line for line in said)
    assert train(job).warnings == result.warnings  # a finished job remembers


@pytest.mark.slow
def test_continued_run_keeps_the_smaller_passes(job, monkeypatch):
    seen = exhausted_above(4, monkeypatch)
    real = json.loads
    train(job)
    (job.out / "result.json").unlink()
    seen.clear()
    train(job)
    assert max(seen) == 4 and real((job.out / "micro_batch.json").read_text())["micro_batch"] == 4


def test_second_lack_of_memory_is_an_error_that_says_what_to_change(job, monkeypatch):
    exhausted_above(0, monkeypatch)
    with pytest.raises(TrainingError, match="out of memory on cpu at step 1 with micro_batch 4.*Try micro_batch: 2, then gradient_checkp"):
        train(job)


def test_kto_is_never_made_smaller_in_silence(tiny_ref, cpu, tmp_path, monkeypatch):
    import torch

    from agentft.train import kto, kto_loop

    with (tmp_path / "pairs.jsonl").open("w") as file:
        for n in range(8):
            row = {"id": f"p{n}", "prompt_ids": [3, 4, 5 + n], "chosen_ids": [9, 2], "rejected_ids": [11, 2]}
            file.write(json.dumps(row) + "\n")
    config = kto.KTOConfig(strategy=LORA, micro_batch=4)
    job = TrainJob(tiny_ref, tmp_path / "pairs.jsonl", tmp_path / "out", config, 3, 2, device=cpu.to_dict())
    passes = []

    def full(*args, **kwargs):
        passes.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(kto_loop.AnswerTrainer, "compute_loss", full)
    with pytest.raises(TrainingError, match="gradient_checkpointing: true, which keeps the result.*compared with one another"):
        kto.train(job)
    assert len(passes) == 1
