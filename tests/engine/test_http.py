"""Generation over HTTP, against a real server that misbehaves in all the usual ways."""

from __future__ import annotations

import time

import pytest
from servers import completion, serving

from agentft.contracts import GenerationSettings
from agentft.engine.http import HttpBackend
from agentft.errors import UserError
from agentft.records import Example, Message, Response

SETTINGS = GenerationSettings(max_new_tokens=16, temperature=0.5, top_p=0.9, seed=4)


def prompts(count: int) -> list[Example]:
    return [Example(f"p{n}", (Message("user", f"Number {n}?"),)) for n in range(count)]


def backend(url: str, **options) -> HttpBackend:
    return HttpBackend(url, "m", **({"backoff": 0.01, "timeout": 5.0} | options))


def echo(number, body):
    return completion(f"echo {body['messages'][-1]['content']}")


def test_answers_come_back_in_order_with_every_setting_passed_on(monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret-1")
    with serving(echo) as (url, seen):
        saved: list[Response] = []
        found = backend(url, system="Be brief.", key_env="MY_KEY", concurrency=3).generate(prompts(9), SETTINGS, saved.extend)
    assert [one.text for one in found] == [f"echo Number {n}?" for n in range(9)] and {one.finish for one in found} == {"stop"}
    assert sorted(one.id for one in saved) == sorted(one.id for one in found)
    body = seen[0]
    assert (body["max_tokens"], body["temperature"], body["top_p"], body["seed"], body["model"]) == (16, 0.5, 0.9, 4, "m")
    assert body["messages"][0] == {"role": "system", "content": "Be brief."} and body["_authorization"] == "Bearer secret-1"
    assert body["_path"] == "/v1/chat/completions"


def test_a_busy_server_is_asked_again_and_its_retry_after_is_respected():
    def busy(number, body):
        return (429, {"Retry-After": "1"}, "slow down") if number == 1 else (503, {}, "") if number == 2 else echo(number, body)

    with serving(busy) as (url, seen):
        began = time.monotonic()
        (found,) = backend(url).generate(prompts(1), SETTINGS)
    assert found.text == "echo Number 0?" and len(seen) == 3 and time.monotonic() - began >= 1


@pytest.mark.parametrize(
    "answer, reason",
    [
        ((200, {}, "<html>oops</html>"), "answers what is no chat completion .JSONDecodeError.: <html>oops</html>"),
        ((200, {}, {"choices": []}), "answers what is no chat completion .IndexError."),
        ((200, {}, {"choices": [{"message": {"content": None}}]}), "the content is no text|TypeError"),
        ((401, {}, "wrong key"), "answers 401: wrong key"),
        ((500, {}, "boom"), "answers 500"),
        ((0, {}, ""), "cannot be reached"),
    ],
)
def test_a_request_that_fails_is_named_and_the_others_go_on(answer, reason):
    import re

    with serving(lambda number, body: answer if "Number 1?" in body["messages"][-1]["content"] else echo(number, body)) as (url, _):
        found = backend(url, concurrency=1, retries=1).generate(prompts(3), SETTINGS)
    assert [one.finish for one in found] == ["stop", "error", "stop"]
    assert re.search(reason, found[1].error) and found[1].text == ""


def test_a_server_that_hangs_times_out():
    def hang(number, body):
        time.sleep(1.0)
        return echo(number, body)

    with serving(hang) as (url, _):
        (found,) = backend(url, timeout=0.2, retries=0).generate(prompts(1), SETTINGS)
    assert found.finish == "error" and "no answer from" in found.error and "within 0.2 s" in found.error


def test_a_server_that_dies_in_the_middle_loses_nothing_and_is_not_hammered():
    def dying(number, body):
        return echo(number, body) if number <= 4 else (500, {}, "")

    with serving(dying) as (url, seen):
        first = backend(url, concurrency=1, retries=0, give_up=3).generate(prompts(20), SETTINGS)
    assert sum(one.finish == "stop" for one in first) == 4 and len(seen) == 7, "after three failures in a row the rest is not sent"
    assert sum(one.error.startswith("not sent: ") for one in first) == 13
    with serving(echo) as (url, seen):
        again = backend(url).generate(prompts(20), SETTINGS, done={one.id: one for one in first})
    assert len(seen) == 16 and [one.text for one in again] == [f"echo Number {n}?" for n in range(20)]
    assert all(one.finish == "stop" for one in again)


def test_mistakes_are_named(monkeypatch):
    with pytest.raises(UserError, match="'localhost:8000' is no web address"):
        HttpBackend("localhost:8000", "m")
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(UserError, match="NO_SUCH_KEY is not set"):
        HttpBackend("http://127.0.0.1:1/v1", "m", key_env="NO_SUCH_KEY")


def test_an_answer_is_taken_as_the_choice_that_it_is_and_stays_else():
    def say(number, body):
        return completion({"a": "Card LOST.", "b": "I think it is cash", "c": "never asked"}[body["messages"][-1]["content"]])

    asked = [Example(name, (Message("user", name),), meta={"choices": ["card", "card lost", "cash"]}) for name in "ab"]
    asked.append(Example("c", (Message("user", "c"),), meta={"choices": ["x", "x"]}))
    with serving(say) as (url, seen):
        first, second, third = backend(url).generate(asked, SETTINGS)
    assert first.text == "card lost" and second.text == "I think it is cash" and len(seen) == 2
    assert third.finish == "error" and "'x' twice" in third.error
    assert "choices" not in seen[0]
