"""Backends read calls out of what models and servers say, and offer the persona's tools with every prompt."""

from __future__ import annotations

import json

import pytest
from servers import completion, serving

from agentft.components import ModelRef
from agentft.contracts import AgentSource, GenerationSettings
from agentft.engine.agent import LoadedAgent
from agentft.engine.http import HttpBackend, HttpConfig, open_http
from agentft.engine.openai_form import read_calls, to_openai
from agentft.records import Example, Message

SETTINGS = GenerationSettings(max_new_tokens=8)
TOOLS = ({"name": "track", "description": "Finds a parcel.", "parameters": {"type": "object", "properties": {"id": {"type": "string"}}}},)
ASKED = Example("p", (Message("user", "Where is A17?"),))


def answering(message: dict, usage: dict | None = None):
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "tool_calls"}
    return lambda number, body: (200, {}, {"choices": [choice], "usage": usage or {"completion_tokens": 5, "prompt_tokens": 40}})


def tool_call(arguments: object, name: object = "track") -> dict:
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}


def ask(reply, tools=TOOLS):
    with serving(reply) as (url, seen):
        return HttpBackend(url, "m", tools=tools, retries=0).generate([ASKED], SETTINGS)[0], seen[0]


def test_a_server_reads_the_calls():
    response, body = ask(answering({"content": None, "tool_calls": [tool_call('{"id": "包裹 A17"}'), tool_call("{}")]}))
    assert response.calls == ({"name": "track", "arguments": {"id": "包裹 A17"}}, {"name": "track", "arguments": {}})
    assert (response.text, response.malformed, response.finish, response.tokens, response.prompt_tokens) == ("", "", "stop", 5, 40)
    assert body["tools"] == [{"type": "function", "function": TOOLS[0]}]


@pytest.mark.parametrize(
    ("arguments", "name", "reason"),
    [('{"id": ', "track", "not JSON"), ("[1]", "track", "must be an object"), ("{}", "", "no name"), ("{}", None, "no name")],
)
def test_arguments_that_are_no_json_are_malformed(arguments, name, reason):
    response, _ = ask(answering({"content": "Let me see.", "tool_calls": [tool_call("{}"), tool_call(arguments, name)]}))
    assert response.finish == "stop" and response.calls == () and reason in response.malformed
    assert response.text.startswith("Let me see.\n") and json.dumps(arguments) in response.text


def test_a_server_that_leaves_calls_in_the_text():
    said = 'I look.\n<tool_call>\n{"name": "track", "arguments": {"id": "A17"}}\n</tool_call>'
    response, _ = ask(lambda number, body: completion(said))
    assert (response.text, response.calls) == ("I look.", ({"name": "track", "arguments": {"id": "A17"}},))
    response, _ = ask(lambda number, body: completion("<tool_call>\n{"))
    assert response.calls == () and "not closed" in response.malformed
    response, body = ask(lambda number, body: completion(said), tools=())
    assert (response.text, response.calls) == (said, ()) and "tools" not in body


@pytest.mark.parametrize(
    "message", [{"content": None}, {"content": None, "tool_calls": []}, {"content": "x", "tool_calls": "y"}, {"content": 1}]
)
def test_what_is_no_answer_is_an_error(message):
    assert ask(answering(message))[0].finish == "error"


def test_an_agent_on_a_server_has_its_tools():
    with serving(lambda number, body: completion("Hi.")) as (url, seen):
        source = AgentSource(ModelRef("m", "", "m", "server"), "You are Ada.", tools=TOOLS)
        own = Example("q", ASKED.messages, ({"name": "other", "description": "d", "parameters": {"type": "object"}},))
        open_http(source, HttpConfig(url=url, concurrency=1)).generate([ASKED, own], SETTINGS)
    assert sorted(body["tools"][0]["function"]["name"] for body in seen) == ["other", "track"]
    assert all(body["messages"][0] == {"role": "system", "content": "You are Ada."} for body in seen)


def test_openai_there_and_back():
    call = {"name": "track", "arguments": {"id": "包裹", "deep": [1, {"a": None}]}}
    row = to_openai([Message("assistant", "I look.", tool_calls=(call,))])[0]
    found = read_calls(row["content"], row["tool_calls"])
    assert (found.text, found.calls) == ("I look.", (call,))
    assert "包裹" in row["tool_calls"][0]["function"]["arguments"]


def test_in_process_the_prompt_shows_the_tools_and_is_counted(tiny_ref, cpu):
    plain, tooled = (LoadedAgent.load(tiny_ref, system="Be brief.", profile=cpu, tools=tools) for tools in ((), TOOLS))
    without, with_ = (agent.generate([ASKED], SETTINGS)[0] for agent in (plain, tooled))
    assert without.prompt_tokens == len(plain.renderer.prompt(ASKED).input_ids)
    assert with_.prompt_tokens == len(tooled.renderer.prompt(ASKED).input_ids) > without.prompt_tokens + 100
    assert "track" in tooled.renderer.prompt(ASKED).text and tooled.renderer.tool_mode == "folded"
