"""The data stage: nothing is lost silently, nothing that is asked was seen, groups stay together."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentft.contracts import DataContext
from agentft.data.dedup import dedup
from agentft.data.filtering import FilterConfig, filter_rows
from agentft.data.jsonl import read_examples
from agentft.data.normalize import normalize, normalize_text
from agentft.data.prepare import Step, prepare
from agentft.data.split import split
from agentft.errors import DataError
from agentft.records import Example, Message

SPLIT = {"validation": 0.1, "test": 0.1, "by": "group", "seed": 7}


def talk(name: str, question: str = "", answer: str = "yes", group: str | None = None) -> Example:
    return Example(name, (Message("user", question or f"question {name}"), Message("assistant", answer)), group=group)


def ask(name: str, question: str) -> Example:
    return Example(name, (Message("user", question),))


def run(tmp_path, rows, transforms=(), prompts=(), weight=1.0, max_prompts=None):
    return prepare(
        tmp_path,
        sources=[Step("mine", lambda ctx: iter(rows), weight)],
        transforms=[Step(name, call) for name, call in transforms],
        prompts=[Step("asked", lambda ctx: iter(prompts))] if prompts else [],
        split_options=SPLIT,
        max_prompts=max_prompts,
        ctx=DataContext(seed=3),
    )


def test_every_row_is_accounted_for(tmp_path):
    rows = [talk(f"r{n}", answer="a" * (n % 3)) for n in range(30)] + [talk("again", "question r1", "a")]

    def tidy(records, ctx):
        return dedup(records, None, ctx)

    account = run(tmp_path, rows, [("dedup", tidy)])
    first, second = account.steps
    assert first == {"name": "demonstrations", "rows_in": 31, "rows_out": 21, "drops": {"no answer to learn from": 10}}
    assert second == {"name": "dedup", "rows_in": 21, "rows_out": 20, "drops": {"duplicate": 1}}
    assert sum(account.splits.values()) == 20
    written = [e for part in ("train", "validation", "test") for e in read_examples(tmp_path / f"{part}.jsonl")]
    assert len(written) == 20
    assert json.loads((tmp_path / "account.json").read_text("utf-8"))["splits"] == account.splits


def test_prompts_that_were_seen_in_training_are_dropped(tmp_path):
    rows = [talk(f"r{n}") for n in range(20)]
    prompts = [ask("new", "something new"), ask("seen", "  QUESTION r3 "), ask("twice", "Something  new"), talk("ref", "with reference")]
    account = run(tmp_path, rows, prompts=prompts)
    assert account.splits["prompts"] == 2
    drops = account.steps[-1]["drops"]
    # r3 may have fallen into the test part, where it is not seen in training.
    in_test = any(e.id == "r3" for e in read_examples(tmp_path / "test.jsonl"))
    assert in_test or drops == {"prompt is in the training data": 1, "duplicate prompt": 1}


def test_max_prompts_is_a_seeded_choice(tmp_path):
    rows, prompts = [talk(f"r{n}") for n in range(20)], [ask(f"p{n}", f"prompt {n}") for n in range(50)]
    first = run(tmp_path, rows, prompts=prompts, max_prompts=10)
    chosen = [e.id for e in read_examples(tmp_path / "prompts.jsonl")]
    assert len(chosen) == 10 and chosen != [f"p{n}" for n in range(10)]
    assert first.steps[-1]["drops"] == {"over max_prompts": 40}
    run(tmp_path, rows, prompts=prompts, max_prompts=10)
    assert [e.id for e in read_examples(tmp_path / "prompts.jsonl")] == chosen


def test_weights_sample_or_repeat_and_ids_stay_unique(tmp_path):
    rows = [talk(f"r{n}") for n in range(20)]
    assert sum(run(tmp_path, rows, weight=0.25).splits.values()) == 5
    account = run(tmp_path, rows, weight=2.5)
    written = [e for part in ("train", "validation", "test") for e in read_examples(tmp_path / f"{part}.jsonl")]
    assert len(written) == 50 == len({e.id for e in written}) and account.sources[0]["rows"] == 20
    parts = {part: {e.group_key for e in read_examples(tmp_path / f"{part}.jsonl")} for part in ("train", "validation", "test")}
    assert not parts["train"] & parts["test"] and not parts["train"] & parts["validation"], "copies stay together"


def test_max_test_is_a_seeded_choice_of_divided_rows(tmp_path):
    found = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        account = prepare(
            tmp_path / folder,
            sources=[Step("mine", lambda ctx: iter([talk(f"r{n}") for n in range(20)]))],
            transforms=[],
            prompts=[],
            test=[Step("held", lambda ctx: iter([talk(f"t{n}", f"other {n}") for n in range(30)]))],
            split_options=SPLIT,
            max_prompts=None,
            max_test=10,
            ctx=DataContext(seed=3),
        )
        assert account.splits["test"] == 10 and account.steps[-1]["drops"] == {"over max_test": 20}
        found.append([e.id for e in read_examples(tmp_path / folder / "test.jsonl")])
    assert found[0] == found[1] and len(set(found[0])) == 10 and all(name.startswith("t") for name in found[0])


def test_a_part_that_cannot_be_had_is_said(tmp_path):
    account = run(tmp_path, [talk(f"r{n}", group="one story") for n in range(8)])
    assert (account.splits["train"], account.splits["test"]) == (8, 0)
    validation, test = account.warnings
    assert "asks for 10% as test, but that part is empty: all rows are of one group" in test and "by: id" in test
    assert "as validation" in validation
    (tmp_path / "more").mkdir()
    assert run(tmp_path / "more", [talk(f"r{n}") for n in range(8)]).warnings == []


def test_nothing_left_says_why(tmp_path):
    with pytest.raises(DataError, match=r"no row is left to train on; 2 rows read; dropped: 2 no answer to learn from"):
        run(tmp_path, [ask("a", "x"), ask("b", "y")])


@given(
    sizes=st.lists(st.integers(1, 6), min_size=3, max_size=40),
    validation=st.sampled_from([0.0, 0.1, 0.3]),
    test=st.sampled_from([0.0, 0.1, 0.3]),
    seed=st.integers(0, 5),
)
def test_split_keeps_groups_together_and_loses_nothing(sizes, validation, test, seed):
    rows = [talk(f"{g}-{n}", group=f"g{g}") for g, size in enumerate(sizes) for n in range(size)]
    parts = split(rows, validation=validation, test=test, by="group", seed=seed)
    assert sorted(e.id for part in parts.values() for e in part) == sorted(e.id for e in rows)
    groups = [{e.group for e in part} for part in parts.values()]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    assert bool(parts["test"]) == (test > 0) and bool(parts["validation"]) == (validation > 0)
    assert parts == split(rows, validation=validation, test=test, by="group", seed=seed)


def test_split_shares_are_met_on_many_small_groups():
    rows = [talk(f"r{n}") for n in range(1000)]
    parts = split(rows, validation=0.1, test=0.2, by="group", seed=1)
    assert [len(parts[p]) for p in ("train", "validation", "test")] == [700, 100, 200]


@given(st.text())
def test_normalising_twice_changes_nothing(text):
    once = normalize_text(text)
    assert normalize_text(once) == once


def test_normalise_drops_empty_users_with_a_count():
    ctx = DataContext()
    rows = list(normalize([talk("a", "\u200b \x07"), talk("b", "cafe\u0301\u00a0x")], None, ctx))
    assert rows[0].last_user == "café x" and ctx.drops == {"no user text": 1}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"min_words": 2}, "answer shorter than min_words"),
        ({"max_turns": 1, "min_turns": 1, "pattern": "nowhere"}, "pattern does not match"),
        ({"not_pattern": "yes"}, "not_pattern matches"),
        ({"meta": {"intent": ["refund"]}}, "meta intent not allowed"),
    ],
)
def test_filter_counts_by_condition(config, reason):
    ctx = DataContext()
    assert list(filter_rows([talk("a")], FilterConfig(**config), ctx)) == []
    assert ctx.drops == {reason: 1}
