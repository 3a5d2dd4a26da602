"""decontaminate, augment, balance."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from agentft.contracts import DataContext
from agentft.data import synonyms
from agentft.data.augment import AugmentConfig, augment
from agentft.data.balance import BalanceConfig, balance
from agentft.data.decontaminate import DecontaminateConfig, decontaminate
from agentft.data.noise import OPERATIONS, apply
from agentft.data.split import split
from agentft.errors import DataError
from agentft.labelled import Labelled
from agentft.records import Example, Message


def row(name, text, label=None, **more):
    return Labelled(name, {"text": text}, label, **more)


def talk(name, user, answer="Yes."):
    return Example(name, (Message("system", "S."), Message("user", user), Message("assistant", answer)))


# decontaminate


def cleaned(rows, held_out, **options):
    ctx = DataContext(held_out=lambda: iter(held_out))
    return [r.id for r in decontaminate(rows, DecontaminateConfig(**options), ctx)], ctx


LONG = "my new card has not arrived after ten days and I am worried"


def test_shared_runs_of_words_are_found_and_named():
    rows = [row("leak", f"Well, {LONG}!"), row("other", "my new card has arrived after ten days and I am glad"), row("short", "Close it")]
    kept, ctx = cleaned(rows, [row("h1", LONG), row("h2", "close it.")])
    assert kept == ["other"] and ctx.drops == {"shares text with a held-out row": 2}
    assert ctx.notes == {"held_out_rows": 2, "seen": {"h1": 1, "h2": 1}}
    assert ctx.dropped[0]["where"] == "leak, like h1"


def test_share_and_length_decide():
    half = row("half", LONG + " so please tell me what I can do about it now and where I may go")
    assert cleaned([half], [row("h", LONG)])[0] == []
    assert cleaned([half], [row("h", LONG)], share=0.9)[0] == ["half"]
    assert cleaned([row("a", "one two three four nine")], [row("h", "zero one two three four")], ngram=4)[0] == []


def test_chinese_is_compared_by_characters():
    held = [row("h", "我上周买的手机屏幕坏了，可以免费换一台新的吗？")]
    rows = [row("leak", "你好，我上周买的手机屏幕坏了可以免费换一台新的吗"), row("other", "我上周买的手机很好用，想再买一台新的")]
    assert cleaned(rows, held)[0] == ["other"]


def test_stock_phrases_of_answers_are_no_leak_but_prompts_are():
    answer = "Thank you for calling, is there anything else that I can do for you today?"
    rows = [talk("same answer", "Where is it?", answer), talk("same prompt", "Why is my bill so high?", "Because.")]
    held = [Example("h", (Message("user", "why is my bill so high"),)), talk("h2", "Something else", answer)]
    assert cleaned(rows, held)[0] == ["same answer"]


def test_nothing_held_out_drops_nothing():
    assert cleaned([row("a", LONG)], [])[0] == ["a"]


# augment


@pytest.fixture
def wordnet(tmp_path, monkeypatch):
    """WordNet's file format with three words: big and large share a meaning."""
    line = "00000000 00 a 02 big 0 large(a) 1 000 | above average\n"
    (tmp_path / "data.adj").write_text(line)
    (tmp_path / "index.adj").write_text("  1 licence\nbig a 1 0 1 1 00000000  \nlarge a 1 0 1 1 00000000  \n")
    for part in ("noun", "verb", "adv"):
        (tmp_path / f"data.{part}").write_text("")
        (tmp_path / f"index.{part}").write_text("  1 licence\n")
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    clear = synonyms.wordnet.cache_clear
    clear()
    yield
    clear()


def grown(rows, seed=1, **options):
    ctx = DataContext(seed=seed)
    return list(augment(rows, AugmentConfig(**options), ctx)), ctx


def test_copies_follow_their_row_and_share_its_group():
    rows, ctx = grown(
        [row("a", "please send my parcel tomorrow morning", "x", meta={"k": 1})], copies=3, operations=["swap", "delete", "typos"]
    )
    assert [r.id for r in rows] == ["a", "a+a1", "a+a2", "a+a3"] and {r.group_key for r in rows} == {"a"}
    assert all(r.label == "x" and r.meta == {"k": 1, "augmented": "a"} for r in rows[1:]) and "augmented" not in rows[0].meta
    assert len({r.text for r in rows}) == 4 and ctx.changes.total() == 3
    assert grown(rows[:1], copies=3, operations=["swap", "delete", "typos"])[0] == rows, "seeded"
    assert grown(rows[:1], seed=2, copies=3, operations=["swap", "delete", "typos"])[0] != rows
    parts = split([*rows, row("b", "x"), row("c", "y")], validation=0.3, test=0.3, by="group", seed=1)
    assert len({name for name, part in parts.items() for r in part if r.id.startswith("a")}) == 1


def test_synonyms_come_from_wordnet_or_are_said_to_be_missing(wordnet, monkeypatch, tmp_path):
    rows, ctx = grown([row("a", "A Big parcel.")], operations=["synonym"])
    assert rows[1].text == "A Large parcel." and ctx.notes == {"synonyms": "WordNet"}
    assert len(grown([row("a", "A big parcel.")], operations=["insert"])[0][1].text.split()) == 4
    monkeypatch.setattr("agentft.data.augment.wordnet", lambda: None)
    rows, ctx = grown([row("a", "A Big parcel.")], operations=["synonym"])
    assert len(rows) == 1 and "wordnet-base" in ctx.notes["synonyms"] and ctx.changes == {"no copy: nothing new could be made": 1}


def test_answers_of_conversations_stay():
    rows, _ = grown(
        [talk("a", "where is my little red parcel", "It is in little red Berlin.")],
        copies=4,
        operations=["typos", "case", "swap", "delete"],
    )
    assert len(rows) == 5
    for copy in rows[1:]:
        assert copy.messages[0].content == "S." and copy.messages[2].content == "It is in little red Berlin."
        assert copy.messages[1].content != "where is my little red parcel"


def test_tags_stay_aligned_and_entities_get_no_synonyms(wordnet):
    record = Labelled("t", {"tokens": ["big", "Big", "parcel", "sooner"]}, ["O", "B-x", "O", "O"])
    for operation in OPERATIONS:
        for copy in grown([record], copies=3, operations=[operation], rate=1.0)[0][1:]:
            assert len(copy.inputs["tokens"]) == 4 and copy.label == record.label
    assert grown([record], operations=["synonym"], rate=1.0)[0][1].inputs["tokens"] == ["large", "Big", "parcel", "sooner"]
    assert len(grown([record], operations=["swap"], templates=["Hi: {text}"])[0]) == 1


@settings(deadline=None)  # the first call looks for WordNet
@given(st.sampled_from(OPERATIONS), st.integers(0, 30), st.sampled_from([0.1, 0.5, 1.0]))
def test_spans_are_never_changed(operation, seed, rate):
    context = "I would like a table for two people at 7 pm for Peter Smith please"
    spans = [{"text": text, "start": context.index(text)} for text in ("two people", "7 pm", "Peter Smith")]
    record = Labelled("s", {"question": "which table", "context": context}, spans)
    for copy in grown([record], seed=seed, rate=rate, copies=2, operations=[operation])[0][1:]:
        assert [s["text"] for s in copy.label] == ["two people", "7 pm", "Peter Smith"]
        assert all(copy.inputs["context"][s["start"] :].startswith(s["text"]) for s in copy.label)


@given(
    st.sampled_from(OPERATIONS), st.text(alphabet="ab12 .我想退不款三9\n'’t", max_size=30), st.integers(0, 20), st.sampled_from([0.1, 1.0])
)
def test_numbers_and_negations_stay_in_order(operation, text, seed, rate):
    from random import Random

    changed = apply(operation, text, rate, Random(seed), lambda word: ["other"])
    for kept in ("0123456789", "不三"):
        assert [c for c in changed if c in kept] == [c for c in text if c in kept]


def test_chinese_is_changed_by_characters():
    text = "我的订单3天了还没有发货，请问什么时候可以收到？"
    rows, ctx = grown([row("z", text)], copies=4, operations=["synonym", "insert", "swap", "delete", "typos", "case"])
    assert len(rows) == 5 and set(ctx.changes) <= {"swap", "delete"}
    assert all("3天" in r.text and "没" in r.text for r in rows)


def test_templates_go_around_the_first_user_message_once():
    rows, ctx = grown([talk("a", "It is broken."), row("b", "Lost {text}")], operations=[], templates=["Please help: {text}"])
    assert rows[1].last_user == "Please help: It is broken." and rows[3].text == "Please help: Lost {text}"
    assert ctx.changes == {"template": 2}
    for wrong in ({"templates": ["no place"]}, {"operations": []}, {"templates": ["{text}"]}):
        with pytest.raises(ValidationError):
            AugmentConfig(**wrong)


def test_augmenting_twice_copies_no_copies_and_keeps_ids_apart():
    once, _ = grown([row("a", "please send my parcel tomorrow")], operations=["swap"])
    twice, _ = grown(once, operations=["typos"])
    assert len(twice) == 3 and len({r.id for r in twice}) == 3 and all(r.id.startswith("a") for r in twice)


# balance


def balanced(rows, seed=1, **options):
    ctx = DataContext(seed=seed)
    return list(balance(rows, BalanceConfig(**options), ctx)), ctx


ROWS = [row(f"{label}{n}", f"text {n}", label) for label, size in (("a", 10), ("b", 4), ("c", 1)) for n in range(size)]


@pytest.mark.parametrize(
    ("options", "after"),
    [
        ({}, {"a": 10, "b": 10, "c": 10}),
        ({"to": "median"}, {"a": 10, "b": 4, "c": 4}),
        ({"to": 12}, {"a": 12, "b": 12, "c": 12}),
        ({"method": "under"}, {"a": 1, "b": 1, "c": 1}),
        ({"method": "under", "to": 5}, {"a": 5, "b": 4, "c": 1}),
    ],
)
def test_classes_reach_the_size(options, after):
    rows, ctx = balanced(ROWS, **options)
    assert Counter(r.label for r in rows) == after
    assert ctx.notes["classes"] == {"by": "label", "before": {"a": 10, "b": 4, "c": 1}, "after": after}
    assert len(rows) == len(ROWS) + ctx.changes["copied"] - ctx.drops.total()
    assert len({r.id for r in rows}) == len(rows) and all(r.id == r.meta.get("augmented", r.id) or "+b" in r.id for r in rows)
    assert balanced(ROWS, **options)[0] == rows


def test_copies_are_spread_over_the_rows_and_stay_in_their_group():
    rows, _ = balanced(ROWS, to=10)
    times = Counter(r.group_key for r in rows if r.label == "b")
    assert sorted(times.values()) == [2, 2, 3, 3] and set(times) == {"b0", "b1", "b2", "b3"}


def test_by_a_meta_key_and_what_cannot_be_balanced():
    rows = [Example(str(n), (Message("user", "x"),), meta={"intent": "a" if n else "b"}) for n in range(3)] + [talk("none", "y")]
    found, ctx = balanced(rows, by="intent")
    assert ctx.notes["classes"]["after"] == {"a": 2, "b": 2} and ctx.changes == {"without intent, kept as they are": 1, "copied": 1}
    assert len(found) == 5
    for wrong in (rows[0], row("n", "x", 0.5), row("m", "x", ["a", "b"]), row("u", "x")):
        with pytest.raises(DataError, match="name a meta key"):
            balanced([wrong])
    with pytest.raises(ValidationError):
        BalanceConfig(to=0)
