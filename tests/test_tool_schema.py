"""Whether a call fits a tool: our part of JSON schema agrees with the library, and what is wrong is said so that a model can act on it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.tool_schema import check_call, fits

ORDER = {
    "name": "refund",
    "description": "Pay back",
    "parameters": {
        "type": "object",
        "properties": {
            "order": {"type": "string", "pattern": "^A[0-9]+$"},
            "sum": {"type": "number", "minimum": 0},
            "reason": {"type": "string", "enum": ["late", "broken"]},
            "items": {"type": "array", "items": {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}},
        },
        "required": ["order"],
    },
}
BARE = {"type": "function", "function": {"name": "now", "description": "The time"}}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"order": "A1", "sum": 3, "reason": "late", "items": [{"id": 1, "more": True}]}, ""),
        ({"sum": 3}, "'order' is missing"),
        ({"order": 17}, "'order' must be string, not 17"),
        ({"order": "17"}, "'order' must be a text that matches ^A[0-9]+$, not \"17\""),
        ({"order": "A1", "sum": -1}, "'sum' must be at least 0, not -1"),
        ({"order": "A1", "sum": True}, "'sum' must be number, not true"),
        ({"order": "A1", "reason": "迟到"}, '\'reason\' must be one of "late", "broken", not "迟到"'),
        ({"order": "A1", "items": [{"id": 1}, {}]}, "'items[1].id' is missing"),
        ({"order": "A1", "items": [{"id": "x"}]}, "'items[0].id' must be integer, not \"x\""),
        ({"order": "A1", "ordr": 1}, "there is no 'ordr' (did you mean 'order'?)"),
    ],
)
def test_arguments(arguments: dict, problem: str) -> None:
    found = check_call({"name": "refund", "arguments": arguments}, [ORDER, BARE])
    assert found == (problem and f"the arguments of 'refund' do not fit: {problem}")


def test_names() -> None:
    assert check_call({"name": "refnd", "arguments": {}}, [ORDER, BARE]) == "there is no function 'refnd' (did you mean 'refund'?)"
    assert check_call({"name": "x", "arguments": {}}, []) == "there is no function 'x'"
    assert check_call({"name": "now", "arguments": {}}, [ORDER, BARE]) == ""
    assert "must be an object" in check_call({"name": "now", "arguments": [1]}, [BARE])


def test_additional_arguments_are_allowed_where_the_schema_says_so() -> None:
    open_ = {"name": "f", "parameters": {"type": "object", "properties": {}, "additionalProperties": {"type": "integer"}}}
    assert check_call({"name": "f", "arguments": {"a": 1}}, [open_]) == ""
    assert "'a' must be integer" in check_call({"name": "f", "arguments": {"a": "x"}}, [open_])


_NAMES = st.sampled_from(["a", "b", "c"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0]) | st.text("ab中", max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_NAMES, inner, max_size=2),
    max_leaves=5,
)
_TYPES = st.sampled_from(["object", "array", "string", "boolean", "null", "number", "integer"])


def _with(inner: st.SearchStrategy) -> st.SearchStrategy:
    return st.fixed_dictionaries(
        {},
        optional={
            "type": _TYPES | st.lists(_TYPES, min_size=1, max_size=2, unique=True),
            "enum": st.lists(st.integers(-1, 1) | st.text("ab", max_size=1), min_size=1, max_size=2),
            "properties": st.dictionaries(_NAMES, inner, max_size=2),
            "required": st.lists(_NAMES, max_size=2, unique=True),
            "additionalProperties": st.booleans() | inner,
            "items": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "oneOf": st.lists(inner, min_size=1, max_size=2),
            "allOf": st.lists(inner, min_size=1, max_size=2),
            "minimum": st.integers(-2, 2),
            "exclusiveMaximum": st.integers(-2, 2),
            "minLength": st.integers(0, 2),
            "maxItems": st.integers(0, 2),
            "pattern": st.sampled_from(["a", "^b$", "中"]),
        },
    )


@settings(max_examples=300, deadline=None)
@given(value=_VALUES, schema=st.recursive(st.just({}), _with, max_leaves=4))
def test_it_agrees_with_the_library(value: object, schema: dict) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="the library to compare with is not installed")
    assert fits(value, schema) == jsonschema.Draft202012Validator(schema).is_valid(value)
