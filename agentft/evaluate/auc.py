"""``auc``: do rows of a class get higher probabilities for it than other rows do? Area under the ROC and precision-recall curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from agentft.contracts import EvalContext, Generate
from agentft.evaluate.classification import ratio
from agentft.evaluate.common import NAN, score_from
from agentft.evaluate.predictions import classes_in, groups_of_rows, note_unscored, of_kind
from agentft.evaluate.statistics import of_share, statistic_ci
from agentft.labelled import Prediction
from agentft.records import Sample, Score

Array = npt.NDArray[Any]
RESAMPLES = 1000  # ranks are counted anew in each: 77 classes and 5,000 rows take about two seconds


def auc(samples: Sequence[Prediction | Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """``auc-roc`` and ``auc-pr`` (average precision), each class against the rest, mean over classes; intervals by a percentile bootstrap.

    A class that no row has, or that all rows have, has no curve: it is left out and the summary says so; with no class left the
    value is NaN. ``details["classes"]``: class -> value (None: no curve). Rows without probabilities are unscored.

    Two agents are compared by a value for each row, of which the figure is the mean: for ROC the share of other rows with a lower
    probability for this row's class, for PR the precision among rows with at least this row's probability; weighted so that every
    class counts the same.
    """
    rows = of_kind(samples, "auc", "class", "classes")
    done = [one for one in rows if one.label is not None and one.scores]
    names = sorted({name for one in done for name in (*one.scores, *classes_in(one.row.label))})
    scores = np.array([[one.scores.get(name, 0.0) for name in names] for one in done]).reshape(len(done), len(names))
    truth = np.array([[name in classes_in(one.row.label) for name in names] for one in done], dtype=bool).reshape(scores.shape)
    values, each = area(scores, truth)
    labels = [one.row.group_key for one in done]
    cis = [of_share(ci, value, labels) for ci, value in zip(auc_cis(scores, truth, labels, ctx.seed), values, strict=True)]
    stand_in = _per_row(scores, truth)
    bare = sum(one.label is not None and not one.scores for one in rows)
    absent = [name for index, name in enumerate(names) if truth[:, index].all() or not truth[:, index].any()]
    note = note_unscored(rows) + (f"; {bare} not scored because the model gives no probabilities" if bare else "")
    if absent:
        shown = f"'{absent[0]}'" + (f" and {len(absent) - 1} more" if len(absent) > 1 else "")
        note += f"; no curve for {shown}: no row has it, or all rows have it"
    about = (("auc-roc", "area under the ROC curve"), ("auc-pr", "average precision"))
    result = []
    for index, (name, what) in enumerate(about):
        found = {one.id: NAN for one in rows} | {one.id: float(value) for one, value in zip(done, stand_in[index], strict=True)}
        result.append(
            score_from(
                name,
                found,
                groups_of_rows(rows),
                seed=ctx.seed,
                value=values[index],
                ci=cis[index],
                unit="share",
                summary=f"{what}, each class against the rest, mean over {len(names) - len(absent)} classes{note}",
                details={"classes": {n: None if np.isnan(v) else float(v) for n, v in zip(names, each[index], strict=True)}},
            )
        )
    return result


def area(scores: Array, truth: Array) -> tuple[tuple[float, float], tuple[Array, Array]]:
    """ROC-AUC and average precision: the means over classes, and each class (NaN where there is no curve).

    Args:
        scores: shape ``(rows, classes)``. truth: the same shape, whether the row has the class.
    """
    once = np.ones((len(scores), 1), dtype=np.float32)
    roc, pr = (found[:, 0] for found in _curves(scores, truth, once))
    return (_mean(roc), _mean(pr)), (roc, pr)


def auc_cis(scores: Array, truth: Array, groups: Sequence[str], seed: int) -> list[tuple[float, float] | None]:
    """Intervals of both means of :func:`area`; a resample in which a class is absent leaves the class out."""
    if len(scores) < 2 or not scores.shape[1]:
        return [None, None]

    def statistic(times: Array) -> Array:
        found = _curves(scores, truth, np.ascontiguousarray(times.T, dtype=np.float32))
        return np.column_stack([_means(one) for one in found])

    return statistic_ci(statistic, len(scores), groups, seed=seed, resamples=RESAMPLES, method="percentile")


def at_members(scores: Array, member: Array, times: Array) -> tuple[Array, Array, Array]:
    """One class seen from each of its rows, when row i stands in the data ``times[i]`` times (shape ``(rows, R)``).

    Returns:
        The class's rows by rising score; the share of other rows with a lower score (an equal one counts half; Hanley and McNeil
        1982), shape ``(members, R)``; the precision among rows with at least this score.
    """
    order = np.argsort(scores, kind="stable")
    mine = order[member[order]]
    blank = np.zeros((1, times.shape[1]))
    all_below = np.concatenate([blank, np.cumsum(times[order], axis=0, dtype=np.float32)])
    mine_below = np.concatenate([blank, np.cumsum(times[mine], axis=0, dtype=np.float32)])
    own, ranked = scores[mine], scores[order]
    first, last = np.searchsorted(ranked, own, "left"), np.searchsorted(ranked, own, "right")
    mine_first, mine_last = np.searchsorted(own, own, "left"), np.searchsorted(own, own, "right")
    lower, upto = all_below[first] - mine_below[mine_first], all_below[last] - mine_below[mine_last]
    others = all_below[-1] - mine_below[-1]
    above, hits = all_below[-1] - all_below[first], mine_below[-1] - mine_below[mine_first]
    return mine, ratio((lower + upto) / 2, np.broadcast_to(others, lower.shape)), ratio(hits, above)


def _curves(scores: Array, truth: Array, times: Array) -> tuple[Array, Array]:
    """ROC-AUC and average precision of each class in each resample, shape ``(classes, R)`` both."""
    roc, pr = (np.full((scores.shape[1], times.shape[1]), np.nan) for _ in range(2))
    for index in range(scores.shape[1]):
        member = truth[:, index]
        if member.all() or not member.any():
            continue
        mine, ranks, precisions = at_members(scores[:, index], member, times)
        weight = times[mine].astype(np.float64)
        there = (times.sum(axis=0) > weight.sum(axis=0)) & (weight.sum(axis=0) > 0)  # else all or none have it in this resample
        for kept, values in ((roc, ranks), (pr, precisions)):
            mean = ratio(np.where(weight > 0, weight * np.nan_to_num(values), 0).sum(axis=0), weight.sum(axis=0))
            kept[index] = np.where(there, mean, np.nan)
    return roc, pr


def _per_row(scores: Array, truth: Array) -> tuple[Array, Array]:
    """For each row its share in both figures; their mean over rows is the figure. NaN for a row none of whose classes has a curve."""
    rows = len(scores)
    curves = [index for index in range(scores.shape[1]) if truth[:, index].any() and not truth[:, index].all()]
    found = np.zeros((2, rows))
    for index in curves:
        mine, *both = at_members(scores[:, index], truth[:, index], np.ones((rows, 1), dtype=np.float32))
        for kept, values in zip(found, both, strict=True):
            kept[mine] += values[:, 0] * rows / (len(curves) * len(mine))
    if not curves:
        found[:] = np.nan
    return found[0], found[1]


def _means(values: Array) -> Array:
    """Mean over classes, those that are NaN left out; shape ``(classes, R)`` -> ``(R,)``."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(axis=0), defined.sum(axis=0))


def _mean(values: Array) -> float:
    return float(_means(values[:, None])[0])
