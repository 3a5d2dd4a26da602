"""The data card, and that recipes take the transforms for every kind of record."""

from __future__ import annotations

import csv
import math
from collections import Counter

import pytest

from agentft.data import card as card_module
from agentft.data.card import Card, card_text, entropy
from agentft.labelled import Labelled
from agentft.records import Example, Message


def row(name, text, label=None, **more):
    return Labelled(name, {"text": text}, label, **more)


def made(rows, seed=0):
    card = Card(seed)
    for one in rows:
        card.add(one)
    return card.to_dict()


def test_counts_shares_and_imbalance():
    rows = [row(str(n), f"question number {n} about cards", "a" if n < 6 else "b") for n in range(8)]
    card = made([*rows, row("x", "question number 0 about cards", "a"), row("y", "mail a@b.com", "b")])
    assert card["rows"] == 10 and card["labels"]["counts"] == {"a": 7, "b": 3} and card["labels"]["imbalance"] == 2.33
    assert card["labels"]["entropy"] == pytest.approx(-(0.7 * math.log(0.7) + 0.3 * math.log(0.3)) / math.log(2), abs=1e-4)
    assert card["duplicates"]["exact"] == 0.1 and card["duplicates"]["near"] >= 0.1
    assert card["pii"] == {"pieces": {"email": 1}, "rows": 0.1}
    assert (card["words"]["min"], card["words"]["max"]) == (4, 5) or card["words"]["min"] <= card["words"]["median"]
    assert "personal    1 email" in card_text(card)


def test_every_kind_of_label_and_of_record():
    tags = made([Labelled("t", {"tokens": ["a", "b"]}, ["O", "B-x"])])
    assert tags["labels"]["of"] == "tags" and tags["labels"]["counts"] == {"O": 1, "B-x": 1}
    numbers = made([row("n", "x", 0.25), row("m", "y", 0.75)])
    assert numbers["labels"] == {"of": "numbers", "min": 0.25, "max": 0.75} and "0.25 to 0.75" in card_text(numbers)
    spans = made(
        [
            Labelled("s", {"question": "q", "context": "c"}, []),
            Labelled("r", {"question": "q", "context": "d"}, [{"text": "d", "start": 0}]),
        ]
    )
    assert spans["labels"]["counts"] == {"without an answer": 1, "with an answer": 1}
    talk = made([Example("e", (Message("user", "x"), Message("assistant", "y")), meta={"intent": "refund"})])
    assert talk["labels"]["of"] == "meta.intent"
    assert made([row("u", "only text")])["labels"] == {} and card_text(made([])) == "rows        0"


def test_notes_name_what_may_bias():
    rows = [row(f"s{n}", f"word {n}", "short") for n in range(60)]
    rows += [
        row(f"l{n}", f"a much longer text with very many words in it, this being the number {n} of all of them", "long") for n in range(60)
    ]
    rows += [row("r", "rare one", "rare")]
    notes = " ".join(made(rows)["notes"])
    assert "Class 'rare' has 1 of 121 rows" in notes and "Length tells the class" in notes and "'long'" in notes
    rows = [row(f"z{n}", f"我想退货，订单{n}", "退货") for n in range(40)]
    rows += [row(f"e{n}", f"Could you please tell me where my parcel number {n} is?", "parcel", group="one") for n in range(50)]
    notes = " ".join(made(rows)["notes"])
    assert "Class '退货' is tied to language zh" in notes and "Group 'one' holds 56% of the rows" in notes
    fair = [row(f"{n}", f"{'where is' if n % 2 else 'what about'} thing {n * 7919} of {chr(97 + n % 26)}", "ab"[n % 2]) for n in range(60)]
    assert not [note for note in made(fair)["notes"] if "Length" in note or "tied" in note or "Group" in note]


def test_memory_is_flat_and_the_sample_seeded(monkeypatch):
    monkeypatch.setattr(card_module, "SAMPLE", 50)
    monkeypatch.setattr(card_module, "_NAMES", 20)
    rows = [row(str(n), "word " * (1 + n % 100), f"c{n % 3}", group="big" if n % 3 == 0 else f"g{n}") for n in range(600)]
    card = Card(1)
    for one in rows:
        card.add(one)
    assert len(card._sample) == 50 and len(card._groups) <= 20
    found = card.to_dict()
    assert 30 <= found["words"]["median"] <= 70 and found["words"]["mean"] == 50.5
    assert "Group 'big'" in " ".join(found["notes"]), "heavy groups survive the counting in flat memory"
    assert made(rows, 1) == found != made(rows, 2)


def test_entropy():
    assert entropy(Counter(a=3, b=3)) == pytest.approx(1) and entropy(Counter(a=3)) == 0
    assert entropy(Counter(a=1, b=3)) == pytest.approx(0.8112781)


def test_card_of_real_queries(shared_data):
    with (shared_data / "banking77" / "train.csv").open(encoding="utf-8") as file:
        rows = [row(str(n), one["text"], one["category"]) for n, one in zip(range(1000), csv.DictReader(file), strict=False)]
    card = made(rows)
    assert card["languages"].get("en", 0) + card["languages"].get("not sure", 0) >= 0.99 and set(card["languages"]) <= {
        "en",
        "not sure",
        "nl",
        "fr",
        "de",
    }
    assert card["pii"]["rows"] <= 0.01 and card["labels"]["imbalance"] > 1
