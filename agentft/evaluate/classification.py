"""``accuracy``, ``f1`` and ``confusion``: how well classes are recognised, one class a row or several.

Everything is made of counts: which classes each row has, and which were predicted. The same functions serve the evaluators
and the ``evaluate.Metric`` classes of :mod:`agentft.evaluate.hf_metrics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from agentft.contracts import EvalContext, Generate
from agentft.evaluate.common import NAN, score_from
from agentft.evaluate.predictions import answered, classes_in, groups_of_rows, note_unscored, of_kind, several
from agentft.evaluate.statistics import of_share, statistic_ci
from agentft.labelled import Prediction
from agentft.records import Sample, Score

Classes = Sequence[frozenset[str]]
Array = npt.NDArray[np.float64]
OTHER = "(other answer)"


def accuracy(samples: Sequence[Prediction | Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """``accuracy``: share of rows whose class is right; with several classes a row, whose set of classes is exactly right.

    With several classes also ``accuracy/jaccard``: classes in common over classes in either (Godbole and Sarawagi 2004), mean over
    rows; two empty sets are alike (1).
    """
    rows = of_kind(samples, "accuracy", "class", "classes")
    groups, note = groups_of_rows(rows), note_unscored(rows)
    right = {one.id: NAN if one.label is None else float(classes_in(one.row.label) == classes_in(one.label)) for one in rows}
    if not several(rows):
        return [score_from("accuracy", right, groups, seed=ctx.seed, summary=f"share of rows whose class is right{note}")]
    alike = {one.id: NAN if one.label is None else jaccard(classes_in(one.row.label), classes_in(one.label)) for one in rows}
    return [
        score_from("accuracy", right, groups, seed=ctx.seed, summary=f"share of rows whose classes are all right and no others{note}"),
        score_from("accuracy/jaccard", alike, groups, seed=ctx.seed, summary=f"classes in common over classes in either{note}"),
    ]


def jaccard(true: frozenset[str], predicted: frozenset[str]) -> float:
    """Size of the intersection over that of the union, 1 for two empty sets."""
    return len(true & predicted) / len(true | predicted) if true | predicted else 1.0


def f1(samples: Sequence[Prediction | Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """``f1-macro``, ``f1-micro`` and ``f1-macro/CLASS``, with bootstrap intervals by clusters.

    ``f1-macro`` is the mean over the classes that rows truly have, so that two agents are measured on the same classes; answers that
    are no class count as errors and are no class of their own. ``f1-micro`` counts all classes together: with one class a row it
    is the accuracy.

    Two agents are compared by a value for each row. With one class a row it is whether the class is right, weighted so that every class
    counts the same (the mean is macro recall: a false positive of one class is a miss of another); with several it is
    F1 of the row's set of classes. A single class is compared on its own rows (recall).
    """
    rows = of_kind(samples, "f1", "class", "classes")
    done, groups, note = answered(rows), groups_of_rows(rows), note_unscored(rows)
    true = {one.id: classes_in(one.row.label) for one in rows}
    guessed = {one.id: classes_in(one.label) for one in done}
    classes = sorted(set().union(*(true[one.id] for one in done))) if done else []
    parts = f1_parts([true[one.id] for one in done], [guessed[one.id] for one in done], classes)
    values = f1_values(parts.sum(axis=0, keepdims=True))[0]
    labels = [groups[one.id] for one in done]
    cis = statistic_ci(f1_values, parts, labels, seed=ctx.seed) if done else [None, None]
    about_class = [[groups[one.id] for one in done if name in true[one.id] | guessed[one.id]] for name in classes]
    cis = [of_share(ci, float(value), those) for ci, value, those in zip(cis, values, [labels, labels, *about_class], strict=True)]
    multi = several(rows)
    members = {name: [one for one in rows if name in true[one.id]] for name in classes}
    support = {name: len(those) for name, those in members.items()}  # over all rows, so that the weights are the same for both agents
    weighted, plain = {}, {}
    for one in rows:
        if one.label is None:
            weighted[one.id] = plain[one.id] = NAN
            continue
        plain[one.id] = row_f1(true[one.id], guessed[one.id])
        weight = 1.0 if multi else len(rows) / (len(classes) * support[next(iter(true[one.id]))])
        weighted[one.id] = weight * plain[one.id]
    how = "F1 of each row's classes" if multi else "macro recall"
    about = f"mean F1 of {len(classes)} classes; compared: {how}{note}"
    micro = f"F1 over all classes together; compared: {'F1 of each row' if multi else 'accuracy'}{note}"
    common: dict[str, Any] = {"groups": groups, "seed": ctx.seed}
    scores = [
        score_from("f1-macro", weighted, value=float(values[0]), ci=cis[0], summary=about, **common),
        score_from("f1-micro", plain, value=float(values[1]), ci=cis[1], summary=micro, **common),
    ]
    for index, name in enumerate(classes, 2):
        recalled = {one.id: NAN if one.label is None else float(name in guessed[one.id]) for one in members[name]}
        summary = f"F1 of the class; {support[name]} rows have it; compared: its recall"
        scores.append(score_from(f"f1-macro/{name}", recalled, value=float(values[index]), ci=cis[index], summary=summary, **common))
    return scores


def row_f1(true: frozenset[str], predicted: frozenset[str]) -> float:
    """F1 of one row's set of classes, 1 where both are empty; with one class each whether it is right."""
    return 2 * len(true & predicted) / (len(true) + len(predicted)) if true or predicted else 1.0


def f1_parts(true: Classes, predicted: Classes, classes: Sequence[str]) -> Array:
    """What each row adds to the counts that F1 is made of, shape ``(rows, 3 * (classes + 1))``.

    The three blocks are true positives, predicted members and true members; the last column of each block is all classes together, with
    those that are not in ``classes``.
    """
    place = {name: index for index, name in enumerate(classes)}
    width = len(classes) + 1
    parts = np.zeros((len(true), 3 * width))
    for row, (one, other) in enumerate(zip(true, predicted, strict=True)):
        for block, names in enumerate((one & other, other, one)):
            for name in names:
                if name in place:
                    parts[row, block * width + place[name]] = 1
            parts[row, (block + 1) * width - 1] = len(names)
    return parts


def f1_values(sums: Array) -> Array:
    """Sums of :func:`f1_parts`, shape ``(R, 3 * (C + 1))`` -> macro, micro and each class, shape ``(R, C + 2)``.

    ``F1 = 2 TP / (predicted + true)`` (van Rijsbergen 1979); NaN for a class that is neither true nor predicted, which macro-F1 leaves out.
    """
    hits, guesses, members = np.split(sums, 3, axis=1)
    each = ratio(2 * hits, guesses + members)
    single = each[:, :-1]
    defined = ~np.isnan(single)
    macro = ratio(np.where(defined, single, 0).sum(axis=1), defined.sum(axis=1))
    return np.column_stack([macro, each[:, -1], single])


def ratio(top: Array, bottom: Array) -> Array:
    """``top / bottom``, NaN where ``bottom`` is 0, without a warning."""
    return np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=np.asarray(bottom) != 0)


def confusion(samples: Sequence[Prediction | Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """``confusion``: which class was taken for which, as ``details["confusion"]`` = ``{"labels": [...], "counts": [[...]]}``.

    A row of ``counts`` is a true class, a column a predicted one.
    ``labels`` are all classes that are known (true, or with a probability, or in ``meta.labels``); an answer of a chat model that is
    none of them is counted under ``(other answer)``. The value is the share of rows with the wrong class.
    """
    rows = of_kind(samples, "confusion", "class")
    wrong = {one.id: NAN if one.label is None else float(str(one.label) != str(one.row.label)) for one in rows}
    labels, counts = confusion_counts(rows)
    return [
        score_from(
            "confusion",
            wrong,
            groups_of_rows(rows),
            seed=ctx.seed,
            direction="none",
            summary=f"share of rows taken for another class, with the table of which for which{note_unscored(rows)}",
            details={"confusion": {"labels": labels, "counts": counts}},
        )
    ]


def confusion_counts(rows: Sequence[Prediction]) -> tuple[list[str], list[list[int]]]:
    """Labels and the square table of counts, true class by predicted class, over the rows that have a prediction."""
    known = {str(name) for one in rows for name in (one.row.label, *one.scores, *(one.row.meta.get("labels") or ()))}
    labels = sorted(known)
    place = {name: index for index, name in enumerate(labels)}
    done = answered(rows)
    if any(str(one.label) not in place for one in done):
        labels.append(OTHER)
    counts = np.zeros((len(labels), len(labels)), dtype=int)
    for one in done:
        counts[place[str(one.row.label)], place.get(str(one.label), len(labels) - 1)] += 1
    return labels, counts.tolist()
