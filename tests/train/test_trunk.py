"""Frozen layers computed once: the same losses and weights as without, for an encoder and a chat model; and refused where it is wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from head_jobs import DEVICE, job_for, weights
from tiny import tiny_encoder, tiny_model, write_rows

from agentft.contracts import TrainJob
from agentft.errors import TrainingError
from agentft.train import heads, sft, trunk


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    # Dropout everywhere: in frozen layers it is off, above them it is drawn alike.
    return tiny_encoder(tmp_path_factory.mktemp("e"), num_hidden_layers=3, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("c"), num_hidden_layers=3)


def losses(folder) -> list[tuple]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [(line["step"], line.get("loss", -1.0), line.get("eval_loss", -1.0)) for line in lines]


def chat_job(ref, folder, **options) -> TrainJob:
    config = sft.SFTConfig.model_validate({"epochs": 3, "batch_size": 4, "learning_rate": 1e-3} | options)
    folder.mkdir(parents=True)
    rows, held = write_rows(folder / "rows.jsonl"), write_rows(folder / "held.jsonl", count=5, seed=9)
    return TrainJob(ref, rows, folder / "out", config, 3, 2, validation=held, device=DEVICE)


def both(make, train):
    """The same job with the cache on and off: results and folders."""
    jobs = [make(cache) for cache in ("on", "off")]
    return [(train(job), job.out) for job in jobs]


def check(found) -> None:
    (cached, first), (plain, second) = found
    assert any("computed once" in note for note in cached.notes) and not any("computed once" in note for note in plain.notes)
    one, other = losses(first), losses(second)
    assert len(one) == len(other) > 5
    for left, right in zip(one, other, strict=True):
        assert left == pytest.approx(right, rel=2e-5, abs=1e-7)
    with_cache, without = weights(cached.model), weights(plain.model)
    assert with_cache.keys() == without.keys()
    # Adam turns the rounding of a gradient that is 0 into a step: biases, to many of which a softmax is blind, are left out.
    apart = {name: float((with_cache[name] - without[name]).abs().mean()) for name in without if not name.endswith("bias")}
    assert max(apart.values()) < 2e-5, max(apart, key=apart.get)
    assert cached.trainable == plain.trainable < cached.total
    assert not (first / trunk.FOLDER).exists()


@pytest.mark.parametrize("kind", ["classify", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("tag", "span"))])
@pytest.mark.parametrize("freeze", [{"layers": 2}, {"only": "head"}], ids=["layers", "head-only"])
def test_an_encoder_learns_the_same(kind, freeze, encoder, tmp_path):
    options = {"epochs": 3, "learning_rate": 1e-3}
    check(
        both(lambda cache: job_for(kind, encoder, tmp_path / cache, strategy={"freeze": freeze | {"cache": cache}}, **options), heads.train)
    )


@pytest.mark.parametrize("layers", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_chat_model_learns_the_same(layers, chat, tmp_path):
    check(both(lambda cache: chat_job(chat, tmp_path / cache, strategy={"freeze": {"layers": layers, "cache": cache}}), sft.train))


def test_a_chat_model_with_a_head_learns_the_same(chat, tmp_path):
    freeze = {"layers": 2}
    check(
        both(
            lambda cache: job_for("classify", chat, tmp_path / cache, strategy={"freeze": freeze | {"cache": cache}}, epochs=3), heads.train
        )
    )


def test_a_killed_job_goes_on_and_ends_with_the_same_weights(encoder, tmp_path):
    import torch

    options = {"strategy": {"freeze": {"layers": 2}}, "save_every": 1, "epochs": 3}
    whole = weights(heads.train(job_for("classify", encoder, tmp_path / "whole", **options)).model)
    job = job_for("classify", encoder, tmp_path / "cut", **options)

    def stop(step, total, numbers):
        if numbers and step == 4:  # numbers: a step of training, not of filling
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        heads.train(replace(job, progress=stop))
    assert (job.out / trunk.FOLDER / "trunk.json").is_file()
    again = weights(heads.train(job).model)
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_its_size_is_told_before_it_is_filled(encoder, tmp_path):
    told = []
    job = job_for("classify", encoder, tmp_path, strategy={"freeze": {"layers": 2}})
    heads.train(replace(job, note=told.append))
    assert len(told) == 1 and "2 layers" in told[0] and "MB on disk" in told[0]


def test_it_is_refused_where_it_gains_nothing_or_has_no_room(encoder, tmp_path, monkeypatch):
    def job(name, **options):
        return job_for("classify", encoder, tmp_path / name, **options)

    moving = job("moving", strategy={"freeze": {"layers": 2, "embeddings": False, "cache": "on"}})
    with pytest.raises(TrainingError, match="no layer at the bottom of the model is frozen together with the embeddings"):
        heads.train(moving)
    once = heads.train(job("once", strategy={"freeze": {"layers": 2}}, epochs=1))
    assert any("with one epoch every state is used once" in note for note in once.notes)
    monkeypatch.setattr(trunk.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    full = heads.train(job("full", strategy={"freeze": {"layers": 2}}))
    assert any("free on the disk" in note for note in full.notes)
    with pytest.raises(TrainingError, match="free on the disk; write `cache: auto`"):
        heads.train(job("asked", strategy={"freeze": {"layers": 2, "cache": "on"}}))
