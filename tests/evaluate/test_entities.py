"""ner against seqeval and by hand."""

from __future__ import annotations

import math
import random
import warnings
from pathlib import Path
from typing import Any

import pytest

from agentft.errors import DataError


@pytest.fixture
def tagged(make_prediction: Any) -> Any:
    def make(pairs: Any) -> list[Any]:
        return [
            make_prediction(f"{i:04}", list(t), None if g is None else list(g), inputs={"tokens": ["x"] * len(t)})
            for i, (t, g) in enumerate(pairs)
        ]

    return make


def test_by_hand(part: Any, tagged: Any) -> None:
    rows = tagged(
        [
            (["B-PER", "I-PER", "O", "B-LOC"], ["B-PER", "I-PER", "O", "B-ORG"]),  # one right, one of the wrong type
            (["B-LOC", "I-LOC", "O", "O"], ["B-LOC", "O", "O", "O"]),  # a wrong border
            (["O", "O"], ["O", "O"]),
            (["B-PER", "O"], ["I-PER", "O"]),  # strict: an entity begins with B-
        ]
    )
    found = part("ner", rows)
    # 1 right, 3 predicted, 4 true.
    assert found["ner-precision"].value == pytest.approx(1 / 3) and found["ner-recall"].value == pytest.approx(1 / 4)
    assert found["ner-f1"].value == pytest.approx(2 / 7) and list(found["ner-f1"].per_sample.values()) == [0.5, 0.0, 1.0, 0.0]
    assert found["ner-f1/PER"].value == pytest.approx(2 / 3) and found["ner-f1/LOC"].value == 0 and "ner-f1/ORG" not in found
    assert set(found["ner-recall"].per_sample) == {"0000", "0001", "0003"} and found["ner-precision"].per_sample == {}


def test_nothing_and_nothing_found(part: Any, tagged: Any) -> None:
    for score in part("ner", []).values():
        assert math.isnan(score.value) and score.n == 0 and score.ci is None
    silent = part("ner", tagged([(["B-PER"], ["O"]), (["O"], ["O"])]))
    assert silent["ner-f1"].value == 0 and silent["ner-recall"].value == 0 and math.isnan(silent["ner-precision"].value)
    blank = part("ner", tagged([(["O"], ["O"])]))
    assert math.isnan(blank["ner-f1"].value) and math.isnan(blank["ner-recall"].value)
    cut = part("ner", tagged([(["B-PER"], None), (["B-PER"], ["B-PER"])]))
    assert cut["ner-f1"].value == 1 and cut["ner-f1"].unscored == 1 and "1 without a prediction (cut)" in cut["ner-f1"].summary


@pytest.mark.parametrize(("tags", "message"), [(["X-PER"], "'X-PER'"), (["S-PER"], "'S-PER'"), (["O", "O"], "2 predicted tags for 1")])
def test_wrong_tags_are_errors_with_the_row(part: Any, tagged: Any, tags: list[str], message: str) -> None:
    with pytest.raises(DataError, match=f"row '0000'.*{message}"):
        part("ner", tagged([(["O"], tags)]))


def test_real_sentences_against_seqeval(part: Any, tagged: Any, shared_data: Path) -> None:
    from seqeval.metrics import f1_score, precision_score, recall_score
    from seqeval.scheme import IOB2

    blocks = (shared_data / "wnut17" / "test.conll").read_text("utf-8").split("\n\n")
    true = [[line.split("\t")[1] for line in block.splitlines() if "\t" in line] for block in blocks]
    true = [tags for tags in true if tags][:400]
    rng = random.Random(0)
    guessed = [[tag if rng.random() < 0.9 else rng.choice(["O", "B-person", "I-person"]) for tag in tags] for tags in true]
    found = part("ner", tagged(zip(true, guessed, strict=True)))
    how: dict[str, Any] = {"mode": "strict", "scheme": IOB2}
    assert found["ner-f1"].value == pytest.approx(f1_score(true, guessed, **how))
    assert found["ner-precision"].value == pytest.approx(precision_score(true, guessed, **how))
    assert found["ner-recall"].value == pytest.approx(recall_score(true, guessed, **how))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # types without members
        each = f1_score(true, guessed, average=None, **how)
    types = sorted(name.removeprefix("ner-f1/") for name in found if "/" in name)
    assert [found[f"ner-f1/{name}"].value for name in types] == pytest.approx(list(each))
    for score in found.values():
        assert score.ci and score.ci[0] <= score.value <= score.ci[1]
