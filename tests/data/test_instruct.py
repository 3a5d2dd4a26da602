"""Labelled rows as instructions: every kind of label, in English and Chinese, the same words for rows that are evaluated on."""

from __future__ import annotations

import csv
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agentft.contracts import DataContext
from agentft.data.wording import fill, joined
from agentft.errors import DataError
from agentft.host import Host
from agentft.labelled import Labelled

CATALOG = Host(allow=()).catalog
ENTRY = CATALOG.get("transform", "instruct")


def run(rows, ctx=None, **options):
    config = CATALOG.config_model(ENTRY).model_validate(options)
    return list(CATALOG.target(ENTRY)(iter(rows), config, ctx or DataContext()))


def texts(*pairs):
    return [Labelled(f"r{n}", {"text": text}, label, meta={"source": "x"}) for n, (text, label) in enumerate(pairs)]


def said(example):
    return [message.content for message in example.messages]


CLASSES = texts(("Where is my card?", "card_arrival"), ("Give me my money back", "refund"), ("It is {labels} late", "card_arrival"))


def test_classes_become_choices_with_names_of_the_recipe():
    first, second, third = run(CLASSES, label_names={"card_arrival": "card arrival"})
    assert said(first) == [
        "Which class does the text belong to? Answer with the class only.\nClasses: card arrival, refund\n\nText: Where is my card?",
        "card arrival",
    ]
    assert first.meta == {
        "source": "x",
        "input": "Where is my card?",
        "label": "card_arrival",
        "labels": ["card_arrival", "refund"],
        "choices": ["card arrival", "refund"],
    }
    assert said(second)[1] == "refund" and "It is {labels} late" in said(third)[0], "what a text says is never filled in"


def test_labels_can_be_left_out_of_the_instruction_and_put_in_order():
    (first, *_) = run(CLASSES, show_labels=False, labels=["refund", "card_arrival"])
    assert "refund" not in said(first)[0] and first.meta["choices"] == ["refund", "card_arrival"]


def test_a_row_with_a_label_that_is_not_listed_is_dropped_and_counted():
    ctx = DataContext()
    assert [one.id for one in run(CLASSES, ctx, labels=["card_arrival"])] == ["r0", "r2"]
    assert ctx.drops == {"label is not one of labels": 1} and ctx.dropped[0]["where"] == "r1: refund"


def test_a_template_of_the_recipe_is_used_as_it_is():
    (first, *_) = run(CLASSES, template="{text} -> one of [{labels}]?")
    assert said(first)[0] == "Where is my card? -> one of [card_arrival, refund]?"


@pytest.mark.parametrize("template", ["no place", "only {labels}", "{txet}"])
def test_a_template_that_cannot_work_is_found_by_the_check(template):
    with pytest.raises(ValidationError):
        run(CLASSES, template=template)


def test_rows_that_are_evaluated_on_get_the_classes_of_the_training_rows():
    ctx = DataContext()
    (trained, *_) = run(CLASSES, ctx)
    held = DataContext(notes=ctx.notes)
    seen, unseen = run(texts(("卡到哪了", "refund"), ("Hm", "other")), held)
    assert seen.meta["choices"] == trained.meta["choices"] == unseen.meta["choices"]
    assert said(seen)[0].startswith("Which class"), "and their language"
    assert said(unseen)[1] == "other" and held.changes == {"label that no training row has": 1} and not held.drops


def test_chinese_rows_get_chinese_words():
    first, _ = run(texts(("我的卡还没到", "物流"), ("请退钱", "退款")))
    assert said(first) == ["这段文本属于哪一类？只回答类别。\n类别：物流、退款\n\n文本：我的卡还没到", "物流"]
    assert said(run(texts(("我的卡还没到", "物流")), language="en")[0])[0].startswith("Which class")


def test_numbers_and_what_is_no_number():
    first, second = run(texts(("good", 4.5), ("bad", 1)))
    assert "Numbers: 1.00 to 4.50" in said(first)[0] and [said(first)[1], said(second)[1]] == ["4.50", "1.00"]
    assert "choices" not in first.meta and first.meta["label"] == 4.5
    assert said(run(texts(("good", "3")), task="rate")[0])[1] == "3.00", "a table gives text"
    assert run(texts(("good", 1), ("bad", 0)), task="classify")[0].meta["choices"] == ["0", "1"]
    for wrong in ("high", "nan"):
        with pytest.raises(DataError, match="r0: the label"):
            run(texts(("good", wrong)), task="rate")


def test_two_texts_several_classes_and_none():
    pair = Labelled("p", {"text": "a b", "pair": "c d"}, ["y", "x"])
    first, second = run([pair, Labelled("q", {"text": "e", "pair": "f"}, [])])
    assert "First text: a b\nSecond text: c d" in said(first)[0] and said(first)[1] == "x, y" and said(second)[1] == "none"
    assert "choices" not in first.meta and first.meta["labels"] == ["x", "y"]


def test_spans_and_no_answer():
    context = "The shop opens at nine."
    asked = {"question": "When?", "context": context}
    first, second = run([Labelled("a", asked, [{"text": "at nine", "start": 15}]), Labelled("b", asked, [])])
    assert said(first)[1] == "at nine" and said(second)[1] == "none" and said(first)[0].endswith(f"Text: {context}\n\nQuestion: When?")
    zh = {"question": "几点开门？", "context": "商店九点开门。"}
    assert said(run([Labelled("c", zh, [])])[0])[1] == "无"


def test_tags_become_lines():
    row = Labelled("a", {"tokens": ["Ann", "Lee", "met", "Bo", "in", "Rome"]}, ["B-PER", "I-PER", "O", "B-PER", "O", "B-LOC"])
    none = Labelled("b", {"tokens": ["Hm"]}, ["O"])
    first, second = run([row, none], label_names={"PER": "person", "LOC": "place"})
    assert said(first)[1] == "person: Ann Lee\nperson: Bo\nplace: Rome" and said(second)[1] == "none"
    assert "Types: place, person" in said(first)[0]
    zh = Labelled("c", {"tokens": ["李", "明", "在", "北", "京"]}, ["B-PER", "I-PER", "O", "B-LOC", "I-LOC"])
    assert said(run([zh])[0])[1] == "PER: 李明\nLOC: 北京" and said(run([zh])[0])[0].endswith("文本：李明在北京")
    pos = Labelled("d", {"tokens": ["dogs", "bark"]}, ["NOUN", "VERB"])
    assert said(run([pos])[0])[1] == "NOUN: dogs\nVERB: bark"


def test_rows_that_do_not_go_together_are_an_error_and_rows_without_label_are_counted():
    with pytest.raises(DataError, match="rows of one task"):
        run(texts(("a", "x"), ("b", 2)))
    with pytest.raises(DataError, match="no row has the label 'card_arival'.*card_arrival"):
        run(CLASSES, label_names={"card_arival": "x"})
    with pytest.raises(DataError, match="same name"):
        run(CLASSES, label_names={"card_arrival": "refund"})
    ctx = DataContext()
    assert run(texts(("a", None)), ctx) == [] and ctx.drops == {"no label": 1}
    assert run([]) == []


@given(st.lists(st.tuples(st.text(min_size=1).filter(str.strip), st.sampled_from("abc")), min_size=1, max_size=9), st.booleans())
def test_every_row_comes_out_once_with_its_text_and_an_answer_among_its_choices(pairs, show):
    found = run(texts(*pairs), show_labels=show)
    assert [one.id for one in found] == [f"r{n}" for n in range(len(pairs))]
    for one, (text, label) in zip(found, pairs, strict=True):
        assert text in said(one)[0] and said(one)[1] == label and label in one.meta["choices"]
        json.dumps(one.to_dict())


@given(st.text(), st.text())
def test_a_value_is_filled_in_once(text, labels):
    assert fill("<{text}|{labels}>", {"text": text, "labels": labels}) == f"<{text}|{labels}>"


@given(st.lists(st.text("abc卡退。", min_size=1, max_size=3), max_size=6))
def test_joined_words_lose_nothing(tokens):
    assert joined(tokens).replace(" ", "") == "".join(tokens)


def test_banking77(shared_data):
    with (shared_data / "banking77" / "train.csv").open(encoding="utf-8", newline="") as stream:
        rows = [Labelled(f"b{n}", {"text": row["text"]}, row["category"]) for n, row in enumerate(csv.DictReader(stream))]
    found = run(rows, show_labels=False)
    assert len(found) == len(rows) == 10003 and len(found[0].meta["choices"]) == 77
    assert all(row.inputs["text"] in said(one)[0] and said(one)[1] == row.label for row, one in zip(rows, found, strict=True))
