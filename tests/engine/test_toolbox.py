"""A persona's tools at work: checked, run, answered, counted; and a turn that comes to an end whatever the model does."""

from __future__ import annotations

import pytest

from agentft.engine.toolbox import ToolBox, respond
from agentft.environments import ToolContext
from agentft.errors import PluginError
from agentft.host import Host
from agentft.records import Message, Response

FORECAST = {
    "name": "forecast",
    "description": "Weather of a day",
    "parameters": {"type": "object", "properties": {"day": {"type": "integer"}}, "required": ["day"]},
    "use": "weather/forecast",
}
TRACK = {"name": "track", "description": "Finds a parcel.", "parameters": {"type": "object", "properties": {"id": {"type": "string"}}}}


@pytest.fixture
def box(install):
    install("healthy")
    return ToolBox([FORECAST, TRACK], Host().catalog, ToolContext({"company": "Kiln"}))


def test_calls_are_run_and_what_is_wrong_is_answered(box, monkeypatch):
    assert box.call("forecast", {"day": 2}).content == "Day 2: dry."
    assert box.runs("forecast") and not box.runs("track")
    for name, arguments, said in (
        ("forecast", {}, "'day' is missing"),
        ("forecast", {"day": "x"}, "must be integer"),
        ("storm", {}, "there is no function 'storm'"),
        ("track", {"id": "A1"}, "not available here"),
    ):
        answer = box.call(name, arguments)
        assert answer.error and said in answer.content
    assert box.counts == {"calls": 5, "errors": 4}


def test_a_function_that_fails_is_an_answer(box):
    def failing(arguments, ctx):
        raise LookupError(f"no weather for {ctx.variables['company']}")

    box._functions["forecast"] = failing
    answer = box.call("forecast", {"day": 1})
    assert (answer.content, answer.error) == ("Error: no weather for Kiln", True)
    box._functions["forecast"] = lambda arguments, ctx: {"日": arguments["day"]}
    assert box.call("forecast", {"day": 1}).content == '{"日": 1}'


def test_somebody_may_answer_for_a_tool_without_code(install):
    install("healthy")
    box = ToolBox([TRACK], ask=lambda call: f"{call['arguments']['id']} is on its way")
    assert box.call("track", {"id": "A1"}).content == "A1 is on its way"


def test_a_tool_that_is_not_installed_shows_at_once(install):
    install("healthy")
    with pytest.raises(PluginError, match="did you mean 'weather/forecast'"):
        ToolBox([{**FORECAST, "use": "weather/forecst"}], Host().catalog)


def scripted(*responses: Response):
    left = list(responses)
    seen: list[list[Message]] = []

    def ask(turn):
        seen.append(list(turn))
        return left.pop(0) if len(left) > 1 else left[0]

    return ask, seen


def call(day: object = 1) -> dict:
    return {"name": "forecast", "arguments": {"day": day}}


def test_a_turn_goes_on_until_nothing_more_is_called(box):
    ask, seen = scripted(
        Response("x", "<tool_call>{", malformed="the call is not closed"),
        Response("x", "I look.", calls=(call(1), call(2))),
        Response("x", "Dry on both."),
    )
    watched = []
    turn = respond(ask, box, watch=lambda one, answer: watched.append((one.get("name"), answer.content)))
    assert [(m.role, m.content) for m in turn] == [
        ("assistant", "<tool_call>{"),
        ("user", "Your call could not be read: the call is not closed. Write it again."),
        ("assistant", "I look."),
        ("tool", "Day 1: dry."),
        ("tool", "Day 2: dry."),
        ("assistant", "Dry on both."),
    ]
    assert [len(messages) for messages in seen] == [0, 2, 5]
    assert watched[1:] == [("forecast", "Day 1: dry."), ("forecast", "Day 2: dry.")] and watched[0][0] is None
    assert box.counts == {"calls": 2, "errors": 0, "malformed": 1}


def test_a_turn_of_calls_alone_comes_to_an_end(box):
    ask, seen = scripted(Response("x", "", calls=(call(),)))
    turn = respond(ask, box, limit=8)
    assert len(seen) == 8 and turn[-1].role == "tool"
