"""The source ``chats``: published shapes of conversations, and what is said about rows that do not fit."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentft.contracts import DataContext
from agentft.data.chats import ChatsConfig, conversation, read_chats
from agentft.errors import DataError

ASKED, ANSWERED = {"role": "user", "content": "退款多久到账？"}, {"role": "assistant", "content": "五个工作日。"}


def read(tmp_path, rows, name="a.jsonl", **options):
    text = json.dumps(rows) if name.endswith(".json") else "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    (tmp_path / name).write_text(text, "utf-8")
    ctx = DataContext(base=tmp_path)
    return list(read_chats(ChatsConfig(path=name, **options), ctx)), ctx


def said(example):
    return [(message.role, message.content) for message in example.messages]


SAME = [
    {"messages": [ASKED, ANSWERED]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "退款"}, {"type": "text", "text": "多久到账？"}]}, ANSWERED]},
    {"conversations": [{"from": "human", "value": ASKED["content"]}, {"from": "gpt", "value": ANSWERED["content"]}]},
    {"instruction": ASKED["content"], "input": "", "output": ANSWERED["content"]},
]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_every_shape_gives_the_same_conversation(tmp_path, name):
    rows, ctx = read(tmp_path, SAME, name)
    assert {tuple(said(row)) for row in rows} == {(("user", ASKED["content"]), ("assistant", ANSWERED["content"]))}
    assert [row.id for row in rows] == ["a-1", "a-2", "a-3", "a-4"] and not ctx.drops


def test_alpaca_with_input_system_and_history(tmp_path):
    row = {"instruction": "Translate.", "input": "Hello", "output": "你好", "system": "Be exact.", "history": [["Hi", "Hey"]]}
    (kept,), _ = read(tmp_path, [row])
    turns = [("user", "Hi"), ("assistant", "Hey"), ("user", "Translate.\nHello"), ("assistant", "你好")]
    assert said(kept) == [("system", "Be exact."), *turns]
    (dropped,), _ = read(tmp_path, [row], system="drop")
    assert said(dropped) == turns


def test_weight_0_is_not_learned_and_developer_is_system(tmp_path):
    messages = [{"role": "developer", "content": "Be brief."}, ASKED, {**ANSWERED, "weight": 0}, ASKED, {**ANSWERED, "weight": 1}]
    (row,), _ = read(tmp_path, [{"messages": messages}])
    assert row.messages[0].role == "system" and [message.supervised for message in row.messages] == [False, False, False, False, True]


def test_tool_calls_of_sharegpt(tmp_path):
    tools = json.dumps([{"name": "find", "parameters": {}}])
    turns = [
        ("human", "Where is it?"),
        ("function_call", '{"name": "find", "arguments": {"id": 3}}'),
        ("observation", "{}"),
        ("gpt", "Here."),
    ]
    (row,), _ = read(tmp_path, [{"conversations": [{"from": who, "value": what} for who, what in turns], "tools": tools}])
    assert [message.role for message in row.messages] == ["user", "assistant", "tool", "assistant"]
    assert row.messages[1].tool_calls == ({"name": "find", "arguments": {"id": 3}},) and row.tools[0]["name"] == "find"


def test_columns_and_groups(tmp_path):
    (row,), _ = read(tmp_path, [{"q": "Why?", "reply": "So.", "who": 7}], columns={"instruction": "q", "output": "reply"}, group="who")
    assert said(row) == [("user", "Why?"), ("assistant", "So.")] and row.group == "7"


BAD = [
    ("{nope", "a.jsonl:2: not JSON"),
    ({"text": "x"}, "a.jsonl:2: no conversation in the keys text"),
    ({"conversations": [{"from": "alien", "value": "x"}]}, "a.jsonl:2: unknown speaker 'alien'"),
    ({"conversations": "x"}, "a.jsonl:2: 'conversations' must be a list"),
    ({"conversations": [{"from": "function_call", "value": "{"}]}, "a.jsonl:2: the tool call: not JSON"),
    ({"instruction": "", "output": "x"}, "a.jsonl:2: column 'instruction' is empty"),
    ({"instruction": "x", "output": "y", "history": [["one"]]}, "a.jsonl:2: 'history' must hold pairs"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, ANSWERED]}, "a.jsonl:2: a message with parts of type image_url"),
]


@pytest.mark.parametrize(("row", "problem"), BAD)
def test_bad_rows_are_named_with_their_line_or_counted(tmp_path, row, problem):
    with pytest.raises(DataError) as error:
        read(tmp_path, [SAME[0], row])
    assert problem in str(error.value)
    kept, ctx = read(tmp_path, [SAME[0], row], on_bad="skip")
    assert len(kept) == 1 and ctx.drops == {"row cannot be used": 1}


def test_rows_without_an_answer_are_dropped_and_counted(tmp_path):
    rows = [SAME[0], {"messages": [ASKED]}, {"instruction": "x", "output": " "}, {"conversations": []}]
    kept, ctx = read(tmp_path, rows)
    assert len(kept) == 1 and ctx.drops == {"nothing is answered": 3}


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4), lambda inner: st.lists(inner, max_size=3), max_leaves=6
)
KEYS = st.sampled_from(["messages", "conversations", "instruction", "output", "history", "system", "tools", "input", "id"])


@given(
    st.dictionaries(KEYS, ANYTHING | st.lists(st.dictionaries(st.sampled_from(["from", "value", "role", "content"]), ANYTHING), max_size=2))
)
def test_any_row_is_a_conversation_or_a_data_error(row):
    with contextlib.suppress(DataError):
        assert conversation(row, "x", ChatsConfig(path="x")).messages


@pytest.mark.parametrize("name", ["glaive_toolcall_en_demo.json", "glaive_toolcall_zh_demo.json", "identity.json"])
def test_published_files_are_read_to_the_last_row(shared_data, name):
    path = shared_data / "llamafactory_demo" / name
    ctx = DataContext(base=path.parent)
    rows = list(read_chats(ChatsConfig(path=name), ctx))
    assert len(rows) + sum(ctx.drops.values()) == len(json.loads(path.read_text("utf-8"))) and len(rows) > 80
    if "glaive" in name:
        assert sum(bool(message.tool_calls) for row in rows for message in row.messages) > 200
