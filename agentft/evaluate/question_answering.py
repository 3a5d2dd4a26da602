"""``qa``: is the answer that was found in the text one of the right ones? Exact match and F1 as in SQuAD, right for Chinese."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from agentft.contracts import EvalContext, Generate
from agentft.evaluate.common import NAN, score_from
from agentft.evaluate.predictions import groups_of_rows, note_unscored, of_kind
from agentft.labelled import Prediction
from agentft.records import Sample, Score
from agentft.text import CJK

_CJK = re.compile(f"[{CJK}]")
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def qa(samples: Sequence[Prediction | Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """``qa-em`` and ``qa-f1``: exact match and F1 of words, the best over the row's spans; means over rows.

    A row whose label is an empty list has no answer in its text: right is a prediction without text, and nothing else. Where there are such
    rows, ``qa-f1/answerable`` and ``qa-f1/unanswerable`` show both kinds alone. The first predicted span counts.
    """
    rows = of_kind(samples, "qa", "spans")
    found: dict[str, tuple[float, float]] = {}
    for one in rows:
        answer = _text(one.label)
        gold = [_text(span) for span in one.row.label]
        found[one.id] = (NAN, NAN) if one.label is None else (exact_match(answer, gold), answer_f1(answer, gold))
    groups, note = groups_of_rows(rows), note_unscored(rows)
    chinese = "; Chinese by characters" if any(_CJK.search(_text(span)) for one in rows for span in one.row.label) else ""
    kinds = [("qa-em", 0, rows, "answers equal to a right one"), ("qa-f1", 1, rows, "words shared with the closest right answer (F1)")]
    without = [one for one in rows if not one.row.label]
    if without and len(without) < len(rows):
        kinds.append(("qa-f1/answerable", 1, [one for one in rows if one.row.label], "F1 where the text holds an answer"))
        kinds.append(("qa-f1/unanswerable", 1, without, "share of the rows without an answer for which none was given"))
    return [
        score_from(name, {one.id: found[one.id][index] for one in chosen}, groups, seed=ctx.seed, summary=f"{what}{chinese}{note}")
        for name, index, chosen, what in kinds
    ]


def normalised(text: str, *, chinese: bool) -> list[str]:
    """Lower-case words without punctuation and, for English, articles: the rules of SQuAD's own script (Rajpurkar et al. 2016).

    Chinese: every character is a word, punctuation of any script goes, and there are no articles.
    """
    text = text.lower()
    if chinese:
        kept = "".join(" " if unicodedata.category(char)[0] == "P" else char for char in text)
        return _CJK.sub(lambda found: f" {found.group()} ", kept).split()
    return _ARTICLES.sub(" ", "".join(char for char in text if char not in string.punctuation)).split()


def exact_match(answer: str, gold: Sequence[str]) -> float:
    """1 where the normalised answer equals a right one; without right answers, where it is empty."""
    return max(float(one == other) for one, other in _pairs(answer, gold))


def answer_f1(answer: str, gold: Sequence[str]) -> float:
    """F1 of the words in common, the best over the right answers; without right answers 1 for an empty answer, else 0."""
    return max(_f1(one, other) for one, other in _pairs(answer, gold))


def _pairs(answer: str, gold: Sequence[str]) -> list[tuple[list[str], list[str]]]:
    chinese = any(_CJK.search(text) for text in (answer, *gold))
    # As in SQuAD 2.0: a right answer of punctuation and articles alone is none.
    right = [words for text in gold if (words := normalised(text, chinese=chinese))] or [[]]
    return [(normalised(answer, chinese=chinese), words) for words in right]


def _f1(answer: list[str], gold: list[str]) -> float:
    if not answer or not gold:
        return float(answer == gold)
    common = (Counter(answer) & Counter(gold)).total()
    return 2 * common / (len(answer) + len(gold))


def _text(label: Any) -> str:
    """Text of a span, of the first of several, or of an answer that is text already; empty where there is none."""
    if isinstance(label, Mapping):
        return str(label.get("text", ""))
    if isinstance(label, list | tuple):
        return _text(label[0]) if label else ""
    return "" if label is None else str(label)
