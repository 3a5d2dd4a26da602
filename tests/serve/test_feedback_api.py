"""``POST /v1/feedback``: what is answered 200 is on the disk; everything else says why, in OpenAI's shape."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentft.feedback.served import ServedStore
from agentft.records import Example, Message
from agentft.serve.feedback_api import Recalled, router

PROMPT = Example("x", (Message("user", "Where is my order? I am ann@mail.example"),))
CALLS = ({"name": "find", "arguments": {"order": "NW-1"}},)
ANSWERS = {
    "chatcmpl-1": Recalled(PROMPT, "On its way.", (), "desk"),
    "chatcmpl-2": Recalled(PROMPT, "", CALLS, "desk"),
}


@pytest.fixture
def store(tmp_path) -> ServedStore:
    return ServedStore(tmp_path / "served.jsonl")


@pytest.fixture
def client(store, persona) -> TestClient:
    desks = [
        SimpleNamespace(name="desk", persona=persona, system="", version="round-1"),
        SimpleNamespace(name="zh", persona=None, system="", version=""),
    ]
    app = FastAPI()
    app.include_router(router(store, desks, recall=ANSWERS.get))
    return TestClient(app, raise_server_exceptions=False)


def test_an_answer_is_found_by_its_id(client, store):
    reply = client.post("/v1/feedback", json={"completion_id": "chatcmpl-1", "thumb": "down", "words": "When?", "rater": " Ann  B "})
    assert reply.status_code == 200 and reply.json()["stored"] is True and reply.json()["object"] == "feedback"
    (row,) = store.rows()
    assert (row.prompt.last_user, row.answer) == ("Where is my order? I am [EMAIL]", "On its way.")
    assert (row.model, row.version, row.persona, row.rater, row.known, row.source) == ("desk", "round-1", "clerk", "Ann B", True, "api")
    assert reply.json()["scrubbed"] == {"email": 1} and reply.json()["created"] == row.created
    assert client.post("/v1/feedback", json={"completion_id": "chatcmpl-2", "edit": "It arrives today."}).status_code == 200
    assert list(store.rows())[1].calls == CALLS


def test_a_caller_may_send_conversation_and_answer_along(client, store):
    talk = [
        {"role": "developer", "content": "Ann is a customer."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "find", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "found"},
    ]
    body = {"completion_id": "gone", "messages": talk, "answer": "Hello.", "model": "desk", "thumb": "up", "source": "page"}
    assert client.post("/v1/feedback", json=body).status_code == 200
    (row,) = store.rows()
    assert [m.role for m in row.prompt.messages] == ["system", "user", "assistant", "tool"] and not row.known and row.source == "page"


@pytest.mark.parametrize(
    ("body", "status", "param", "words"),
    [
        ({"completion_id": "gone", "thumb": "up"}, 404, "completion_id", "send messages and answer along"),
        ({"completion_id": "chatcmpl-1"}, 400, "thumb", "nothing is said"),
        ({"thumb": "up"}, 400, "completion_id", "say which answer is meant"),
        ({"completion_id": "chatcmpl-1", "thumb": "sideways"}, 400, "thumb", "must be one of up, down, none"),
        ({"completion_id": "chatcmpl-1", "thumbs": "up"}, 400, "thumbs", "unknown key 'thumbs' (did you mean 'thumb'?)"),
        ({"completion_id": "chatcmpl-1", "words": "x" * 20_001}, 400, "words", ""),
        ({"messages": [{"role": "user", "content": "Hi"}], "answer": "Yo", "thumb": "up"}, 400, "model", "say which one answered"),
        ({"messages": [{"role": "user", "content": "Hi"}], "answer": "Yo", "thumb": "up", "model": "no"}, 404, "model", "no model 'no'"),
        ({"messages": [{"role": "king", "content": "Hi"}], "answer": "Yo", "thumb": "up", "model": "zh"}, 400, "messages", "role"),
        ({"messages": [{"role": "assistant", "content": "Hi"}], "answer": "Yo", "thumb": "up", "model": "zh"}, 400, None, "must end with"),
        ({"messages": [{"role": "user", "content": "Hi"}], "answer": " ", "thumb": "up", "model": "zh"}, 400, None, "answer is empty"),
    ],
)
def test_a_mistake_says_what_and_where(client, store, body, status, param, words):
    reply = client.post("/v1/feedback", json=body)
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (status, param) and words in error["message"] and error["type"] == "invalid_request_error"
    assert not store.path.exists(), "nothing is stored"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[1]", "application/json", 400),
        (b'{"thumb": NaN}', "application/json", 400),
        (b'{"completion_id": "chatcmpl-1", "words": "\\ud800"}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"completion_id": "chatcmpl-1", "thumb": "up"}', "text/plain", 415),
        (b'{"completion_id": "chatcmpl-1", "words": "' + b"x" * 300_000 + b'"}', "application/json", 413),
    ],
)
def test_no_body_brings_it_down(client, store, body, kind, status):
    reply = client.post("/v1/feedback", content=body, headers={"content-type": kind})
    assert reply.status_code == status and reply.json()["error"]["message"] and not store.path.exists()


def test_a_body_without_a_length_is_limited_while_it_is_read(client, store):
    def pieces():
        for _ in range(400):
            yield b"x" * 1024

    reply = client.post("/v1/feedback", content=pieces(), headers={"content-type": "application/json"})
    assert reply.status_code == 413 and not store.path.exists()


def test_what_cannot_be_stored_is_not_thanked_for(client, store, monkeypatch):
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    reply = client.post("/v1/feedback", json={"completion_id": "chatcmpl-1", "thumb": "up"})
    assert reply.status_code == 503 and reply.json()["error"]["type"] == "server_error"
    assert str(store.path) not in reply.text and not list(store.rows())


values = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.lists(st.text(max_size=5), max_size=2)
keys = st.sampled_from(["completion_id", "messages", "answer", "model", "thumb", "edit", "words", "rater", "client", "source", "x"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
@given(st.dictionaries(keys, values))
def test_any_json_gets_an_answer_in_the_right_shape(client, store, body):
    reply = client.post("/v1/feedback", content=json.dumps(body), headers={"content-type": "application/json"})
    assert reply.status_code in (200, 400, 404)
    assert reply.json().get("stored") is True or set(reply.json()["error"]) == {"message", "type", "param", "code"}
