"""A server behind the gateway: streams are passed on, hang-ups are mended where that can be, all else is said as OpenAI says it."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager

import httpx
import openai
import pytest
from gateway_kit import client, gateway
from servers import completion, serving

from agentft.persona import Persona
from agentft.serve.behind import ServerAnswerer
from agentft.serve.gateway_state import Deployment, Limits

SYSTEM = "You are a clerk."
TOOL = {"name": "look_up", "description": "d", "parameters": {"type": "object", "properties": {"order": {"type": "string"}}}}


def user(text):
    return [{"role": "user", "content": text}]


def through(url, **limits):
    answerer = ServerAnswerer(url, "inner", Limits(**limits), system=SYSTEM, key="secret-of-the-server")
    persona = Persona(name="clerk", summary="s", language="en", role="r", tools=[TOOL])
    return gateway([Deployment("clerk", answerer, persona, SYSTEM, [TOOL])], **limits)


@contextmanager
def behind(answer, **limits):
    """A gateway in front of a server that says ``answer``, a client of it, and what the server was asked."""
    with serving(answer) as (url, seen), through(url, **limits) as app, client(app) as speaker:
        yield app, speaker, seen


def events(*chunks):
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return 200, {"Content-Type": "text/event-stream"}, tuple(line.encode() for line in [*lines, "data: [DONE]\n\n"])


def delta(content=None, finish=None, **more):
    return {"choices": [{"index": 0, "delta": ({"content": content} if content else {}) | more, "finish_reason": finish}]}


def test_an_answer_is_passed_on_with_the_persona_in_front():
    with serving(lambda number, body: completion("Certainly.")) as (url, seen), through(url) as app, client(app) as speaker:
        messages = [{"role": "system", "content": "Be loud."}, *user("hi")]
        found = speaker.chat.completions.create(model="clerk", messages=messages, max_tokens=5, seed=3, stop=["x"], n=2, temperature=0.5)
    assert [choice.message.content for choice in found.choices] == ["Certainly."] * 2
    assert sorted(body["seed"] for body in seen) == [3, 4], "two choices are two draws"
    body = seen[0]
    assert body["messages"] == [{"role": "system", "content": f"{SYSTEM}\n\nBe loud."}, *user("hi")]
    assert (body["model"], body["max_tokens"], body["stop"], body["temperature"]) == ("inner", 5, ["x"], 0.5)
    assert body["tools"] == [{"type": "function", "function": TOOL}]
    assert body["_authorization"] == "Bearer secret-of-the-server"


def test_a_stream_is_passed_on_as_it_comes():
    usage = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}}
    chunks = events(delta("Cer", role="assistant"), delta("tain"), delta("ly."), delta(finish="length"), usage)
    with serving(lambda number, body: chunks) as (url, seen), through(url) as app, client(app) as speaker:
        stream = speaker.chat.completions.create(model="clerk", messages=user("hi"), stream=True, stream_options={"include_usage": True})
        times, pieces = [], []
        for chunk in stream:
            times.append(time.monotonic())
            pieces.append(chunk)
    assert [p.choices[0].delta.content for p in pieces if p.choices and p.choices[0].delta.content] == ["Cer", "tain", "ly."]
    assert pieces[-2].choices[0].finish_reason == "length"
    assert (pieces[-1].usage.prompt_tokens, pieces[-1].usage.prompt_tokens_details.cached_tokens) == (9, 4)
    assert times[-1] - times[0] > 0.08, "the pieces came in one go, after the last of them"
    assert seen[0]["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_are_passed_on_and_come_back(stream):
    call = {"id": "a1", "type": "function", "function": {"name": "look_up", "arguments": '{"order": "NW-1"}'}}
    if stream:
        first = {"index": 0, **call, "function": {"name": "look_up", "arguments": '{"order":'}}
        rest = {"index": 0, "function": {"arguments": ' "NW-1"}'}}
        answer = events(delta(tool_calls=[first]), delta(tool_calls=[rest]), delta(finish="tool_calls"))
    else:
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        answer = 200, {}, {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    with behind(lambda number, body: answer if number == 1 else completion("It is here.")) as (_, speaker, seen):
        own = {"type": "function", "function": {"name": "ring", "parameters": {"type": "object", "properties": {}}}}
        found = speaker.chat.completions.create(model="clerk", messages=user("Where?"), tools=[own], stream=stream)
        if stream:
            chunks = [chunk for chunk in found if chunk.choices]
            calls = [c for chunk in chunks for c in chunk.choices[0].delta.tool_calls or ()]
            name, arguments, finish = calls[0].function.name, calls[0].function.arguments, chunks[-1].choices[0].finish_reason
            id = calls[0].id
        else:
            message = found.choices[0].message
            name, arguments = message.tool_calls[0].function.name, message.tool_calls[0].function.arguments
            finish, id = found.choices[0].finish_reason, message.tool_calls[0].id
            assert message.content is None
        assert (name, json.loads(arguments), finish) == ("look_up", {"order": "NW-1"}, "tool_calls")
        assert [tool["function"]["name"] for tool in seen[0]["tools"]] == ["look_up", "ring"]
        calls = [{"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}]
        history = [*user("Where?"), {"role": "assistant", "content": None, "tool_calls": calls}]
        history.append({"role": "tool", "tool_call_id": id, "content": "shipped"})
        second = speaker.chat.completions.create(model="clerk", messages=history, tool_choice="none")
        assert second.choices[0].message.content == "It is here."
    assert [row["role"] for row in seen[1]["messages"]] == ["system", "user", "assistant", "tool"]
    assert seen[1]["messages"][3]["tool_call_id"] == seen[1]["messages"][2]["tool_calls"][0]["id"]
    assert "tools" not in seen[1]


@pytest.mark.parametrize("stream", [False, True])
def test_the_gateway_runs_tools_and_answers_with_what_they_say(stream):
    from agentft.environments import ToolAnswer

    call = {"id": "a1", "type": "function", "function": {"name": "look_up", "arguments": '{"order": "NW-1"}'}}

    def answer(number, body):
        if number == 1 and stream:
            return events(delta("Let me see."), delta(tool_calls=[{"index": 0, **call}]), delta(finish="tool_calls"))
        if number == 1:
            message = {"role": "assistant", "content": "Let me see.", "tool_calls": [call]}
            return 200, {}, {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
        return events(delta("Shipped."), delta(finish="stop")) if stream else completion("Shipped.")

    def run(name, arguments, variables):
        return ToolAnswer(f"{name} {arguments['order']}: shipped")

    with serving(answer) as (url, seen):
        answerer = ServerAnswerer(url, "inner", Limits(), system=SYSTEM)
        deployment = Deployment("clerk", answerer, None, SYSTEM, [TOOL], run, frozenset({"look_up"}))
        with gateway([deployment]) as app, client(app) as speaker:
            found = speaker.chat.completions.create(model="clerk", messages=user("Where?"), stream=stream)
            if stream:
                chunks = list(found)
                text, id = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices), chunks[0].id
            else:
                text, id = found.choices[0].message.content, found.id
            held = app.state.remembered.get(id)
            assert text == "Let me see.\n\nShipped."
            assert [m.role for m in held.prompt.messages] == ["user", "assistant", "tool"]
            assert held.prompt.messages[2].content == "look_up NW-1: shipped"
            assert 'agentft_tool_calls_total{agent="clerk",outcome="ok",tool="look_up"} 1' in app.state.metrics.text()
    assert seen[1]["messages"][-1]["content"] == "look_up NW-1: shipped"


def test_a_server_that_is_away_is_waited_for_and_found_again():
    with serving(lambda number, body: completion("first")) as (url, _):
        port = int(url.split(":")[2].split("/")[0])
    back = threading.Event()

    def come_back():
        time.sleep(0.6)
        with serving(lambda number, body: completion("second"), port):
            back.wait(10)

    thread = threading.Thread(target=come_back)
    with through(url, patience=5.0) as app, client(app) as speaker:
        assert httpx.get(app.url.replace("/v1", "/health/ready")).status_code == 503
        assert httpx.get(app.url.replace("/v1", "/health/live")).status_code == 200
        thread.start()
        try:
            began = time.monotonic()
            found = speaker.chat.completions.create(model="clerk", messages=user("hi"))
            assert found.choices[0].message.content == "second" and time.monotonic() - began > 0.4
            assert httpx.get(app.url.replace("/v1", "/health/ready")).status_code == 200
        finally:
            back.set()
            thread.join()


def test_a_server_that_stays_away_is_503_after_a_while():
    with serving(lambda number, body: completion("x")) as (url, _):
        pass
    with through(url, patience=0.3) as app, client(app) as speaker:
        began = time.monotonic()
        with pytest.raises(openai.InternalServerError) as caught:
            speaker.chat.completions.create(model="clerk", messages=user("hi"))
        assert (caught.value.status_code, caught.value.code) == (503, "unavailable")
        assert int(caught.value.response.headers["retry-after"]) >= 1
        assert time.monotonic() - began < 3


def test_a_hang_up_before_the_first_piece_is_mended_and_one_after_is_said():
    half = f"data: {json.dumps(delta('Half an '))}\n\n".encode()

    def answer(number, body):
        if number == 1:
            return 0, {}, ""
        if body["messages"][-1]["content"] == "cut":
            return 200, {"Content-Type": "text/event-stream", "Content-Length": "9999"}, half
        return events(delta("whole"), delta(finish="stop"))

    with serving(answer) as (url, seen), through(url, patience=3.0) as app, client(app) as speaker:
        stream = speaker.chat.completions.create(model="clerk", messages=user("hi"), stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == "whole" and len(seen) == 2
        heard = []
        with pytest.raises(openai.APIError, match="went away"):
            for chunk in speaker.chat.completions.create(model="clerk", messages=user("cut"), stream=True):
                heard.append(chunk.choices[0].delta.content)
        assert "Half an " in heard


@pytest.mark.parametrize(
    ("status", "body", "told", "code"),
    [
        (400, {"error": {"message": "too long", "code": "context_length_exceeded"}}, 400, "context_length_exceeded"),
        (401, {"error": {"message": "wrong key secret-of-the-server"}}, 502, "bad_gateway"),
        (404, {"error": {"message": "no such model"}}, 502, "bad_gateway"),
        (500, "boom", 502, "bad_gateway"),
        (200, "<html>", 502, "bad_gateway"),
        (200, {"choices": []}, 502, "bad_gateway"),
        (429, {"error": {"message": "busy"}}, 429, "rate_limit_exceeded"),
        (503, "restarting", 503, "unavailable"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_server_refuses_is_told_to_whom_it_concerns(status, body, told, code, stream):
    refusing = behind(lambda number, _: (status, {}, body), patience=0.2)
    with refusing as (_, speaker, _), pytest.raises(openai.APIStatusError) as caught:
        speaker.chat.completions.create(model="clerk", messages=user("hi"), stream=stream)
    if stream and status == 200:
        assert caught.value.status_code in (502, 503)
        return
    assert (caught.value.status_code, caught.value.code) == (told, code)
    assert "secret" not in caught.value.response.text


def test_more_than_may_wait_is_refused_and_nobody_hangs():
    free = threading.Event()
    with behind(lambda number, body: free.wait(10) and completion("late"), running=2, waiting=1) as (_, speaker, _):
        found, refused = [], []

        def one():
            try:
                found.append(speaker.chat.completions.create(model="clerk", messages=user("hi")).choices[0].message.content)
            except openai.RateLimitError as error:
                refused.append(error)

        threads = [threading.Thread(target=one) for _ in range(8)]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 5
        while len(refused) < 5 and time.monotonic() < until:
            time.sleep(0.01)
        assert len(refused) == 5
        free.set()
        for thread in threads:
            thread.join()
    assert found == ["late"] * 3
