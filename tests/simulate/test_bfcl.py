"""BFCL: which calls are right, on a small copy and on the real data."""

from __future__ import annotations

import sys

import pytest
from benchmark_copies import TICKETS, WEATHER, write_bfcl
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.environments import Episode, SuiteContext
from agentft.errors import DataError, MissingDependency, UserError
from agentft.records import Message
from agentft.simulate.bfcl import BfclConfig, as_tool, bfcl
from agentft.simulate.bfcl_match import call_mismatch, mismatch, reference_calls
from agentft.simulate.bfcl_turns import parsed
from agentft.simulate.replay import idle, reference, replay


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return write_bfcl(tmp_path_factory.mktemp("bfcl"))


@pytest.fixture
def suite(copy):
    return lambda category: bfcl(BfclConfig(path=str(copy), category=category), SuiteContext())


def described(**types):
    properties = {name: {"type": kind} if isinstance(kind, str) else kind for name, kind in types.items()}
    return {"name": "f", "parameters": {"type": "dict", "properties": properties, "required": []}}


def right(kind, value, accepted, items=None):
    spec = {"type": kind} | ({"items": {"type": items}} if items else {})
    return not call_mismatch(described(x=spec), {"name": "f", "arguments": {"x": value}}, {"x": accepted})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


class TestValues:
    @pytest.mark.parametrize(
        ("kind", "value", "accepted", "fits"),
        [
            ("integer", 5, [5], True),
            ("integer", 5.0, [5], False),  # a whole float is no integer
            ("integer", True, [1], False),
            ("integer", "5", [5], False),
            ("float", 5, [5.0], True),  # but an integer is a float
            ("float", 5, [5], True),
            ("float", 5.5, [5.0], False),
            ("boolean", True, [True], True),
            ("boolean", "true", [True], False),
            ("string", "April 1, 2024", ["april 1 2024"], True),
            ("string", "New-York_City", ["New York/City*"], True),
            ("string", "it's", ['it"s'], True),
            ("string", "Boston", ["Bostonn"], False),
            ("string", "", ["", "x"], True),
            ("any", "x", ["X"], True),
            ("string", 7, [7], True),  # not of the described type, but of the accepted one: BFCL takes it for a variable
            ("integer", "n", ["n"], True),
            ("integer", "N", ["n"], False),  # a variable is compared letter by letter
        ],
    )
    def test_plain_ones(self, kind, value, accepted, fits):
        assert right(kind, value, accepted) is fits

    @pytest.mark.parametrize(
        ("items", "value", "accepted", "fits"),
        [
            ("string", ["A, b", "c"], [["a b", "C"]], True),
            ("string", ["c", "a b"], [["a b", "c"]], False),  # lists keep their order
            ("integer", [1, 2], [[1, 2], [3]], True),
            ("integer", [1, "2"], [[1, 2]], False),
            ("float", [1, 2.0], [[1.0, 2.0]], False),  # inside a list an integer is no float
            ("float", [1, 2], [[1, 2]], True),  # unless the accepted list has integers
            ("string", [], [["a"], ""], True),
            ("dict", [{"a": "X"}], [[{"a": ["x", "y"]}]], True),
            ("dict", [{"a": "X"}, {"a": "y"}], [[{"a": ["x", "y"]}]], False),
        ],
    )
    def test_lists(self, items, value, accepted, fits):
        assert right("array", value, accepted, items) is fits

    @pytest.mark.parametrize(
        ("value", "fits"),
        [
            ({"city": "ROME", "n": 1}, True),
            ({"city": "Rome"}, True),  # n may be left out
            ({"n": 1}, False),
            ({"city": "Rome", "n": 2}, False),
            ({"city": "Rome", "zip": 1}, False),
            ("Rome", False),
        ],
    )
    def test_dictionaries(self, value, fits):
        assert right("dict", value, [{"city": ["Rome"], "n": [1, ""]}]) is fits

    @settings(max_examples=40, deadline=None)
    @given(JSON)
    def test_nothing_that_a_model_writes_breaks_it(self, value):
        for kind, items in (("array", "dict"), ("array", "string"), ("dict", None), ("string", None), ("float", None)):
            right(kind, value, [[{"a": ["x"]}], {"a": ["x"]}, "", "x", 1.5], items)


ANSWER = {"weather.get": {"city": ["Rome"], "days": ["", 2], "limits": [""], "where": [""]}}


class TestCalls:
    def why(self, *calls):
        return mismatch([WEATHER], calls, [ANSWER])

    def test_names_have_underscores_for_dots(self):
        assert self.why({"name": "weather_get", "arguments": {"city": "rome"}}) == ""
        assert self.why({"name": "weather.get", "arguments": {"city": "rome"}}) == "'weather.get' is not 'weather_get'"

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({}, "'city' is missing"),
            ({"city": "Rome", "unit": "C"}, "'unit' is unexpected"),
            ({"city": "Rome", "days": 3}, "'days' is 3, not one of"),
            ({"city": ["Rome"]}, "'city' is list, not string"),
            ("Rome", "not an object"),
        ],
    )
    def test_why_a_call_is_wrong(self, arguments, words):
        assert words in self.why({"name": "weather_get", "arguments": arguments})

    def test_what_may_not_be_left_out(self):
        wanted = {"weather.get": {"city": ["Rome"], "days": [2]}}
        call = {"name": "weather_get", "arguments": {"city": "Rome"}}
        assert mismatch([WEATHER], [call], [wanted]) == "'days' is missing and may not be left out"

    def test_the_number_of_calls(self):
        call = {"name": "weather_get", "arguments": {"city": "Rome"}}
        assert self.why() == "0 call(s) instead of 1"
        assert self.why(call, call) == "2 call(s) instead of 1"

    def test_a_function_that_is_not_described(self):
        assert mismatch([], [{"name": "x", "arguments": {}}], [ANSWER]) == "the task describes no function 'weather.get'"


class TestSuite:
    def test_what_the_agent_sees(self, suite):
        made = suite("simple_python")
        one = made.tasks[0]
        tool = made.open(one).tools[0]
        assert tool == as_tool(WEATHER)
        assert tool["name"] == "weather_get"
        properties = tool["parameters"]["properties"]
        assert tool["parameters"]["type"] == properties["where"]["type"] == "object"
        assert properties["limits"]["items"] == {"type": "number"}
        assert properties["days"] == {"type": "integer", "description": "How many days.", "default": 1}
        assert made.user(one, 0).opens().text == "Answer in calls.\n\nHow is the weather in Rome?"

    @pytest.mark.parametrize(("category", "calls"), [("simple_python", 1), ("parallel", 2)])
    def test_the_reference_is_right_and_no_call_is_wrong(self, suite, category, calls):
        made = suite(category)
        one = made.tasks[0]
        assert one.slices["calls"] == str(calls)
        assert made.judge(one, reference(made, one)).success
        found = made.judge(one, idle(made, one))
        assert (found.success, found.detail) == (False, f"0 call(s) instead of {calls}")

    def test_parallel_calls_in_any_order(self, suite):
        made = suite("parallel")
        one = made.tasks[0]
        assert made.judge(one, replay(made, one, [(one.actions[::-1], "")])).success

    def test_only_the_first_answer_counts(self, suite):
        made = suite("parallel")
        one = made.tasks[0]
        late = tuple(Message("assistant", "", tool_calls=(call,)) for call in one.actions)
        assert not made.judge(one, Episode(one.id, 0, (Message("user", "?"), *late), "user")).success

    def test_irrelevance_wants_no_call(self, suite):
        made = suite("irrelevance")
        one = made.tasks[0]
        assert made.judge(one, idle(made, one)).success
        called = replay(made, one, [([{"name": "weather_get", "arguments": {"city": "Rome"}}], "")])
        assert made.judge(one, called).detail == "called: weather_get"

    def test_calls_are_taken_down(self, suite):
        made = suite("irrelevance")
        environment = made.open(made.tasks[0])
        assert environment.state() == ""
        assert environment.call("nothing", {}).error
        assert not environment.call("weather_get", {"city": "Rome"}).error
        assert environment.state() != ""

    def test_an_agent_without_an_answer(self, suite):
        made = suite("irrelevance")
        assert not made.judge(made.tasks[0], Episode("irrelevance_0", 0, (), "agent-error", error="down")).success
        assert made.judge(made.tasks[0], Episode("irrelevance_0", 0, (), "user-error", fault="x")).checks == {}

    def test_a_category_is_no_other_that_ends_like_it(self, tmp_path):
        for name in ("parallel_multiple", "live_multiple"):
            (tmp_path / f"BFCL_v4_{name}.jsonl").write_text("", encoding="utf-8")
        with pytest.raises(UserError, match="no file BFCL_v\\*_multiple"):
            bfcl(BfclConfig(path=str(tmp_path), category="multiple"), SuiteContext())

    def test_files_that_are_not_there(self, suite, tmp_path):
        with pytest.raises(UserError, match="BFCL_v\\*_multiple"):
            suite("multiple")
        with pytest.raises(UserError, match="no files"):
            bfcl(BfclConfig(path=str(tmp_path)), SuiteContext())
        (tmp_path / "BFCL_v4_simple_python.json").write_text('[\n{"id": 1}]\n', encoding="utf-8")
        with pytest.raises(DataError, match="JSON lines"):
            bfcl(BfclConfig(path=str(tmp_path)), SuiteContext())

    def test_an_answer_that_is_not_there(self, tmp_path):
        write_bfcl(tmp_path)
        (tmp_path / "bfcl_eval" / "data" / "possible_answer" / "BFCL_v4_simple_python.json").write_text("", encoding="utf-8")
        with pytest.raises(DataError, match="no possible answer for simple_python_0"):
            bfcl(BfclConfig(path=str(tmp_path)), SuiteContext())


CREATE = {"name": "create", "arguments": {"title": "broken"}}
SHOW = {"name": "show", "arguments": {"number": 7}}
CLOSE = {"name": "close", "arguments": {"number": 7}}


class TestTurns:
    @pytest.fixture
    def made(self, suite, tmp_path, monkeypatch):
        folder = tmp_path / "bfcl_eval" / "eval_checker" / "multi_turn_eval" / "func_source_code"
        folder.mkdir(parents=True)
        for package in (folder, *folder.parents[:3]):
            (package / "__init__.py").write_text("", encoding="utf-8")
        (folder / "ticket_api.py").write_text(TICKETS, encoding="utf-8")
        for name in [name for name in sys.modules if name.split(".")[0] == "bfcl_eval"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.syspath_prepend(str(tmp_path))
        yield suite("multi_turn_base")
        for name in [name for name in sys.modules if name.split(".")[0] == "bfcl_eval"]:
            del sys.modules[name]

    def outcome(self, made, *turns):
        one = made.tasks[0]
        return made.judge(one, replay(made, one, [(calls, "Done.") for calls in turns]))

    def test_the_reference(self, made):
        one = made.tasks[0]
        assert made.expected(one) == [[CREATE], [SHOW, CLOSE]]
        assert made.judge(one, reference(made, one)).checks == {"calls": True, "state": True, "answers": True}

    @pytest.mark.parametrize(
        ("turns", "checks", "why"),
        [
            ([], {"calls": False}, "turn 1: no call"),
            ([[CREATE]], {"calls": False}, "turn 2: no call"),
            ([[CREATE], [CLOSE]], {"answers": False}, 'turn 2: no call answered {"title": "broken", "open": true}'),
            ([[CREATE], [SHOW]], {"state": False}, "turn 2: the state of TicketAPI is another one"),
            ([[CREATE, CREATE]], {"state": False}, "turn 1: the state of TicketAPI is another one"),
        ],
    )
    def test_what_is_wrong_with_a_turn(self, made, turns, checks, why):
        found = self.outcome(made, *turns)
        assert (found.checks, found.detail) == (checks, why)

    def test_what_was_asked_for_early_need_not_be_asked_for_again(self, made):
        assert self.outcome(made, [CREATE, SHOW], [CLOSE]).success

    def test_what_a_class_does_with_its_arguments_does_not_change_the_conversation(self, made):
        given = {"title": ["a"]}
        made.open(made.tasks[0]).call("create", given)
        assert given == {"title": ["a"]}

    def test_hidden_and_private_functions_cannot_be_called(self, made):
        environment = made.open(made.tasks[0])
        assert [tool["name"] for tool in environment.tools] == ["create", "show", "close"]
        for name in ("secret", "_load_scenario", "__init__"):
            assert environment.call(name, {}).error
        assert environment.call("show", {"number": 3}).content == "Error during execution: 3"
        assert environment.call("show", {"count": 3}).error
        before = environment.state()
        assert environment.call(**CREATE).content == '{"number": 7}'
        assert environment.state() != before

    def test_without_the_classes(self, suite, monkeypatch):
        monkeypatch.setitem(sys.modules, "bfcl_eval", None)
        with pytest.raises(MissingDependency, match="pip install --no-deps bfcl-eval mpmath"):
            suite("multi_turn_base")

    @pytest.mark.parametrize("call", ["__import__('os').system('x')", "f(open('x'))", "f", "f(", "a.b()"])
    def test_expected_calls_are_read_and_never_run(self, call):
        with pytest.raises(DataError, match="cannot be read"):
            parsed(call)


# Two tasks demand a list and accept no value of it, so that no call can be right.
HOPELESS = {"live_simple_106-63-0", "live_simple_112-68-0"}
SINGLE = {"simple_python": 400, "multiple": 200, "parallel": 200, "parallel_multiple": 200, "live_simple": 258, "irrelevance": 240}


@pytest.mark.parametrize(("category", "count"), SINGLE.items())
def test_the_real_tasks(shared_data, category, count):
    made = bfcl(BfclConfig(path=str(shared_data / "bfcl"), category=category), SuiteContext())
    assert len(made.tasks) == count
    played = {one.id: made.judge(one, reference(made, one)) for one in made.tasks}
    assert {key for key, found in played.items() if not found.success} == (HOPELESS if category == "live_simple" else set())
    still = sum(made.judge(one, idle(made, one)).success for one in made.tasks)
    assert still == (count if category == "irrelevance" else 0)


def test_the_real_conversations(shared_data):
    pytest.importorskip("bfcl_eval", reason="multi_turn_base runs on the classes of bfcl-eval, which is not installed")
    made = bfcl(BfclConfig(path=str(shared_data / "bfcl"), category="multi_turn_base"), SuiteContext())
    assert len(made.tasks) == 200
    assert {one.id for one in made.tasks if not made.judge(one, reference(made, one)).success} == set()
    assert not any(made.judge(one, idle(made, one)).success for one in made.tasks)


def test_reference_calls_leave_out_what_can_only_be_left_out():
    accepted = {"x": [""], "y": ["", 2], "z": [{"k": ["", "v"], "l": [""]}], "w": [[{"k": [1]}]], "r": [""], "s": [""], "odd": ["", 1]}
    described = {key: {"type": "string"} for key in "xyzwr"} | {"s": {"type": "array"}}
    function = {"name": "a.b", "parameters": {"properties": described, "required": ["r", "s"]}}
    made = {"y": 2, "z": {"k": "v"}, "w": [{"k": 1}], "r": "", "s": []}
    assert reference_calls([function], [{"a.b": accepted}]) == [{"name": "a_b", "arguments": made}]
