"""Schedules, optimisers, layer-wise rates, dropout and label smoothing, each against numbers worked out by hand."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tiny import tiny_model, write_rows

from agentft.contracts import TrainJob
from agentft.errors import TrainingError
from agentft.train.optimisers import check_name, known_names, layer_groups
from agentft.train.schedules import share_at
from agentft.train.sft import SFTConfig, train

slow = pytest.mark.slow


@pytest.fixture
def job(tiny_ref, cpu, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", 20)
    return TrainJob(tiny_ref, rows, tmp_path / "out", SFTConfig(), 3, 2, device=cpu.to_dict())


def run(job, out: str, **options):
    options = {"strategy": "full", "epochs": 1, "learning_rate": 1e-2, "batch_size": 4, "log_every": 1} | options
    return train(replace(job, out=job.out / out, config=SFTConfig(**options)))


def weights(folder):
    from safetensors.torch import load_file

    return load_file(next(iter(Path(folder).glob("*.safetensors"))))


def rates(job, out: str) -> list[float]:
    lines = [json.loads(line) for line in (job.out / out / "metrics.jsonl").read_text().splitlines()]
    return [line["learning_rate"] for line in lines if "learning_rate" in line]


# Ten steps, of which two are warm-up; the peak is 1.
BY_HAND = {
    ("linear", 0.0): [0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0],
    ("linear", 0.2): [0, 0.5, 1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2],
    ("cosine", 0.0): [0, 0.5, 1, 0.96194, 0.853553, 0.691342, 0.5, 0.308658, 0.146447, 0.03806, 0],
    ("cosine", 0.5): [0, 0.5, 1, 0.98097, 0.926777, 0.845671, 0.75, 0.654329, 0.573223, 0.51903, 0.5],
    ("exponential", 0.01): [0, 0.5, 1, 0.562341, 0.316228, 0.177828, 0.1, 0.0562341, 0.0316228, 0.0177828, 0.01],
    ("constant", 1.0): [0, 0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    ("wsd", 0.0): [0, 0.5, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0],  # cooldown 0.4: the last four steps
    ("wsd", 0.1): [0, 0.5, 1, 1, 1, 1, 1, 0.775, 0.55, 0.325, 0.1],
}


@pytest.mark.parametrize(("scheduler", "final"), list(BY_HAND))
def test_schedules_by_hand(scheduler, final):
    found = [share_at(step, scheduler=scheduler, warmup=2, total=10, final=final, cooldown=0.4) for step in range(11)]
    assert found == pytest.approx(BY_HAND[scheduler, final], abs=1e-5)


@pytest.mark.parametrize("scheduler", ["linear", "cosine", "constant"])
def test_old_schedules_are_those_of_transformers(scheduler):
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    name = "constant_with_warmup" if scheduler == "constant" else scheduler
    theirs = get_scheduler(name, optimizer, num_warmup_steps=3, num_training_steps=17)
    for step in range(17):
        assert theirs.get_last_lr()[0] == pytest.approx(share_at(step, scheduler=scheduler, warmup=3, total=17, final=0.0), abs=1e-12)
        optimizer.step()
        theirs.step()


@given(
    st.sampled_from(["linear", "cosine", "exponential", "constant", "wsd"]),
    st.integers(1, 300),
    st.integers(0, 300),
    st.floats(1e-4, 0.99),
    st.floats(0.01, 1),
)
def test_a_rate_rises_to_its_peak_and_never_again(scheduler, total, warmup, final, cooldown):
    found = [share_at(s, scheduler=scheduler, warmup=warmup, total=total, final=final, cooldown=cooldown) for s in range(total + 1)]
    up, down = found[:warmup], found[warmup:]
    assert up == sorted(up) and all(0 <= value < 1 for value in up)
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(down)) and all(final - 1e-9 <= value <= 1 for value in down)
    if len(down) > 1:
        assert down[0] == pytest.approx(1) and down[-1] == pytest.approx(1 if scheduler == "constant" else final)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({"scheduler": "exponential", "warmup": 1}, [0, 1, 0.316228, 0.1, 0.0316228], marks=slow),
        ({"scheduler": "wsd", "cooldown": 0.4, "warmup": 0.2}, [0, 1, 1, 1, 0.5]),
        pytest.param({"scheduler": "linear", "final_rate": 0.5, "warmup": 0}, [1, 0.9, 0.8, 0.7, 0.6], marks=slow),
        pytest.param({"warmup": 3}, [0, 1 / 3, 2 / 3, 1, 0.5], marks=slow),
    ],
)
def test_the_rate_of_a_run_is_that_of_the_recipe(job, options, expected):
    result = run(job, "a", **options)
    assert result.metrics["steps"] == 5
    assert rates(job, "a") == pytest.approx([1e-2 * value for value in expected], rel=1e-4)


def test_label_smoothing_by_hand():
    """One token of three, with probabilities 1/2, 1/4, 1/4: 0.9 ln 2 + 0.1 (ln 2 + 2 ln 4) / 3."""
    import torch
    import torch.nn.functional as F
    from transformers.trainer_pt_utils import LabelSmoother

    logits = torch.tensor([[[0.5, 0.25, 0.25]]]).log()
    labels = torch.tensor([[0]])
    expected = 0.9 * math.log(2) + 0.1 * (math.log(2) + 2 * math.log(4)) / 3
    assert float(F.cross_entropy(logits[0], labels[0], label_smoothing=0.1)) == pytest.approx(expected)
    assert float(LabelSmoother(0.1)({"logits": logits}, labels)) == pytest.approx(expected)


@pytest.mark.parametrize("share", [True, False])
def test_smoothed_loss_is_that_of_transformers(tiny_ref, cpu, tmp_path, share):
    from transformers.trainer_pt_utils import LabelSmoother

    from agentft.engine.models import load_model
    from agentft.engine.score import token_losses
    from agentft.train.loop import Collator
    from agentft.train.rows import read_rows

    model = load_model(tiny_ref, cpu)
    rows = read_rows(write_rows(tmp_path / "rows.jsonl", 5))
    batch = Collator(2)([rows.dataset[i] for i in range(5)])
    losses, _ = token_losses(model, batch["input_ids"], batch["attention_mask"], batch["labels"], share_prefix=share, smoothing=0.2)
    output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    theirs = LabelSmoother(0.2)({"logits": output.logits}, batch["labels"], shift_labels=True)
    assert float(losses.detach().mean()) == pytest.approx(float(theirs.detach()), rel=1e-5)


@pytest.mark.slow
def test_smoothing_trains_otherwise_and_is_not_in_the_validation_loss(job, tmp_path):
    validation = write_rows(tmp_path / "val.jsonl", 4)
    still = {"learning_rate": 1e-12, "extra": {"max_steps": 1}}
    plain, smoothed = (run(replace(job, validation=validation), name, label_smoothing=e, **still) for name, e in (("a", 0.0), ("b", 0.3)))
    assert smoothed.metrics["first_loss"] != pytest.approx(plain.metrics["first_loss"], rel=1e-3)
    assert smoothed.metrics["eval_loss"] == pytest.approx(plain.metrics["eval_loss"], rel=1e-5)


def test_accumulation_with_smoothing_does_not_change_the_result(job):
    results = [weights(run(job, str(n), micro_batch=n, label_smoothing=0.1, optimizer="sgd", batch_size=8).model) for n in (8, 1)]
    import torch

    assert all(torch.allclose(results[0][key], results[1][key], rtol=0, atol=1e-6) for key in results[0])


def test_weight_decay_leaves_biases_and_norms_alone(job, tmp_path):
    """With SGD, ``w <- w - rate (g + decay w)``: what decay changes after one step is ``rate * decay * w``, or nothing."""
    ref = tiny_model(tmp_path / "biased", attention_bias=True)
    one = {"optimizer": "sgd", "warmup": 0, "extra": {"max_steps": 1}, "learning_rate": 0.1}
    before = weights(ref.path)
    plain, decayed = (weights(run(replace(job, model=ref), str(d), weight_decay=d, **one).model) for d in (0.0, 0.5))
    import torch

    for name, weight in before.items():
        exempt = "norm" in name or name.endswith("bias")
        expected = torch.zeros_like(weight) if exempt else 0.1 * 0.5 * weight
        assert torch.allclose(plain[name] - decayed[name], expected, atol=1e-6), name
    assert any(name.endswith("bias") for name in before)


def test_layer_decay_by_hand(job, tmp_path):
    """SGD without decay moves by ``rate * gradient``: with layer decay 0.5 each depth moves by half of the one above it."""
    import torch

    one = {"optimizer": "sgd", "warmup": 0, "extra": {"max_steps": 1}, "learning_rate": 0.1, "max_grad_norm": 1e9}
    before = weights(job.model.path)
    plain, slowed = (weights(run(job, str(d), layer_decay=d, **one).model) for d in (None, 0.5))
    shares = {"lm_head": 1.0, "model.norm": 1.0, "model.layers.1": 0.5, "model.layers.0": 0.25, "model.embed_tokens": 0.125}
    for name, weight in before.items():
        share = next(value for key, value in shares.items() if name.startswith(key))
        assert torch.allclose(slowed[name] - weight, share * (plain[name] - weight), rtol=1e-3, atol=1e-6), name
    assert rates(job, "0.5") == pytest.approx([0.1])  # what is logged is the head's rate


def test_layer_groups_cover_what_moves_once(tiny_ref, cpu):
    from agentft.engine.models import load_model

    model = load_model(tiny_ref, cpu, trainable=True)
    model.model.embed_tokens.weight.requires_grad_(False)
    names = dict(model.named_parameters())
    groups = layer_groups(model, {name for name in names if "norm" not in name}, 1.0, 0.3, 0.9)
    assert [group["lr"] for group in groups] == pytest.approx([1, 1, 0.9, 0.9, 0.81, 0.81])
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0] * 3
    found = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(found) == sorted(id(parameter) for parameter in names.values() if parameter.requires_grad)


@slow
def test_layers_of_an_encoder_decoder_are_counted_on_both_sides(tmp_path):
    from tiny import tiny_seq2seq
    from transformers import AutoModelForSeq2SeqLM

    model = AutoModelForSeq2SeqLM.from_pretrained(tiny_seq2seq(tmp_path, "t5").path)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {names[id(one)]: group["lr"] for group in layer_groups(model, set(), 1.0, 0.0, 0.5) for one in group["params"]}
    expected = {"shared.": 0.125, "coder.block.0.": 0.25, "coder.block.1.": 0.5, "coder.final_layer_norm.": 1.0}
    assert rates == {name: next(rate for part, rate in expected.items() if part in name) for name in names.values()}


def test_layer_decay_continues_where_it_was_killed(job):
    class Killed(Exception):
        pass

    def kill(step, *_):
        if step == 4:
            raise Killed

    config = SFTConfig(epochs=1, batch_size=4, learning_rate=1e-2, layer_decay=0.8, scheduler="wsd", save_every=1, strategy="full")
    whole, broken = (replace(job, config=config, out=job.out / name) for name in ("whole", "broken"))
    with pytest.raises(Killed):
        train(replace(broken, progress=kill))
    one, two = weights(train(whole).model), weights(train(broken).model)
    assert all((one[key] == two[key]).all() for key in one)


@pytest.mark.parametrize("optimizer", ["adafactor", *(pytest.param(name, marks=slow) for name in ("adamw", "sgd", "adagrad", "rmsprop"))])
def test_optimisers_train(job, optimizer):
    before = weights(job.model.path)
    after = weights(run(job, optimizer, optimizer=optimizer, warmup=0, extra={"max_steps": 1}).model)
    assert all((before[name] != after[name]).any() for name in before)


def test_betas_and_eps_reach_adam(job):
    """The first step of Adam is ``rate * g / (|g| + eps)``: a huge eps leaves next to nothing of it."""
    before = weights(job.model.path)
    one = {"warmup": 0, "extra": {"max_steps": 1}}
    usual, still = (weights(run(job, name, eps=eps, **one).model) for name, eps in (("a", None), ("b", 1e6)))
    name = "lm_head.weight"
    assert (usual[name] - before[name]).abs().max() == pytest.approx(1e-2, rel=0.01)
    assert (still[name] - before[name]).abs().max() < 1e-6


@slow
def test_betas_change_the_second_step(job):
    two = {"warmup": 0, "extra": {"max_steps": 3}}
    one, other = (weights(run(job, name, betas=betas, **two).model) for name, betas in (("c", None), ("d", [0.5, 0.9])))
    assert (one["lm_head.weight"] != other["lm_head.weight"]).any()


@pytest.mark.slow
def test_dropout_is_drawn_in_training_only_and_by_seed(job, tmp_path):
    validation = write_rows(tmp_path / "val.jsonl", 4)
    still = {"learning_rate": 1e-12, "extra": {"max_steps": 1}}
    plain, dropped, again = (
        run(replace(job, validation=validation), name, dropout=rate, **still) for name, rate in (("a", None), ("b", 0.5), ("c", 0.5))
    )
    assert dropped.metrics["first_loss"] == again.metrics["first_loss"] != plain.metrics["first_loss"]
    assert dropped.metrics["eval_loss"] == pytest.approx(plain.metrics["eval_loss"], rel=1e-5)
    assert json.loads((dropped.model / "config.json").read_text())["attention_dropout"] == 0.5


def test_dropout_reaches_every_place_of_a_family():
    import transformers as t
    from torch import nn

    from agentft.train.regularise import set_dropout

    gpt2 = t.GPT2LMHeadModel(t.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50))
    assert set(set_dropout(gpt2, 0.3)) >= {"attn_pdrop", "resid_pdrop", "embd_pdrop"}
    bert = t.BertForSequenceClassification(
        t.BertConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=50)
    )
    assert set(set_dropout(bert, 0.3)) >= {"hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"}
    for model in (gpt2, bert):
        places = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
        assert places and set(places) == {0.3}
    with pytest.raises(TrainingError, match="has no dropout that could be set"):
        set_dropout(t.MambaForCausalLM(t.MambaConfig(hidden_size=8, num_hidden_layers=1, vocab_size=50)), 0.1)


def test_no_prefix_is_shared_under_dropout(job, monkeypatch):
    from agentft.engine import score

    monkeypatch.setattr(score, "grow", lambda *_: pytest.fail("shared"))
    run(job, "a", dropout=0.1, extra={"max_steps": 1})
    with pytest.raises(pytest.fail.Exception, match="shared"):
        run(job, "b", extra={"max_steps": 1})


def test_names_are_those_of_transformers():
    from transformers.training_args import OptimizerNames

    assert known_names() == {item.value for item in OptimizerNames} | {"adamw", "lion"}
    for name in ("adamw", "sgd", "adafactor"):
        check_name(name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adamv"}, "unknown optimizer 'adamv' .did you mean 'adamw'"),
        ({"optimizer": "grokadamw"}, "pip install grokadamw"),
        ({"optimizer": "sgd", "extra": {"optim": "sgd"}}, "say the same; keep optimizer"),
        ({"optimizer": "sgd", "betas": [0.9, 0.99]}, "optimizer 'sgd' does not take them"),
        ({"betas": [0.9]}, "'betas' are two numbers"),
        ({"betas": [0.9, 1.0]}, "'betas' are two numbers"),
        ({"scheduler": "constant", "final_rate": 0.1}, "does not fall"),
        ({"scheduler": "exponential", "final_rate": 0.0}, "never arrives at 0"),
        ({"cooldown": 0.1}, "belongs to scheduler: wsd"),
        ({"final_rate": 1.0}, "less than 1"),
        ({"layer_decay": 0.0}, "greater than 0"),
        ({"dropout": 1.0}, "less than 1"),
        ({"label_smoothing": 1.0}, "less than 1"),
        ({"warmup": -1}, "greater than or equal to 0"),
        ({"extra": {"lr_scheduler_kwargs": {}}}, "use final_rate and cooldown"),
        ({"extra": {"label_smoothing_factor": 0.1}}, "use label_smoothing"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(ValidationError, match=message):
        SFTConfig(**options)


RECIPE = """name: x
model: smollm2-135m
persona: neutral
data: {{sources: [{{use: jsonl, path: rows.jsonl}}]}}
train:
  - use: sft
{options}
"""


@pytest.mark.parametrize(
    ("options", "line", "message"),
    [
        ("    strategy: {freeze: {layer: 3}}", 7, "unknown key 'layer'"),
        ("    strategy:\n      prompt-tuning:\n        tokens: 0", 9, "'tokens' must be a whole number of at least 1, not 0"),
        ("    strategy:\n      prefix-tuning: {tokns: 3}", 8, "unknown key 'tokns'"),
        ("    epochs: 1\n    warmup: -0.5", 8, "'warmup' must be"),
        ("    epochs: 1\n    optimizer: adamq", 6, "unknown optimizer 'adamq'"),
        ("    scheduler: cosinus", 7, "'scheduler' must be one of linear, cosine, exponential, constant, wsd"),
    ],
)
def test_check_says_where(options, line, message):
    from agentft.check import check_recipe
    from agentft.host import Host
    from agentft.recipe import Recipe

    problems = [str(one) for one in check_recipe(Recipe.parse(RECIPE.format(options=options), "r.yaml"), Host(allow=()).catalog)]
    assert any(one.startswith(f"r.yaml:{line}:") and message in one for one in problems), problems
