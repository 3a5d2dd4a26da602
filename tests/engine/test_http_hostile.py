"""Servers that lie, stop in the middle, die and come back; and several of them."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import completion, serving

from agentft.contracts import AgentSource, GenerationSettings
from agentft.engine.backends import Choice
from agentft.engine.http import HttpBackend, _retry_after
from agentft.errors import UserError
from agentft.host import Host
from agentft.recipe_parts import ModelUse, PartUse
from agentft.records import Example, Message, Response

SETTINGS = GenerationSettings(max_new_tokens=16)


def prompts(count: int) -> list[Example]:
    return [Example(f"p{n}", (Message("user", f"Number {n}?"),)) for n in range(count)]


def backend(url, **options) -> HttpBackend:
    return HttpBackend(url, "m", **({"backoff": 0.02, "timeout": 5.0, "patience": 3.0} | options))


def echo(number, body):
    return completion(f"echo {body['messages'][-1]['content']}")


def one_bad(answer):
    return lambda number, body: answer if "Number 1?" in body["messages"][-1]["content"] else echo(number, body)


GOOD = json.dumps(completion("fine")[2])


@pytest.mark.parametrize(
    "answer, reason",
    [
        ((200, {"Content-Length": "9999"}, GOOD[:20]), "cannot be reached .RemoteProtocolError"),
        ((200, {}, GOOD[:20]), "no chat completion .JSONDecodeError"),
        ((200, {}, b'{"choices": [{"message": {"content": "\xff\xfe"}}]}'), "no chat completion .UnicodeDecodeError"),
        ((200, {}, b"\x00\x01\x02"), "no chat completion"),
        ((200, {}, "[]"), "no chat completion .TypeError"),
        ((200, {}, '{"choices": "abc"}'), "no chat completion .TypeError"),
        ((200, {"Content-Encoding": "gzip"}, "not gzip"), "DecodingError"),
        ((200, {}, "{" * 100_000), "no chat completion|RecursionError"),
        ((307, {"Location": "http://127.0.0.1:1/"}, ""), "answers 307"),
        ((200, {}, b"x" * (33 * 2**20)), "more than 32 MiB"),
        ((422, {}, "x" * 5000), "answers 422: x+\\.\\.\\."),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_answer_costs_one_prompt(answer, reason):
    import re

    with serving(one_bad(answer)) as (url, _):
        found = backend(url, retries=1).generate(prompts(3), SETTINGS)
    assert [one.finish for one in found] == ["stop", "error", "stop"] and re.search(reason, found[1].error), found[1].error
    assert len(found[1].error) < 400


@pytest.mark.parametrize("usage", [None, [], "7", {"completion_tokens": "many"}, {"completion_tokens": -1}, {"completion_tokens": True}])
def test_nonsense_beside_an_answer_does_not_cost_it(usage):
    with serving(lambda number, body: (200, {}, completion("fine")[2] | {"usage": usage})) as (url, _):
        (found,) = backend(url).generate(prompts(1), SETTINGS)
    assert (found.text, found.tokens) == ("fine", 0)


def test_half_an_answer_is_asked_for_again():
    with serving(lambda number, body: (200, {"Content-Length": "999"}, GOOD[:9]) if number == 1 else echo(number, body)) as (url, seen):
        (found,) = backend(url).generate(prompts(1), SETTINGS)
    assert found.text == "echo Number 0?" and len(seen) == 2


def test_a_server_that_drips_times_out():
    with serving(lambda number, body: (200, {}, tuple(b" " for _ in range(100)))) as (url, _):
        began = time.monotonic()
        (found,) = backend(url, timeout=0.3, retries=0).generate(prompts(1), SETTINGS)
    assert "within 0.3 s" in found.error and time.monotonic() - began < 3


def test_a_large_answer_in_any_script_arrives_whole():
    text = "退款需要三天 🙂 \u2028 ß\n" * 20_000
    with serving(lambda number, body: completion(text)) as (url, seen):
        (found,) = backend(url).generate([Example("p", (Message("user", "请问\ud800🙂"),))], SETTINGS)
    assert found.text == text.strip() and seen[0]["messages"][0]["content"] == "请问\ud800🙂"


def test_retry_after_may_be_a_date():
    def busy(number, body):
        soon = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
        return (429, {"Retry-After": soon}, "") if number == 1 else echo(number, body)

    with serving(busy) as (url, _):
        began = time.monotonic()
        (found,) = backend(url).generate(prompts(1), SETTINGS)
    assert found.finish == "stop" and 0.9 <= time.monotonic() - began < 4


@given(st.one_of(st.text(max_size=40), st.floats().map(str), st.datetimes().map(lambda when: format_datetime(when))))
def test_any_retry_after_is_a_short_wait_or_none(value):
    seconds = _retry_after(value)
    assert seconds is None or 0 <= seconds <= 60


def test_being_told_to_wait_costs_no_try_within_the_patience():
    with serving(lambda number, body: (429, {"Retry-After": "0.05"}, "") if number <= 6 else echo(number, body)) as (url, seen):
        (found,) = backend(url, retries=1).generate(prompts(1), SETTINGS)
    assert found.finish == "stop" and len(seen) == 7
    with serving(lambda number, body: (429, {"Retry-After": "0.05"}, "")) as (url, seen):
        (found,) = backend(url, retries=1, patience=0.2).generate(prompts(1), SETTINGS)
    assert found.finish == "error" and "answers 429" in found.error and len(seen) < 8


def test_prompts_that_are_refused_do_not_make_the_server_lost():
    def long(number, body):
        return (400, {}, "too long") if int(body["messages"][-1]["content"][7:-1]) < 20 else echo(number, body)

    with serving(long) as (url, seen):
        found = backend(url, give_up=3).generate(prompts(24), SETTINGS)
    assert [one.finish for one in found] == ["error"] * 20 + ["stop"] * 4 and len(seen) == 24


def test_a_server_that_is_killed_and_comes_back_loses_nothing():
    saved: list[Response] = []
    found: list[Response] = []
    slow = lambda number, body: (time.sleep(0.03), echo(number, body))[1]  # noqa: E731
    with serving(slow) as (url, first):
        work = threading.Thread(
            target=lambda: found.extend(backend(url, concurrency=2, retries=2).generate(prompts(30), SETTINGS, saved.extend))
        )
        work.start()
        while len(first) < 8:
            time.sleep(0.01)
    time.sleep(0.6)  # longer than the tries of a request would last
    with serving(slow, port=int(url.split(":")[2].split("/")[0])) as (_, second):
        work.join(20)
    assert [one.text for one in found] == [f"echo Number {n}?" for n in range(30)] and len(saved) == 30
    assert len(first) < 30 and len(second) >= 30 - len(first)


def test_a_server_that_never_was_there_is_not_waited_for():
    began = time.monotonic()
    found = backend("http://127.0.0.1:9/v1", patience=60.0).generate(prompts(40), SETTINGS)
    assert time.monotonic() - began < 5 and {one.finish for one in found} == {"error"}
    assert "cannot be reached" in found[0].error and all("cannot be reached" in one.error for one in found)


def test_requests_are_spread_and_a_dead_server_is_tried_again_later():
    slow = lambda number, body: (time.sleep(0.02), echo(number, body))[1]  # noqa: E731
    with serving(slow) as (one, first):
        with serving(slow) as (two, second):
            backend([one, two], concurrency=4).generate(prompts(20), SETTINGS)
            assert min(len(first), len(second)) >= 5 and len(first) + len(second) == 20
        first.clear()
        found = backend([two, one], concurrency=4).generate(prompts(20), SETTINGS)  # two is dead now
        assert {answer.finish for answer in found} == {"stop"} and len(first) == 20
        results: list[Response] = []
        work = threading.Thread(target=lambda: results.extend(backend([two, one], concurrency=2).generate(prompts(60), SETTINGS)))
        work.start()
        time.sleep(0.2)
        with serving(slow, port=int(two.split(":")[2].split("/")[0])) as (_, back):
            work.join(20)
    assert {answer.finish for answer in results} == {"stop"} and len(back) >= 5, "it takes part again"


def test_one_of_two_servers_that_only_fails_does_not_cost_answers():
    with serving(lambda number, body: (500, {}, "")) as (bad, tried), serving(echo) as (good, _):
        found = backend([bad, good], concurrency=2, retries=2, give_up=2).generate(prompts(20), SETTINGS)
    assert {answer.finish for answer in found} == {"stop"} and tried


def test_an_interruption_stops_what_was_not_sent():
    class Stop(BaseException):
        pass

    def stop(responses):
        raise Stop

    with serving(echo) as (url, seen), pytest.raises(Stop):
        backend(url, concurrency=1).generate(prompts(50), SETTINGS, stop)
    assert len(seen) < 50


def test_tools_travel_in_the_form_of_the_interface():
    talk = (
        Message("user", "Where is my parcel?"),
        Message("assistant", "", tool_calls=({"name": "track", "arguments": {"id": 7}}, {"name": "eta", "arguments": {}})),
        Message("tool", "at the depot"),
        Message("tool", "Monday"),
    )
    with serving(lambda number, body: completion("It comes on Monday.")) as (url, seen):
        backend(url).generate([Example("p", talk, ({"name": "track", "parameters": {}},))], SETTINGS)
    calls = seen[0]["messages"][1]["tool_calls"]
    assert calls[0]["function"] == {"name": "track", "arguments": '{"id": 7}'} and calls[0]["type"] == "function"
    assert [one.get("tool_call_id") for one in seen[0]["messages"][2:]] == [call["id"] for call in calls]
    assert seen[0]["tools"] == [{"type": "function", "function": {"name": "track", "parameters": {}}}]


def test_a_recipe_and_a_judge_name_several_servers():
    from agentft.feedback.prompts import open_model

    with serving(echo) as (one, _), serving(echo) as (two, _):
        chosen = Choice(Host().catalog, PartUse.model_validate({"use": "http", "url": [one, two], "concurrency": 2}))
        asker = chosen.open(AgentSource(chosen.model("llama-8b", lambda _: pytest.fail("a server's model is not looked for")), "Be brief."))
        assert asker.urls == [one, two] and asker.model == "llama-8b" and asker.system == "Be brief."
        assert asker.generate(prompts(1), SETTINGS)[0].text == "echo Number 0?"
        use = ModelUse.model_validate({"model": "m", "url": [one, two]})
        assert open_model(use, resolve=lambda _: pytest.fail(""), device={}).urls == [one, two]
    with pytest.raises(UserError, match="'x' is no web address"):
        HttpBackend(["http://a/v1", "x"], "m")
