"""Scoring equals what transformers says about one row at a time; adapters change the answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny import SYSTEM

from agentft.engine.agent import LoadedAgent
from agentft.errors import DataError
from agentft.records import Example, Message

TALKS = [
    Example("a", (Message("user", "hi"), Message("assistant", "hello"))),
    Example("b", (Message("user", "one"), Message("assistant", "two"), Message("user", "three"), Message("assistant", "four, 五"))),
    Example(
        "c", (Message("user", "quiet"), Message("assistant", "unheard", train=False), Message("user", "loud"), Message("assistant", "yes"))
    ),
    Example("none", (Message("user", "only"), Message("assistant", "silent", train=False))),
]


@pytest.fixture(scope="module")
def agent(tiny_ref, cpu):
    return LoadedAgent.load(tiny_ref, system=SYSTEM, profile=cpu)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("size", [1, 2, 16])
def test_logprobs_equal_the_models_own_loss(agent, share, size):
    import torch

    scored = replace(agent, profile=replace(agent.profile, share_prefix=share, score_batch=size)).logprobs(TALKS)
    for example, (total, count) in zip(TALKS[:3], scored, strict=False):
        (row,) = agent.renderer.training(example)
        with torch.inference_mode():
            loss = agent.model(input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([row.labels])).loss
        assert count == row.supervised
        assert total == pytest.approx(-float(loss) * count, rel=1e-5)
    assert scored[3] == (0.0, 0)


def test_logprobs_of_nothing(agent):
    assert agent.logprobs([]) == []


def test_example_longer_than_the_context_is_an_error(agent):
    with pytest.raises(DataError, match="exceed the model's context of 512"):
        agent.logprobs([Example("long", (Message("user", "x" * 600), Message("assistant", "y")))])


def test_adapter_is_applied(tiny_ref, cpu, tmp_path):
    import torch
    from peft import LoraConfig, get_peft_model

    from agentft.engine.models import load_model

    tuned = get_peft_model(load_model(tiny_ref, cpu, trainable=True), LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    tuned.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    base = LoadedAgent.load(tiny_ref, system=SYSTEM, profile=cpu).logprobs(TALKS)
    with_adapter = LoadedAgent.load(tiny_ref, tmp_path / "adapter", SYSTEM, cpu)
    assert not hasattr(with_adapter.model, "peft_config") or not with_adapter.model.peft_config  # merged
    merged = with_adapter.logprobs(TALKS)
    assert abs(merged[0][0] - base[0][0]) > 0.01
    (row,) = with_adapter.renderer.training(TALKS[0])
    with torch.inference_mode():
        unmerged = tuned.eval()(input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([row.labels])).loss
    assert merged[0][0] == pytest.approx(-float(unmerged) * row.supervised, rel=1e-4)


def test_adapter_stays_apart_in_16_bits(tiny_ref, cpu, tmp_path):
    """Adding a small adapter to bfloat16 weights would round most of it away."""
    from peft import LoraConfig, get_peft_model

    from agentft.engine.models import load_model

    tuned = get_peft_model(load_model(tiny_ref, cpu, trainable=True), LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    tuned.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    agent = LoadedAgent.load(tiny_ref, tmp_path / "adapter", SYSTEM, replace(cpu, decode_dtype="bfloat16"))
    assert "default" in agent.model.peft_config
    assert agent.generate(["hi"])[0].finish != "error"
