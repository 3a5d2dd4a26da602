"""SmolLM2 as GGUF: llama.cpp's own chat endpoint, which knows nothing of agentft, answers as the agent."""

from __future__ import annotations

import pytest

from agentft import export_agent
from agentft.agents import open_agent
from agentft.contracts import GenerationSettings
from agentft.records import Example, Message

QUESTIONS = ("Why is the sky blue?", "I ordered 2 books on 14 May. Where are they?", "Name a good soup.")


@pytest.mark.slow
def test_llamacpp_talks_as_the_agent(tmp_path):
    xllamacpp = pytest.importorskip("xllamacpp", reason="needs xllamacpp (pip install 'agentft[llamacpp]')")
    done = export_agent("smollm2-135m", "gguf", tmp_path / "out", persona="assistant", options={"quantise": "f16"}, probes=6)
    assert done.good, done.refused
    found = {one.reading: one for one in done.agreements}
    assert found["llama.cpp"].prompts == 1.0 and found["llama.cpp"].agreement > 0.97 and found["transformers"].kl < 1e-4
    params = xllamacpp.CommonParams()
    params.model.path = str(next(done.path.glob("*.gguf")))
    params.n_ctx, params.n_parallel, params.verbosity, params.use_jinja = 2048, 1, -1, True
    server = xllamacpp.Server(params)
    agent = open_agent("smollm2-135m", persona="assistant")
    prompts = [Example(text, (Message("user", text),)) for text in QUESTIONS]
    wanted = agent.generate(prompts, GenerationSettings(max_new_tokens=16))
    same = 0
    for prompt, response in zip(prompts, wanted, strict=True):
        body = {"messages": [{"role": "user", "content": prompt.id}], "max_tokens": 16, "temperature": 0.0}
        said = server.handle_chat_completions(body)["choices"][0]["message"]["content"]
        same += said.strip() == response.text
    assert same >= 2, "rounding may decide one of three answers"
