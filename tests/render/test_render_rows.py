"""Rows for the trainer: the overflow policies, and that nothing disappears without being counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from chat_families import talk, tokenizer

from agentft.contracts import DataContext
from agentft.errors import DataError
from agentft.records import Example, Message
from agentft.render import Renderer, RowsReport, read_rows, render_rows, show_mask

SYSTEM = "You are Ada."
SHORT = talk("Hi", "Hello.", id="short")
LONG = talk("Q0 why", "A0 " + "so " * 20, "Q1 why", "A1 " + "so " * 20, "Q2 why", "A2 " + "so " * 20, id="long", group="customer-7")
LONE = talk("Q0 why", "A0 " + "so " * 200, id="lone")
OTHERS = [talk("Hi", "Hello.", id=f"other-{number}") for number in range(10)]


def tokens(name: str, *texts: str) -> int:
    return max(len(row.input_ids) for row in Renderer(tokenizer(name), SYSTEM).training(talk(*texts)))


def render(
    tmp_path: Path, examples: list[Example], name: str = "smollm2", **options: Any
) -> tuple[RowsReport, list[dict[str, Any]], DataContext]:
    ctx = DataContext()
    options = {"max_length": 10_000, "overflow": "error", **options}
    report = render_rows(Renderer(tokenizer(name), SYSTEM), examples, tmp_path / "rows.jsonl", ctx=ctx, **options)
    return report, list(read_rows(tmp_path / "rows.jsonl")), ctx


def learned(row: dict[str, Any], name: str = "smollm2") -> str:
    return tokenizer(name).decode([label for label in row["labels"] if label != -100])


def read(row: dict[str, Any], name: str = "smollm2") -> str:
    return tokenizer(name).decode(row["input_ids"])


def test_rows_and_report(tmp_path: Path) -> None:
    report, rows, ctx = render(tmp_path, [SHORT, LONG])
    assert [(row["id"], row["group"]) for row in rows] == [("short", "short"), ("long", "customer-7")]
    assert all(len(row["input_ids"]) == len(row["labels"]) for row in rows)
    assert (report.rows_in, report.rows_out) == (2, 2)
    assert report.tokens == sum(len(row["input_ids"]) for row in rows)
    assert report.longest == max(len(row["input_ids"]) for row in rows)
    assert report.supervised_tokens == sum(label != -100 for row in rows for label in row["labels"])
    assert (report.mode, report.system_mode, report.drops, ctx.drops) == ("joint", "system", {}, {})
    assert (
        report.sample
        == "<|im_start|>system\nYou are Ada.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n⟦Hello.<|im_end|>⟧"
    )
    assert report.to_dict()["rows_out"] == 2


def test_show_mask_reads_the_labels_and_not_the_spans() -> None:
    from dataclasses import replace

    renderer = Renderer(tokenizer("smollm2"))
    row = renderer.training(talk("Hi", "Hello."))[0]
    assert "⟦" not in show_mask(renderer, replace(row, labels=[-100] * len(row.labels)))


def test_a_row_without_supervision_is_dropped_and_counted(tmp_path: Path) -> None:
    prompt = talk("Nobody answers", id="prompt")
    untaught = Example("untaught", (Message("user", "Hi"), Message("assistant", "Hello.", train=False)))
    report, rows, ctx = render(tmp_path, [*OTHERS, prompt, untaught])
    assert len(rows) == len(OTHERS)
    assert report.drops == ctx.drops == {"nothing is supervised": 2}
    assert [drop["where"] for drop in ctx.dropped] == ["prompt", "untaught"]


def test_a_row_that_cannot_be_rendered_is_dropped_with_the_reason(tmp_path: Path) -> None:
    odd = Example("odd", (Message("user", "Hi"), Message("user", "Are you there?"), Message("assistant", "Yes.")))
    report, rows, ctx = render(tmp_path, [*OTHERS, odd], name="gemma")
    assert len(rows) == len(OTHERS)
    assert list(report.drops.values()) == [1] and "must alternate" in next(iter(report.drops))
    assert ctx.dropped[0]["where"] == "odd"


def test_too_many_drops_stop_the_job(tmp_path: Path) -> None:
    prompts = [talk("Nobody answers", id=f"p{number}") for number in range(3)]
    assert render(tmp_path, [*OTHERS, *prompts[:2]])[0].rows_out == 10
    with pytest.raises(DataError, match=r"3 of 13 rows would be dropped, more than 20%: 3 x nothing is supervised"):
        render(tmp_path, [*OTHERS, *prompts])
    assert render(tmp_path, [*OTHERS, *prompts], max_dropped=0.5)[0].rows_out == 10


def test_no_examples_give_an_empty_file(tmp_path: Path) -> None:
    report, rows, _ = render(tmp_path, [])
    assert (report.rows_in, report.rows_out, rows, report.sample) == (0, 0, [], "")


def test_error_names_the_rows_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"2 rows are longer than max_length 60, in tokens: lone \(\d+\), long \(\d+\); raise max_length or .*split"
    ):
        render(tmp_path, [SHORT, LONG, LONE], max_length=60)


def test_drop_counts_by_reason_with_ids_and_lengths(tmp_path: Path) -> None:
    report, rows, ctx = render(tmp_path, [*OTHERS, LONG], max_length=60, overflow="drop")
    assert len(rows) == 10
    assert report.drops == {"longer than 60 tokens": 1}
    assert ctx.dropped[0]["where"].startswith("long: ") and ctx.dropped[0]["where"].endswith(" tokens")


@pytest.mark.parametrize("name", ["smollm2", "gemma", "qwen3"])
def test_truncate_turns_keeps_the_persona_and_the_last_exchanges(tmp_path: Path, name: str) -> None:
    two = tokens(name, "Q1 why", LONG.messages[3].content, "Q2 why", LONG.messages[5].content)
    report, rows, _ = render(tmp_path, [LONG], name, max_length=two, overflow="truncate_turns")
    last = rows[-1]
    assert SYSTEM in read(last, name)
    assert "Q0" not in read(last, name) and "Q1" in read(last, name) and "A2" in learned(last, name)
    if name == "qwen3":  # one row per turn: only the last one's history is cut, and no turn is lost
        assert [row["id"] for row in rows] == ["long#1", "long#2", "long#3"]
        assert (report.truncated, report.turns_cut) == (1, 0)
    else:
        assert [row["id"] for row in rows] == ["long"]
        assert "A1" in learned(last, name)
        assert (report.truncated, report.turns_cut) == (1, 1)


def test_an_own_system_message_is_kept_when_turns_are_cut(tmp_path: Path) -> None:
    own = Example("own", (Message("system", "Today is a holiday."), *LONG.messages))
    for overflow in ("truncate_turns", "split"):
        _, rows, _ = render(tmp_path, [own], max_length=160, overflow=overflow)
        assert len(rows) == (1 if overflow == "truncate_turns" else 2)
        assert all("Today is a holiday." in read(row) for row in rows)


@pytest.mark.parametrize("overflow", ["truncate_turns", "split"])
def test_a_single_turn_that_is_too_long_is_dropped(tmp_path: Path, overflow: str) -> None:
    report, rows, ctx = render(tmp_path, [*OTHERS, LONE], max_length=100, overflow=overflow)
    assert len(rows) == 10
    assert report.drops == {"longer than 100 tokens, even its last exchange alone": 1}
    assert ctx.dropped[0]["where"].startswith("lone: ")


def test_split_learns_each_turn_once_with_the_exchange_before_as_context(tmp_path: Path) -> None:
    two = tokens("smollm2", "Q1 why", LONG.messages[3].content, "Q2 why", LONG.messages[5].content)
    report, rows, _ = render(tmp_path, [LONG], max_length=two, overflow="split")
    assert [row["id"] for row in rows] == ["long#1", "long#2"]
    assert report.split == 1 and not report.drops
    assert "A0" in learned(rows[0]) and "A1" in learned(rows[0]) and "A2" not in read(rows[0])
    assert "Q1" in read(rows[1]) and "A1" in read(rows[1]) and "A1" not in learned(rows[1]) and "A2" in learned(rows[1])
    one = tokens("smollm2", "Q1 why", LONG.messages[3].content)
    _, rows, _ = render(tmp_path, [LONG], max_length=one, overflow="split")
    assert [f"A{number}" in learned(row) for number, row in enumerate(rows)] == [True] * 3


def test_split_counts_the_exchange_that_fits_nowhere(tmp_path: Path) -> None:
    mixed = talk("Q0 why", "A0.", "Q1 why", "A1 " + "so " * 200, "Q2 why", "A2.", id="mixed")
    report, rows, _ = render(tmp_path, [*OTHERS, mixed], max_length=100, overflow="split")
    assert report.drops == {"an exchange longer than 100 tokens": 1}
    assert "".join(learned(row) for row in rows[10:]) == "A0.<|im_end|>A2.<|im_end|>"


def test_an_exchange_with_a_tool_call_stays_together(tmp_path: Path) -> None:
    call = Message("assistant", "", tool_calls=({"name": "look_up", "arguments": {"order": "A17"}},))
    example = Example(
        "t", (*talk("Q0", "A0 " + "so " * 20).messages, Message("user", "Q1"), call, Message("tool", "sent"), Message("assistant", "A1."))
    )
    _, rows, _ = render(tmp_path, [example], "qwen2_5", max_length=110, overflow="truncate_turns")
    assert "Q0" not in read(rows[0], "qwen2_5")
    assert all(part in read(rows[0], "qwen2_5") for part in ("Q1", "look_up", "sent", "A1."))


def test_typed_control_tokens_are_counted(tmp_path: Path) -> None:
    report, _, _ = render(tmp_path, [SHORT, talk("<|im_end|>", "Hello.")])
    assert report.disarmed == 1


def test_unicode_ids_are_written_as_they_are(tmp_path: Path) -> None:
    _, rows, _ = render(tmp_path, [talk("你好", "您好。", id="客户-1")])
    assert rows[0]["id"] == rows[0]["group"] == "客户-1"
    assert "客户-1" in (tmp_path / "rows.jsonl").read_text("utf-8")
