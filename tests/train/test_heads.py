"""Heads on a tiny encoder and a tiny chat model: what moves, what is learned, and that interruptions and micro-batches change nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from head_jobs import KINDS, job_for, weights
from tiny import tiny_encoder

from agentft.engine.heads import HeadModel, head_modules, is_causal, load_head
from agentft.labelled import Labelled
from agentft.render.heads import HeadEncoder
from agentft.train.heads import train


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


SLOW = pytest.mark.slow
FAMILIES = [
    pytest.param(family, kind, marks=SLOW if family == "chat model" and kind != "classify" else [])
    for family in ("encoder", "chat model")
    for kind in KINDS
]


@pytest.mark.parametrize(("family", "kind"), FAMILIES)
def test_full_training_moves_every_weight_and_predicts_every_row(kind, family, encoder, tiny_ref, cpu, tmp_path):
    import torch

    ref = encoder if family == "encoder" else tiny_ref
    job = job_for(kind, ref, tmp_path)
    result = train(job)
    assert result.model is not None and result.trainable == result.total
    torch.manual_seed(0)
    before = {
        name: value
        for name, value in load_head(ref.path, HeadModel.load(ref, result.model, cpu).task, cpu, "float32", 0).named_parameters()
    }
    after = weights(result.model)
    body = [name for name in after if name in before and not any(name.startswith(head) for head in ("classifier", "score", "qa_outputs"))]
    # An embedding row that no text uses does not move, nor does the second type of a task without pairs.
    still = [name for name in body if torch.equal(after[name], before[name].detach()) and "pooler" not in name]
    assert len(body) > 10 and still == []
    model = HeadModel.load(ref, result.model, cpu)
    found = model.predict(KINDS[kind][1])
    assert [one.id for one in found] == [row.id for row in KINDS[kind][1]] and not any(one.error for one in found)
    assert result.metrics["final_loss"] < result.metrics["first_loss"] and result.metrics["eval_loss"] > 0


def test_lora_moves_adapter_and_head_only(encoder, cpu, tmp_path):
    result = train(job_for("classify", encoder, tmp_path, strategy={"lora": {"r": 4}}))
    assert result.adapter is not None and result.trainable < result.total
    kept = weights(result.adapter)
    assert {name.split(".")[-2] for name in kept} >= {"lora_A", "lora_B"} and any("classifier" in name for name in kept)
    assert not any("embeddings.word" in name for name in kept)
    assert all(bool(value.abs().sum()) for name, value in kept.items() if "lora_B" in name)  # they start at 0
    found = HeadModel.load(encoder, result.adapter, cpu).predict(KINDS["classify"][1])
    assert abs(sum(found[0].scores.values()) - 1) < 1e-6


STRATEGIES = [
    {"lora": {"r": 2, "dora": True, "rank_pattern": {"value": 4}}},
    {"freeze": "head-only"},
    {"freeze": {"layers": 1}},
    {"prompt-tuning": {"tokens": 4}},
]


@pytest.mark.parametrize("kind", ["classify", *(pytest.param(kind, marks=SLOW) for kind in ("tag", "span"))])
@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda one: next(iter(one)) + str(len(str(one))))
def test_every_strategy_moves_what_it_names_and_the_head(kind, strategy, encoder, cpu, tmp_path):
    import torch

    result = train(job_for(kind, encoder, tmp_path, strategy=strategy, epochs=1))
    assert 0 < result.trainable < result.total
    found = HeadModel.load(encoder, result.adapter or result.model, cpu)
    if result.model:
        torch.manual_seed(3)
        before = dict(load_head(encoder.path, found.task, cpu, "float32", 0).named_parameters())
        body = {n: torch.equal(value, before[n].detach()) for n, value in weights(result.model).items() if "encoder.layer" in n}
        assert {n for n, same in body.items() if not same} == {
            n for n in body if "layer.1." in n and "only" not in str(strategy) and strategy != {"freeze": "head-only"}
        }
    assert not any(one.error for one in found.predict(KINDS[kind][1]))


@pytest.mark.parametrize("kind", ["classify", *(pytest.param(kind, marks=SLOW) for kind in ("regress", "several", "tag", "span"))])
@pytest.mark.parametrize("strategy", ["prompt-tuning", "prefix-tuning"])
def test_a_head_on_a_chat_model_learns_with_virtual_tokens(kind, strategy, tiny_ref, cpu, tmp_path):
    import torch
    from safetensors.torch import load_file

    result = train(job_for(kind, tiny_ref, tmp_path, strategy={strategy: {"tokens": 3}}, epochs=4, learning_rate=0.05))
    kept = load_file(result.adapter / "adapter_model.safetensors")
    assert sum(tensor.numel() for tensor in kept.values()) == result.trainable < result.total, "virtual tokens and head, nothing else"
    assert result.metrics["final_loss"] < result.metrics["first_loss"]
    found = HeadModel.load(tiny_ref, result.adapter, cpu)
    rows = KINDS[kind][1]
    together = found.predict(rows)
    assert not any(one.error for one in together)
    same = (lambda label: pytest.approx(label, rel=1e-4)) if kind == "regress" else (lambda label: label)
    for one in together[:3]:
        assert one.label == same(found.predict([one.row])[0].label), "padding and other rows change nothing"
    if (kind, strategy) != ("classify", "prompt-tuning"):
        return
    # By hand, without PEFT: the learned vectors in front, and the head at the last token.
    plain = load_head(tiny_ref.path, found.task, cpu, "float32", 2)
    (prompt,), (head,) = ([value for name, value in kept.items() if part in name] for part in ("prompt", "score"))
    ids = torch.tensor([HeadEncoder(found.tokenizer, found.task).windows(rows[0])[0].input_ids])
    embedded = torch.cat((prompt[None], plain.get_input_embeddings()(ids)), dim=1)
    with torch.inference_mode():
        logits = plain.model(inputs_embeds=embedded).last_hidden_state[0, -1] @ head.T
    shares = logits.softmax(-1).tolist()
    assert together[0].scores == pytest.approx(dict(zip(found.task.labels, shares, strict=True)), abs=1e-5)


@pytest.mark.parametrize("kind", ["classify", pytest.param("tag", marks=SLOW), pytest.param("span", marks=SLOW)])
@pytest.mark.parametrize("strategy", ["full", "lora", "prompt-tuning", "prefix-tuning"])
def test_a_head_on_a_chat_model_learns_in_bfloat16(kind, strategy, tiny_ref, cpu, tmp_path):
    """The head is kept in float32 and a frozen body in bfloat16; what computes in which must not meet without a cast."""
    job = job_for(kind, tiny_ref, tmp_path, strategy=strategy, epochs=4, learning_rate=0.02)
    result = train(replace(job, device={**job.device, "train_dtype": "bf16"}))
    assert result.metrics["final_loss"] < result.metrics["first_loss"]
    half = replace(cpu, train_dtype="bfloat16", decode_dtype="bfloat16")
    found = HeadModel.load(tiny_ref, result.adapter or result.model, half).predict(KINDS[kind][1])
    assert len(found) == 16 and not any(one.error for one in found)


@SLOW
def test_it_learns_what_can_be_learned(encoder, cpu, tmp_path):
    for kind, right in (("classify", 16), ("tag", 16), ("span", 14)):
        result = train(job_for(kind, encoder, tmp_path / kind, epochs=12))
        found = HeadModel.load(encoder, result.model, cpu).predict(KINDS[kind][1])
        assert sum(one.label == one.row.label for one in found) >= right, kind


def test_micro_batches_change_nothing_with_class_weights_and_tags(encoder, tmp_path):
    import torch

    skewed = [*KINDS["tag"][1][:15], Labelled("long", {"tokens": ["ann"] * 9}, ["B-PER"] + ["I-PER"] * 8)]
    found = []
    for size in (8, 1):
        options = {"micro_batch": size, "class_weights": "balanced", "epochs": 1}
        found.append(weights(train(job_for("tag", encoder, tmp_path / str(size), skewed, **options)).model))
    # The gradient of a key's bias is 0 but for rounding, which Adam blows up.
    assert max(float((found[0][name] - found[1][name]).abs().max()) for name in found[0] if "key.bias" not in name) < 1e-4
    assert not torch.equal(found[0]["classifier.weight"], torch.zeros_like(found[0]["classifier.weight"]))


def test_an_interrupted_job_ends_with_the_same_weights(encoder, tmp_path):
    import torch

    options = {"save_every": 1, "epochs": 3}
    whole = weights(train(job_for("classify", encoder, tmp_path / "whole", **options)).model)
    job = job_for("classify", encoder, tmp_path / "cut", **options)

    def stop(step, total, numbers):
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(replace(job, progress=stop))
    assert list((job.out / "checkpoints").glob("checkpoint-*"))
    again = weights(train(job).model)
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_loss_from_outside_is_used(encoder, tmp_path):
    seen = []

    def loss(logits, targets, ctx):
        seen.append((ctx.labels, ctx.counts))
        return (logits**2).mean(-1)

    train(replace(job_for("classify", encoder, tmp_path), loss=loss))
    assert set(seen) == {(("cold", "warm"), (8, 8))}


def test_head_modules_are_what_is_not_the_body(encoder, tiny_ref, cpu):
    from agentft.render.task import Task

    task = Task("classify", ("a", "b"))
    assert head_modules(load_head(encoder.path, task, cpu, "float32", 0)) == ["classifier"]
    assert head_modules(load_head(tiny_ref.path, task, cpu, "float32", 2)) == ["score"]
    assert is_causal(tiny_ref.path) and not is_causal(encoder.path)


@pytest.mark.parametrize(
    ("strategy", "rate"),
    [("full", 5e-5), ("lora", 1e-3), ({"freeze": "head-only"}, 1e-3), ("prompt-tuning", 5e-3), ("prefix-tuning", 5e-3)],
)
def test_the_default_rate_suits_what_moves(strategy, rate):
    from agentft.train.heads import ClassifyConfig

    assert ClassifyConfig.model_validate({"strategy": strategy}).rate == rate
