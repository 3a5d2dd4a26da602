"""Weights of messages: from the record to the row, whatever happens to the conversation on the way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from chat_families import talk, tokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentft.contracts import DataContext
from agentft.errors import DataError
from agentft.records import MAX_WEIGHT, Example, Message
from agentft.render import Renderer, read_rows, render_rows, show_mask

MIXED = Example(
    "mixed",
    (
        Message("user", "退款多久到账？"),
        Message("assistant", "稍等。", train=0.25),
        Message("user", "Fine"),
        Message("assistant", "Ignore this.", train=False),
        Message("user", "And now?"),
        Message("assistant", "五个工作日。"),
        Message("user", "Thanks"),
        Message("assistant", "Bye.", train=3),
    ),
)


def written(tmp_path: Path, examples: list[Example], name: str = "smollm2", **options):
    out = tmp_path / "rows.jsonl"
    options = {"max_length": 10_000, "overflow": "error", **options}
    report = render_rows(Renderer(tokenizer(name), "Be brief."), examples, out, ctx=DataContext(), **options)
    return report, out


def said_by_weight(rows, name="smollm2"):
    """``{weight: text}`` of what is learned."""
    found: dict[float, str] = {}
    for row in rows:
        weights = row.get("weights", [1.0] * len(row["labels"]))
        assert len(weights) == len(row["labels"]) == len(row["input_ids"])
        assert all(weight == 1 for weight, label in zip(weights, row["labels"], strict=True) if label == -100)
        for weight in set(weights):
            ids = [label for label, one in zip(row["labels"], weights, strict=True) if one == weight and label != -100]
            if ids:
                found[weight] = found.get(weight, "") + tokenizer(name).decode(ids)
    return found


@pytest.mark.parametrize("name", ["smollm2", "gemma", "qwen3"])
def test_each_message_has_its_weight_with_its_stop_token(tmp_path, name):
    report, out = written(tmp_path, [MIXED, talk("Hi", "Hello.", id="plain")], name)
    rows = list(read_rows(out))
    found = said_by_weight(rows, name)
    assert set(found) == {0.25, 1.0, 3.0}
    assert "稍等。" in found[0.25] and "五个工作日。" in found[1.0] and "Hello." in found[1.0] and "Bye." in found[3.0]
    assert "Ignore" not in "".join(found.values())
    stop = Renderer(tokenizer(name)).template.stop.text
    assert all(stop in text for text in found.values())
    assert "weights" not in rows[-1]
    assert sum(report.weights.values()) == report.supervised_tokens and list(report.weights) == ["0.25", "1", "3"]


def test_the_preview_shows_weights(tmp_path):
    report, _ = written(tmp_path, [MIXED])
    assert "⟦0.25 × 稍等。<|im_end|>⟧" in report.sample and "⟦五个工作日。<|im_end|>⟧" in report.sample
    assert "⟦3 × Bye.<|im_end|>⟧" in report.sample


@pytest.mark.parametrize("overflow", ["split", "truncate_turns"])
def test_conversations_that_are_cut_keep_the_weights(tmp_path, overflow):
    renderer = Renderer(tokenizer("smollm2"), "Be brief.")
    size = len(renderer.training(MIXED)[0].input_ids)
    _, out = written(tmp_path, [MIXED], max_length=size - 1, overflow=overflow)
    found = said_by_weight(list(read_rows(out)))
    assert "Bye." in found[3.0] and "五个工作日。" in found[1.0]
    assert (0.25 in found) == (overflow == "split")


def test_a_row_without_weights_is_written_as_ever(tmp_path):
    """The very bytes of a row from before there were weights."""
    _, out = written(tmp_path, [talk("Hi", "Hello.", id="a", group="g")])
    row = Renderer(tokenizer("smollm2"), "Be brief.").training(talk("Hi", "Hello."))[0]
    expected = {"id": "a", "group": "g", "input_ids": row.input_ids, "labels": row.labels}
    assert out.read_text("utf-8") == json.dumps(expected, separators=(",", ":")) + "\n"


ONES = st.sampled_from([None, True, 1, 1.0])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12), ONES), min_size=1, max_size=4))
def test_weights_of_1_change_not_one_byte(tmp_path, turns):
    said = [(user, answer) for user, answer, _ in turns]
    plain = Example("x", tuple(Message(role, text) for pair in said for role, text in zip(("user", "assistant"), pair, strict=True)))
    ones = iter([train for _, _, train in turns])
    same = replace(plain, messages=tuple(replace(m, train=next(ones)) if m.role == "assistant" else m for m in plain.messages))
    before = written(tmp_path, [plain])[1].read_bytes()
    report, out = written(tmp_path, [same])
    assert out.read_bytes() == before and report.weights == {}


@given(st.floats(0, MAX_WEIGHT))
def test_a_weight_survives_json_and_is_a_flag_at_its_ends(weight):
    message = Message.from_dict({"role": "assistant", "content": "x", "train": weight})
    assert Message.from_dict(json.loads(json.dumps(message.to_dict()))) == message
    assert message.weight == weight and message.supervised == (weight > 0)
    assert message.weighted == (weight not in (0, 1))


@given(st.one_of(st.floats(max_value=-1e-9), st.floats(min_value=10.001), st.just(float("nan")), st.text(), st.lists(st.floats())))
def test_anything_else_is_refused(value):
    with pytest.raises(DataError, match="'train' must be true, false or a weight from 0 to 10"):
        Message.from_dict({"role": "assistant", "content": "x", "train": value})
    with pytest.raises(DataError):
        Message("assistant", "x", train=value)


def test_show_mask_cuts_where_the_weight_changes():
    renderer = Renderer(tokenizer("smollm2"))
    row = renderer.training(talk("Hi", "Hello."))[0]
    first = next(i for i, label in enumerate(row.labels) if label != -100)
    weights = [2.0 if i == first else 1.0 for i in range(len(row.labels))]
    assert "⟦2 × H⟧⟦ello.<|im_end|>⟧" in show_mask(renderer, replace(row, weights=weights))


@pytest.mark.parametrize("name", ["glaive_toolcall_zh_demo.json", "identity.json"])
def test_real_conversations_with_weights(tmp_path, shared_data, name):
    """Published conversations, their tool calls weighted down: every token has the weight of its message, and nothing else changes."""
    from agentft.data.chats import ChatsConfig, read_chats

    rows = json.loads((shared_data / "llamafactory_demo" / name).read_text("utf-8"))[:30]
    plain = list(read_chats(ChatsConfig(path=str(_saved(tmp_path, rows))), DataContext()))
    for row in rows:
        for turn in row.get("conversations", []):
            if turn["from"] == "function_call":
                turn["weight"] = 0.25
    weighted = list(read_chats(ChatsConfig(path=str(_saved(tmp_path, rows))), DataContext()))
    before = list(read_rows(written(tmp_path, plain, "qwen3")[1]))
    report, out = written(tmp_path, weighted, "qwen3")
    after = list(read_rows(out))
    assert [{key: row[key] for key in ("id", "input_ids", "labels")} for row in after] == [
        {key: row[key] for key in ("id", "input_ids", "labels")} for row in before
    ]
    if name == "identity.json":
        assert after == before and not report.weights
    else:
        found = said_by_weight(after, "qwen3")
        assert set(found) == {0.25, 1.0} and found[0.25].count("<tool_call>") > 20 and "<tool_call>" not in found[1.0]


def _saved(folder: Path, rows: list[dict]) -> Path:
    path = folder / "chats.json"
    path.write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    return path
