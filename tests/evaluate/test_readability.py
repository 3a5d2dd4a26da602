"""The formulas against values computed by hand from counted texts."""

from __future__ import annotations

import math
from typing import Any

import pytest

from agentft.evaluate.readability import (
    automated_readability_index,
    coleman_liau_index,
    counts,
    flesch_kincaid_grade,
    flesch_reading_ease,
    readability,
    syllables,
)

# The cat sat on the mat. (6 words, 6 syllables, 17 letters)
CAT = "The cat sat on the mat."
# 2 sentences; 5 + 6 = 11 words; syllables Your 1 par-cel 2 ar-rived 2 yes-ter-day 3 morn-ing 2 / We 1 will 1 re-fund 2
# the 1 de-liv-er-y 4 fee 1 = 10 + 10; letters 4 6 7 9 7 / 2 4 6 3 8 3 = 33 + 26.
PARCEL = "Your parcel arrived yesterday morning. We will refund the delivery fee."


def test_counts_by_hand() -> None:
    found = counts(CAT)
    assert (found.sentences, found.words, found.syllables, found.letters, found.characters) == (1, 6, 6, 17, 17)
    found = counts(PARCEL)
    assert (found.sentences, found.words, found.syllables, found.letters) == (2, 11, 20, 59)
    assert (counts("Pay 25 now").letters, counts("Pay 25 now").characters) == (6, 8)


def test_formulas_by_hand() -> None:
    assert flesch_reading_ease(CAT) == pytest.approx(206.835 - 1.015 * 6 - 84.6)  # 116.145
    assert flesch_kincaid_grade(CAT) == pytest.approx(0.39 * 6 + 11.8 - 15.59)  # -1.45
    assert automated_readability_index(CAT) == pytest.approx(4.71 * 17 / 6 + 0.5 * 6 - 21.43)  # -5.085
    assert coleman_liau_index(CAT) == pytest.approx(0.0588 * 283.3333 - 0.296 * 16.6667 - 15.8, abs=1e-3)  # -4.073
    assert flesch_reading_ease(PARCEL) == pytest.approx(206.835 - 1.015 * 5.5 - 84.6 * 20 / 11)  # 47.434
    assert flesch_kincaid_grade(PARCEL) == pytest.approx(0.39 * 5.5 + 11.8 * 20 / 11 - 15.59)  # 8.010
    assert automated_readability_index(PARCEL) == pytest.approx(4.71 * 59 / 11 + 0.5 * 5.5 - 21.43)  # 6.583
    assert coleman_liau_index(PARCEL) == pytest.approx(0.0588 * 536.3636 - 0.296 * 18.1818 - 15.8, abs=1e-3)  # 10.356


SYLLABLES = (
    "the 1, made 1, apple 2, people 2, wanted 2, asked 1, boxes 2, times 1, area 3, idea 3, million 2, nation 2, various 3, being 2, "
    "didn't 2, don't 1, it's 1, before 2, someone 2, safety 2, statement 2, rhythm 2, e-mail 2, GPS 3, readability 5, 42 1, Hmm 1"
)


@pytest.mark.parametrize("pair", SYLLABLES.split(", "))
def test_syllables(pair: str) -> None:
    word, expected = pair.split()
    assert syllables(word) == int(expected)


@pytest.mark.parametrize("text", ["", "...", "您的订单已经发货。", "Your order 您的订单已经发货"])
def test_no_words_or_chinese_is_nan(text: str) -> None:
    for formula in (flesch_reading_ease, flesch_kincaid_grade, automated_readability_index, coleman_liau_index):
        assert math.isnan(formula(text))


def test_harder_text_reads_harder() -> None:
    hard = "Notwithstanding the aforementioned considerations, reimbursement necessitates comprehensive administrative verification."
    assert flesch_reading_ease(hard) < 0 < 60 < flesch_reading_ease(CAT)
    for grade in (flesch_kincaid_grade, automated_readability_index, coleman_liau_index):
        assert grade(hard) > 15 > 5 > grade(CAT)


def test_as_a_metric(make_sample: Any, make_context: Any, no_generation: Any) -> None:
    samples = [make_sample("a", CAT), make_sample("b", "您好。"), make_sample("c", finish="error")]
    scores = {score.name: score for score in readability(samples, no_generation, None, make_context())}
    assert list(scores) == ["readability/flesch", "readability/grade", "readability/ari", "readability/coleman-liau"]
    assert scores["readability/flesch"].value == pytest.approx(116.145)
    assert all(score.unscored == 2 and score.direction == "none" for score in scores.values())
