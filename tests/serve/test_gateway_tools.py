"""Tools through the gateway with a model in this process. The model is random, so what it writes is put into its mouth, token by token."""

from __future__ import annotations

import json

import pytest
from gateway_kit import client, gateway
from tiny import SYSTEM, tiny_model

from agentft.engine.agent import LoadedAgent
from agentft.engine.sampling import Draws
from agentft.environments import ToolAnswer
from agentft.serve.gateway_state import Deployment, Limits
from agentft.serve.local import LocalAnswerer
from agentft.serve.worker import Worker

TOOL = {
    "name": "look_up",
    "description": "Finds an order",
    "parameters": {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]},
}
CALL = '<tool_call>\n{"name": "look_up", "arguments": {"order": "NW-1 订单"}}\n</tool_call>'


@pytest.fixture(scope="module")
def agent(tmp_path_factory, cpu):
    ref = tiny_model(tmp_path_factory.mktemp("long"), max_position_embeddings=2048)
    return LoadedAgent.load(ref, system=SYSTEM, profile=cpu, tools=(TOOL,))


@pytest.fixture
def saying(agent, monkeypatch):
    """``saying("a", "b")``: the first answer of the model is "a", the second "b"; each row gets the next that is left."""

    def put(*texts):
        waiting = [[*agent.tokenizer(text, add_special_tokens=False).input_ids, agent.renderer.stop_token_ids[0]] for text in texts]
        rows: dict[int, list[int]] = {}

        def choose(self, logits, numbers):
            import torch

            for number in numbers:
                if number not in rows:
                    rows[number] = waiting.pop(0)
            return torch.tensor([rows[number].pop(0) for number in numbers])

        monkeypatch.setattr(Draws, "__call__", choose)

    return put


def served(agent, run=None):
    limits = Limits(running=4, context_tokens=2048)
    runs = frozenset({"look_up"}) if run else frozenset()
    return gateway([Deployment("clerk", LocalAnswerer(agent, Worker(4, 8), limits, tools=[TOOL]), None, SYSTEM, [TOOL], run, runs)])


def user(text):
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_of_the_persona_is_handed_to_the_caller(agent, saying, stream):
    saying(f"Let me see.\n{CALL}", "It has been shipped.")
    with served(agent) as app, client(app) as speaker:
        found = speaker.chat.completions.create(model="clerk", messages=user("Where is NW-1?"), stream=stream)
        if stream:
            chunks = list(found)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
            finish = chunks[-1].choices[0].finish_reason
        else:
            text, calls, finish = found.choices[0].message.content, found.choices[0].message.tool_calls, found.choices[0].finish_reason
        assert (text, finish, len(calls)) == ("Let me see.", "tool_calls", 1)
        assert (calls[0].function.name, json.loads(calls[0].function.arguments)) == ("look_up", {"order": "NW-1 订单"})
        call = {"id": calls[0].id, "type": "function", "function": {"name": "look_up", "arguments": calls[0].function.arguments}}
        history = [*user("Where is NW-1?"), {"role": "assistant", "content": text, "tool_calls": [call]}]
        history.append({"role": "tool", "tool_call_id": call["id"], "content": "shipped"})
        answer = speaker.chat.completions.create(model="clerk", messages=history)
        assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("It has been shipped.", "stop")
        assert answer.usage.prompt_tokens_details.cached_tokens > 100, "the persona and its tools were computed before"


def test_the_gateway_runs_the_tool(agent, saying):
    asked = []

    def run(name, arguments, variables):
        asked.append((name, arguments))
        return ToolAnswer("shipped on Monday")

    saying(CALL, "Shipped on Monday.")
    with served(agent, run) as app, client(app) as speaker:
        found = speaker.chat.completions.create(model="clerk", messages=user("Where is NW-1?"))
        held = app.state.remembered.get(found.id)
    assert found.choices[0].message.content == "Shipped on Monday." and not found.choices[0].message.tool_calls
    assert asked == [("look_up", {"order": "NW-1 订单"})]
    assert [message.role for message in held.prompt.messages] == ["user", "assistant", "tool"]


def test_what_is_no_call_is_text(agent, saying):
    for text in ('<tool_call>\n{"name": "look_up", "argu', "a < b and {c}"):
        saying(text)
        with served(agent) as app, client(app) as speaker:
            stream = speaker.chat.completions.create(model="clerk", messages=user("hi"), stream=True)
            assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == text


def test_without_tools_the_persona_stands_alone(agent, saying):
    """``tool_choice: none``: the model does not see them, and what looks like a call is text."""
    saying(CALL)
    with served(agent) as app, client(app) as speaker:
        found = speaker.chat.completions.create(model="clerk", messages=user("hi"), tool_choice="none")
        assert found.choices[0].message.content == CALL and found.choices[0].finish_reason == "stop"
        assert found.usage.prompt_tokens < 150


def test_the_terminal_talks_to_it(agent, saying):
    from click.testing import CliRunner

    from agentft.cli.main import cli

    saying("It has been shipped.", "You are welcome.")
    with served(agent) as app:
        result = CliRunner().invoke(cli, ["chat", app.url, "-m", "Where is NW-1?", "-m", "Thanks"])
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == ["clerk  It has been shipped.", "clerk  You are welcome."]
