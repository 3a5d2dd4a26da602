"""``ranking`` and ``calibration``: where the true class stands among the classes, and whether probabilities mean what they say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from agentft.contracts import EvalContext, Generate
from agentft.errors import DataError
from agentft.evaluate.classification import ratio
from agentft.evaluate.common import NAN, score_from
from agentft.evaluate.predictions import classes_in, groups_of_rows, note_unscored, of_kind
from agentft.evaluate.statistics import of_share, statistic_ci
from agentft.labelled import Prediction
from agentft.records import Sample, Score
from agentft.validation import Model

BINS = 15


class RankingConfig(Model):
    """Options of ``ranking``."""

    k: int = Field(default=10, ge=1, description="NDCG looks at the first `k` classes")


def ranking(samples: Sequence[Prediction | Sample], generate: Generate, config: RankingConfig | None, ctx: EvalContext) -> list[Score]:
    """``mrr`` and ``ndcg@k`` of the true class, or classes, among all classes by probability; means over rows.

    Classes with equal probabilities stand in every order, and the values are the means over these orders. A true class that
    the model gives no probability stands nowhere. Rows without probabilities, or without a true class, are unscored or do not apply.
    """
    rows = [one for one in of_kind(samples, "ranking", "class", "classes") if classes_in(one.row.label)]
    k = config.k if config else RankingConfig().k
    found: dict[str, tuple[float, float]] = {}
    for one in rows:
        if one.label is None or not one.scores:
            found[one.id] = (NAN, NAN)
        else:
            true = classes_in(one.row.label)
            found[one.id] = reciprocal_rank(one.scores, true), ndcg(one.scores, true, k)
    note = note_unscored(rows) + _bare(rows)
    groups = groups_of_rows(rows)
    about = (
        f"1 / place of the true class among the classes by probability{note}",
        f"discounted gain of the true class in the first {k}{note}",
    )
    return [
        score_from(name, {key: both[index] for key, both in found.items()}, groups, seed=ctx.seed, summary=about[index])
        for index, name in enumerate(("mrr", f"ndcg@{k}"))
    ]


def reciprocal_rank(scores: Mapping[str, float], true: frozenset[str]) -> float:
    """1 / place of the first true class, mean over the orders of ties; 0 where no true class has a score."""
    best = max((scores[name] for name in true if name in scores), default=None)
    if best is None:
        return 0.0
    before = sum(value > best for value in scores.values())
    tied = sum(value == best for value in scores.values())
    right = sum(scores.get(name) == best for name in true)
    # The first of `right` true classes among `tied` ones stands at place j with probability C(tied - j, right - 1) / C(tied, right).
    places = range(1, tied - right + 2)
    return math.fsum(math.comb(tied - j, right - 1) / math.comb(tied, right) / (before + j) for j in places)


def ndcg(scores: Mapping[str, float], true: frozenset[str], k: int) -> float:
    """NDCG at k with gain 1 for a true class and discount ``1 / log2(place + 1)`` (Jarvelin and Kekalainen 2002), mean over ties."""
    place, gain = 0, 0.0
    for value in sorted(set(scores.values()), reverse=True):
        names = [name for name, one in scores.items() if one == value]
        share = sum(name in true for name in names) / len(names)
        gain += share * math.fsum(1 / math.log2(j + 1) for j in range(place + 1, min(place + len(names), k) + 1))
        place += len(names)
    return gain / math.fsum(1 / math.log2(j + 1) for j in range(1, min(len(true), k) + 1))


def calibration(samples: Sequence[Prediction | Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """``calibration``: expected calibration error (Guo et al. 2017, arXiv:1706.04599): 15 bins of equal width, 0 is best.

    In each bin the distance between mean probability of the predicted class and share of right predictions, weighted by the bin's rows.
    Two agents are compared by the squared distance of probability and correctness of each row. ``details["bins"]``: rows, mean
    probability and accuracy of each bin. Finite samples make the error look larger than it is, most where there are few rows.

    Raises:
        DataError: a probability is not between 0 and 1.
    """
    rows = of_kind(samples, "calibration", "class")
    done = [one for one in rows if one.label is not None and one.scores]
    sure = np.array([one.scores.get(str(one.label), max(one.scores.values())) for one in done], dtype=np.float64)
    right = np.array([str(one.label) == str(one.row.label) for one in done], dtype=np.float64)
    for one, value in zip(done, sure, strict=True):
        if not -1e-6 <= value <= 1 + 1e-6:
            raise DataError(f"'calibration' needs probabilities, but row '{one.id}' has {value:g} for '{one.label}'")
    parts = calibration_parts(sure, right)
    sums = parts.sum(axis=0)
    value = float(calibration_values(sums[None])[0, 0]) if done else NAN
    labels = [one.row.group_key for one in done]
    ci = of_share(statistic_ci(calibration_values, parts, labels, seed=ctx.seed)[0], value, labels) if done else None
    distance = {one.id: NAN for one in rows} | {one.id: float(far) for one, far in zip(done, (sure - right) ** 2, strict=True)}
    count, confidence, accuracy = np.split(sums, 3)
    bins = [[int(count[i]), float(confidence[i] / count[i]), float(accuracy[i] / count[i])] for i in range(BINS) if count[i]]
    return [
        score_from(
            "calibration",
            distance,
            groups_of_rows(rows),
            seed=ctx.seed,
            value=value,
            ci=ci,
            direction="lower",
            summary="expected calibration error, 15 bins; compared: squared distance of probability and correctness"
            + note_unscored(rows)
            + _bare(rows),
            details={"bins": bins},
        )
    ]


def calibration_parts(sure: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What each row adds to its bin: one row, its probability, its correctness; shape ``(rows, 3 * 15)``. Bins are open below."""
    where = np.clip(np.searchsorted(np.arange(BINS + 1) / BINS, sure, side="left") - 1, 0, BINS - 1)
    parts = np.zeros((len(sure), 3, BINS))
    for block, values in enumerate((np.ones_like(sure), sure, right)):
        parts[np.arange(len(sure)), block, where] = values
    return parts.reshape(len(sure), 3 * BINS)


def calibration_values(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Sums of :func:`calibration_parts`, shape ``(R, 45)`` -> expected calibration error, shape ``(R, 1)``."""
    count, confidence, accuracy = np.split(sums, 3, axis=1)
    return ratio(np.abs(confidence - accuracy).sum(axis=1), count.sum(axis=1))[:, None]


def _bare(rows: Sequence[Prediction]) -> str:
    bare = sum(one.label is not None and not one.scores for one in rows)
    return f"; {bare} not scored because the model gives no probabilities" if bare else ""
