"""Weights of messages in files: what is read, what is refused and where, and what becomes of duplicates."""

from __future__ import annotations

import json

import pytest

from agentft.contracts import DataContext
from agentft.data.card import Card, Weights, card_text
from agentft.data.chats import ChatsConfig, read_chats
from agentft.data.dedup import dedup
from agentft.data.files import JsonlConfig, read_jsonl
from agentft.data.preferences import PreferencesConfig, read_preferences
from agentft.data.prepare import Step, prepare
from agentft.errors import DataError
from agentft.records import Example, Message, Preference

ASKED = {"role": "user", "content": "退款多久到账？"}


def file(tmp_path, *rows):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)}\n" for row in rows), "utf-8")
    return path


def answer(**keys):
    return {"role": "assistant", "content": "五个工作日。", **keys}


def chats(tmp_path, *rows, **options):
    file(tmp_path, *rows)
    return list(read_chats(ChatsConfig(path="a.jsonl", **options), DataContext(base=tmp_path)))


GIVEN = [
    ({}, 1), ({"weight": 0}, 0), ({"weight": 1}, 1), ({"weight": 0.3}, 0.3), ({"train": 0.3}, 0.3), ({"train": True, "weight": 0.3}, 0.3),
    ({"train": 0.3, "weight": 1}, 0.3), ({"train": False, "weight": 0.3}, 0), ({"train": True, "weight": 0}, 0), ({"weight": None}, 1),
    ({"train": 2, "weight": 2.0}, 2), ({"train": True}, 1), ({"train": False}, 0),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "weight"), GIVEN)
@pytest.mark.parametrize("shape", ["openai", "sharegpt"])
def test_chats_take_train_and_weight(tmp_path, keys, weight, shape):
    turns = [{"from": "human", "value": "退款？"}, {"from": "gpt", "value": "好。", **keys}]
    row = {"messages": [ASKED, answer(**keys)]} if shape == "openai" else {"conversations": turns}
    (found,) = chats(tmp_path, row)
    assert found.messages[-1].weight == weight and found.messages[-1].supervised == (weight > 0)


BAD = [
    ({"weight": -1}, "message key 'weight' must be true, false or a weight from 0 to 10, not -1"),
    ({"weight": "high"}, "not 'high'"),
    ({"weight": 11}, "not 11"),
    ({"train": [1]}, "message key 'train' must be"),
    ({"train": 0.3, "weight": 0.4}, "'train' and 'weight' of a message differ: 0.3 and 0.4"),
]


@pytest.mark.parametrize(("keys", "problem"), BAD)
def test_bad_weights_are_named_with_file_and_line(tmp_path, keys, problem):
    with pytest.raises(DataError) as caught:
        chats(tmp_path, {"messages": [ASKED, answer()]}, {"messages": [ASKED, answer(**keys)]})
    assert "a.jsonl:2: " in str(caught.value) and problem in str(caught.value)
    assert len(chats(tmp_path, {"messages": [ASKED, answer()]}, {"messages": [ASKED, answer(**keys)]}, on_bad="skip")) == 1


@pytest.mark.parametrize("value", ["-0.1", "NaN", "Infinity", '"high"', '"true"', "[]", "10.5"])
def test_bad_train_in_jsonl_is_named_with_file_and_line(tmp_path, value):
    row = json.dumps({"messages": [ASKED, answer(train="VALUE")]})
    path = file(tmp_path, row.replace('"VALUE"', value))
    with pytest.raises(DataError, match=r"a\.jsonl:1: message key 'train' must be true, false or a weight"):
        list(read_jsonl(JsonlConfig(path=str(path)), DataContext()))


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([{**ASKED, "train": 0.5}, answer()], "only messages of the assistant are learned"),
        ([ASKED, answer(weight=0.5)], "unknown message key 'weight' (here it is called 'train'"),
    ],
)
def test_what_else_is_refused_in_jsonl(tmp_path, messages, problem):
    path = file(tmp_path, {"messages": messages})
    with pytest.raises(DataError) as caught:
        list(read_jsonl(JsonlConfig(path=str(path)), DataContext()))
    assert "a.jsonl:1: " in str(caught.value) and problem in str(caught.value)


HEAVY, LIGHT = answer(train=0.5), {"role": "assistant", "content": "三天。"}
PAIRS = [
    {"prompt": [ASKED], "chosen": [HEAVY], "rejected": [LIGHT]},
    {"prompt": [ASKED, HEAVY, ASKED], "chosen": [LIGHT], "rejected": [answer()]},
    {"chosen": [ASKED, HEAVY, ASKED, LIGHT], "rejected": [ASKED, answer(), ASKED, answer()]},
    {"prompt": [ASKED], "completion": [HEAVY], "label": True},
    {"id": "p", "prompt": {"id": "p", "messages": [ASKED]}, "chosen": HEAVY, "rejected": LIGHT},
    {"id": "p", "prompt": {"id": "p", "messages": [ASKED, HEAVY, ASKED]}, "chosen": LIGHT, "rejected": answer()},
]


@pytest.mark.parametrize("row", PAIRS)
def test_a_weight_in_a_preference_is_an_error_with_file_and_line(tmp_path, row):
    path = file(tmp_path, row)
    with pytest.raises(DataError, match=r"a\.jsonl:1: a message has the weight 0\.5"):
        list(read_preferences(PreferencesConfig(path=str(path)), DataContext()))


def test_flags_in_a_preference_are_still_fine(tmp_path):
    path = file(tmp_path, {"prompt": [ASKED, answer(train=False), ASKED], "chosen": [answer(train=1)], "rejected": [LIGHT]})
    assert len(list(read_preferences(PreferencesConfig(path=str(path)), DataContext()))) == 1


def talk(name, train=None):
    return Example(name, (Message("user", f"Question {name[0]}"), Message("assistant", "An answer", train=train)))


def test_a_preference_of_a_plugin_is_looked_at_too(tmp_path):
    pair = Preference("p", Example("p", (Message("user", "q"),)), Message("assistant", "a", train=0.5), Message("assistant", "b"))
    with pytest.raises(DataError, match=r"acme/pairs: preference 'p': a message has the weight 0\.5"):
        split = {"validation": 0.0, "test": 0.0, "by": "group", "seed": 0}
        prepare(
            tmp_path,
            sources=[Step("acme/pairs", lambda ctx: iter([pair]))],
            transforms=[],
            prompts=[],
            split_options=split,
            max_prompts=None,
            ctx=DataContext(),
        )


def test_duplicates_that_differ_in_weights_only(tmp_path):
    ctx = DataContext()
    kept = list(dedup([talk("a1", 0.5), talk("a2", 0.5), talk("a3"), talk("b1")], None, ctx))
    assert [row.id for row in kept] == ["a1", "b1"]
    assert ctx.drops == {"duplicate": 1, "duplicate with other weights": 1}


def test_the_card_counts_weights_where_there_are_any():
    plain, card = Card(), Card()
    for name in "abc":
        plain.add(talk(name, True))
        card.add(talk(name, 0.5 if name == "a" else None))
    assert "weights" not in plain.to_dict()
    assert card.to_dict()["weights"] == {"0.5": 1, "1": 2}
    assert "weights     0.5 for 1 answers, 1 for 2 answers" in card_text(card.to_dict())


def test_many_different_weights_take_little_room():
    weights = Weights()
    for number in range(1, 20_000):
        weights.add(number / 20_000)
    assert len(weights.counts) < 4000 and len(weights.to_dict()) < 50 and sum(weights.to_dict().values()) == 19_999
    assert all(name.startswith("about ") for name in weights.to_dict())
