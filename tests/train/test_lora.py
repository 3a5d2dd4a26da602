"""The fused LoRA layer gives what PEFT's gives."""

from __future__ import annotations

import pytest


def adapted(**options):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = Qwen2ForCausalLM(Qwen2Config(**sizes, num_key_value_heads=2, initializer_range=0.05))  # with biases, unlike Llama
    settings = {"r": 4, "lora_alpha": 12, "target_modules": "all-linear", "init_lora_weights": False} | options
    return get_peft_model(model, LoraConfig(**settings)).train()


def run(model):
    import torch

    model.zero_grad()
    ids = torch.arange(40).view(2, 20)
    logits = model(input_ids=ids).logits
    logits.float().logsumexp(-1).sum().backward()
    return logits.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_close(one, other, tolerance):
    assert float((one[0] - other[0]).norm()) <= tolerance * float(one[0].norm())
    assert one[1].keys() == other[1].keys()
    assert all("lora_" in name for name in one[1])
    for name, gradient in one[1].items():
        assert gradient.dtype == other[1][name].dtype
        assert float((gradient - other[1][name]).norm()) <= tolerance * float(gradient.norm()), name


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 5}}])
def test_output_and_gradients_are_those_of_peft(options):
    from agentft.train.lora import fuse

    model = adapted(**options)
    plain = run(model)
    assert fuse(model) == 14
    assert_close(plain, run(model), 1e-4)


def test_under_autocast_too():
    import torch

    from agentft.train.lora import fuse

    model = adapted()
    exact = run(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = run(model)
        fuse(model)
        fused = run(model)
    # As close to float32 as PEFT's.
    errors = [sum(float((exact[1][name] - found[1][name]).norm()) for name in exact[1]) for found in (plain, fused)]
    assert errors[1] <= 1.5 * errors[0]


def test_an_adapter_that_is_switched_off_or_merged_is_left_to_peft():
    import torch

    from agentft.train.lora import fuse

    model = adapted()
    with model.disable_adapter():
        bare = run_without_gradient(model)
    fuse(model)
    with model.disable_adapter():
        assert torch.equal(run_without_gradient(model), bare)
    before = run_without_gradient(model)
    merged = model.merge_and_unload()
    assert torch.allclose(run_without_gradient(merged), before, atol=1e-4)


def run_without_gradient(model):
    import torch

    with torch.no_grad():
        return model(input_ids=torch.arange(40).view(2, 20)).logits


@pytest.mark.parametrize("options", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}])
def test_what_is_not_plain_stays_with_peft(options):
    from agentft.train.lora import fuse

    assert fuse(adapted(**options)) == 0
