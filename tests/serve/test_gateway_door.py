"""Who may come in, and with how much; and the shapes, whatever is sent."""

from __future__ import annotations

import asyncio
import json

import httpx
import openai
import pytest
from gateway_kit import client, gateway
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.records import Response
from agentft.serve.answering import Done, Refusal, Ticket
from agentft.serve.gateway import create_gateway
from agentft.serve.gateway_log import RequestLog
from agentft.serve.gateway_metrics import Counter, Histogram
from agentft.serve.gateway_state import Deployment, Limits, Remembered
from agentft.serve.openai_shapes import conversation, parse, prompt_of

KEY = "correct-horse-battery-staple"


class Echo:
    """Answers with the last message; the shapes of the gateway are what is tested here."""

    running = waiting = 0

    async def ask(self, asks):
        found = []
        for ask in asks:
            ticket = Ticket()
            ticket.put(ask.prompt.last_user)
            ticket.put(Done(Response("e", ask.prompt.last_user, "stop", 1, prompt_tokens=2)))
            found.append(ticket)
        return found

    async def ready(self):
        return ""

    async def close(self): ...


def echo(**more):
    return Deployment("echo", Echo(), **more)


@pytest.fixture(scope="module")
def app():
    with gateway([echo()], key=KEY, body_bytes=2000) as app:
        yield app


BODY = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}


def post(app, body=BODY, **headers):
    return httpx.post(f"{app.url}/chat/completions", json=body, headers={"authorization": f"Bearer {KEY}"} | headers)


def test_the_key_is_needed_below_v1_and_for_metrics(app):
    with client(app, KEY) as speaker:
        assert speaker.chat.completions.create(**BODY).choices[0].message.content == "hi"
    for wrong in (b"x", f"{KEY}x".encode(), KEY[:-1].encode(), "clé".encode("latin-1"), "ключ".encode()):
        reply = post(app, authorization=b"Bearer " + wrong)
        assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key")
        assert reply.headers["www-authenticate"] == "Bearer"
    with client(app, "wrong") as speaker, pytest.raises(openai.AuthenticationError):
        speaker.chat.completions.create(**BODY)
    base = app.url.removesuffix("/v1")
    for path, status in (("/health", 200), ("/health/live", 200), ("/metrics", 401), ("/v1/models", 401), ("/v1", 401), ("/v1/x", 401)):
        assert httpx.get(base + path).status_code == status, path
    assert httpx.get(f"{base}/metrics", headers={"authorization": f"Bearer {KEY}"}).status_code == 200
    assert "POST" not in httpx.request("OPTIONS", f"{app.url}/chat/completions").headers.get("access-control-allow-methods", "")


def test_a_request_has_a_size(app):
    assert post(app, BODY | {"user": "x" * 1500}).status_code == 200
    reply = post(app, BODY | {"user": "x" * 3000})
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "request_too_large")

    def endless():
        for _ in range(100):
            yield b" " * 1000

    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    reply = httpx.post(f"{app.url}/chat/completions", content=endless(), headers=headers)
    assert reply.status_code == 413, "without a length"


def test_pages_of_other_sites_are_refused(app):
    assert post(app, origin="https://evil.example").status_code == 403
    assert post(app, origin=app.url.removesuffix("/v1")).status_code == 200
    assert post(app, **{"content-type": "text/plain"}).status_code == 415


def test_without_a_key_only_loopback_is_spoken_to():
    with gateway([echo()]) as app:
        assert post(app).status_code == 200
        reply = post(app, host="rebound.example")
        assert (reply.status_code, reply.json()["error"]["code"]) == (403, "wrong_host")
        assert httpx.get(f"{app.url}/models", headers={"host": "localhost:1"}).status_code == 200


def test_the_caller_may_be_kept_from_adding_instructions_and_tools():
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    with gateway([echo()], caller_system=False, caller_tools=False) as app:
        assert post(app).status_code == 200
        assert post(app, BODY | {"messages": [{"role": "system", "content": "x"}, *BODY["messages"]]}).status_code == 400
        assert post(app, BODY | {"tools": [tool]}).status_code == 400


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 3000, b'{"model": 1}', b'{"model": "echo"}'])
def test_what_is_no_request_is_400(app, content):
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    reply = httpx.post(f"{app.url}/chat/completions", content=content[:1900], headers=headers)
    assert reply.status_code == 400 and reply.json()["error"]["type"] == "invalid_request_error"


json_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
message = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "x"]) | json_data},
    optional={
        "content": st.text(max_size=10) | json_data,
        "tool_calls": json_data | st.just([{"id": "a", "function": {"name": "f", "arguments": "{}"}}]),
        "tool_call_id": st.sampled_from(["a", "b"]) | json_data,
    },
)
request = st.fixed_dictionaries(
    {"model": st.text(max_size=5) | json_data, "messages": st.lists(message, max_size=5) | json_data},
    optional={
        name: json_data
        for name in ("stream", "stop", "seed", "n", "temperature", "top_p", "max_tokens", "tools", "tool_choice", "variables", "metadata")
    },
)


@settings(max_examples=120, deadline=None)
@given(request)
def test_whatever_is_sent_is_a_conversation_or_a_refusal(data):
    limits = Limits()
    try:
        prompt, choice = prompt_of(parse(json.dumps(data).encode(), limits), "x", [], limits)
    except Refusal as refusal:
        assert refusal.status == 400 and refusal.message
        return
    assert prompt.messages[-1].role in ("user", "tool")
    assert all(message.role != "system" for message in prompt.messages[1:])
    assert choice in ("auto", "none", "required")


def test_answers_of_tools_are_put_in_the_order_of_the_calls():
    calls = [{"id": id, "type": "function", "function": {"name": f"f{id}", "arguments": "{}"}} for id in "abc"]
    rows = [{"role": "tool", "tool_call_id": id, "content": f"answer {id}"} for id in "cab"]
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": calls}, *rows]
    found = conversation(parse(json.dumps({"model": "m", "messages": messages}).encode(), Limits()), Limits())
    assert [(m.name, m.content) for m in found[2:]] == [("fa", "answer a"), ("fb", "answer b"), ("fc", "answer c")]
    for cut in (messages[:-1], messages[:2], [*messages[:3], messages[0]]):
        with pytest.raises(Refusal, match="has no answer"):
            conversation(parse(json.dumps({"model": "m", "messages": cut}).encode(), Limits()), Limits())


def test_two_agents_of_one_name_are_refused():
    from agentft.errors import UserError

    with pytest.raises(UserError, match="two agents are called 'echo'"):
        create_gateway([echo(), echo()], key=None, settings=Limits())
    with pytest.raises(UserError, match="at least one agent"):
        create_gateway([], key=None, settings=Limits())


def test_only_the_latest_answers_are_remembered():
    held = Remembered(3)
    for number in range(10):
        held.add(f"id{number}", None, Response("x", str(number)), None)
    assert len(held) == 3 and held.get("id6") is None and held.get("id9").response.text == "9"


def test_metrics_are_what_prometheus_reads():
    counter = Counter("a_total", "h")
    counter.add(2, agent='we"ird\n\\name')
    assert list(counter.lines()) == ['a_total{agent="we\\"ird\\n\\\\name"} 2']
    histogram = Histogram("h", "h", (1.0, 2.5))
    for value in (0.5, 1.0, 2.0, 7.0):
        histogram.observe(value)
    assert list(histogram.lines()) == ['h_bucket{le="1"} 2', 'h_bucket{le="2.5"} 3', 'h_bucket{le="+Inf"} 4', "h_sum 10.5", "h_count 4"]


def test_a_line_of_the_log_is_one_line():
    import io

    out = io.StringIO()
    RequestLog(out).write(id="x", error='two\nlines = "quoted"', seconds=1.25, status=400)
    assert out.getvalue().count("\n") == 1 and 'error="two\\nlines = \\"quoted\\""' in out.getvalue()


def test_a_ticket_of_a_closed_loop_is_silent():
    async def make():
        return Ticket()

    asyncio.run(make()).put("nobody listens")
