"""``regression``: how far predicted numbers are from the true ones, and whether they rise together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from agentft.contracts import EvalContext, Generate
from agentft.evaluate.classification import ratio
from agentft.evaluate.common import NAN, score_from
from agentft.evaluate.predictions import groups_of_rows, note_unscored, of_kind
from agentft.evaluate.statistics import statistic_ci
from agentft.labelled import Prediction
from agentft.records import Sample, Score

Array = npt.NDArray[np.float64]


def regression(samples: Sequence[Prediction | Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """``rmse`` and ``mae`` (in the unit of the label, lower is better), ``pearson`` and ``spearman`` (-1 to 1).

    Two agents are compared by squared errors (rmse), absolute errors (mae), and for the correlations by each row's product of standardised
    values or ranks, whose mean is the correlation. A prediction that is not finite is unscored. A correlation is NaN, and says so,
    where the true or the predicted numbers do not vary.
    """
    rows = of_kind(samples, "regression", "number")
    numbers = {one.id: number_of(one) for one in rows}
    done = [one for one in rows if math.isfinite(numbers[one.id])]
    true = np.array([float(one.row.label) for one in done])
    guessed = np.array([numbers[one.id] for one in done])
    groups, note = groups_of_rows(rows), note_unscored(rows)
    labels = [groups[one.id] for one in done]
    values = regression_values(true, guessed)
    squares = (guessed - true) ** 2
    root = statistic_ci(_root, np.column_stack([squares, np.ones_like(squares)]), labels, seed=ctx.seed)[0] if done else None
    stiff = "" if len(done) < 2 or not math.isnan(values["pearson"]) else "; not computed: the true or the predicted numbers do not vary"

    def score(name: str, each: Array, what: str, **more: Any) -> Score:
        found = {one.id: NAN for one in rows} | {one.id: float(value) for one, value in zip(done, each, strict=True)}
        return score_from(name, found, groups, seed=ctx.seed, summary=f"{what}{note}", **more)

    result = [
        score(
            "rmse",
            squares,
            "root of the mean squared error; compared: squared error",
            value=values["rmse"],
            ci=root,
            direction="lower",
            unit="",
        ),
        score("mae", np.abs(guessed - true), "mean absolute error", direction="lower", unit=""),
    ]
    what = {"pearson": "linear correlation", "spearman": "correlation of ranks"}
    for name, ranked in (("pearson", False), ("spearman", True)):
        each = products(ranks(true), ranks(guessed)) if ranked else products(true, guessed)
        ci = correlation_ci(true, guessed, labels, ctx.seed, ranked=ranked) if done and not math.isnan(values[name]) else None
        summary = f"{what[name]}; compared: product of standardised {'ranks' if ranked else 'values'}{stiff}"
        result.append(score(name, each, summary, value=values[name], ci=ci, unit="r"))
    return result


def number_of(one: Prediction) -> float:
    """The predicted number, NaN where there is none."""
    value = one.label if one.label is not None else NAN
    return float(value) if isinstance(value, int | float) else float(one.scores.get("value", NAN))


def regression_values(true: Array, guessed: Array) -> dict[str, float]:
    """``rmse``, ``mae``, ``pearson`` and ``spearman`` of two series; NaN where not defined."""
    if not len(true):
        return dict.fromkeys(("rmse", "mae", "pearson", "spearman"), NAN)
    errors = guessed - true
    return {
        "rmse": float(np.sqrt((errors**2).mean())),
        "mae": float(np.abs(errors).mean()),
        "pearson": float(products(true, guessed).mean()),
        "spearman": float(products(ranks(true), ranks(guessed)).mean()),
    }


def products(true: Array, guessed: Array) -> Array:
    """Products of standardised values, whose mean is Pearson's correlation; NaN where one of the two does not vary."""
    standard = []
    for values in (true, guessed):
        centred = values - values.mean() if len(values) else values
        spread = float(np.sqrt((centred**2).mean())) if len(values) else 0.0
        flat = spread <= 1e-12 * max(1.0, float(np.abs(values).max(initial=0)))
        standard.append(np.full_like(values, np.nan) if flat else centred / spread)
    left, right = standard
    product: Array = left * right
    return product


def ranks(values: Array) -> Array:
    """Places from 1, equal values sharing the mean of their places."""
    return weighted_ranks(values, np.ones((len(values), 1)))[:, 0]


def weighted_ranks(values: Array, times: Array) -> Array:
    """:func:`ranks` when value i stands in the data ``times[i]`` times; shape of ``times`` and of the result ``(n, R)``."""
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    below = np.concatenate([np.zeros((1, times.shape[1])), np.cumsum(times[order], axis=0)])
    first, last = np.searchsorted(ranked, values, "left"), np.searchsorted(ranked, values, "right")
    places: Array = (below[first] + below[last] + 1) / 2
    return places


def correlation_ci(true: Array, guessed: Array, groups: Sequence[str], seed: int, *, ranked: bool) -> tuple[float, float] | None:
    """Interval of Pearson's or (``ranked``) Spearman's correlation; ranks are counted anew in every resample."""
    if not ranked:
        # Around the means, so that nothing cancels; the correlation does not change.
        x, y = true - true.mean(), guessed - guessed.mean()
        parts = np.column_stack([np.ones_like(x), x, y, x * x, y * y, x * y])
        return statistic_ci(_pearson, parts, groups, seed=seed)[0]

    def spearman(times: Array) -> Array:
        drawn = np.ascontiguousarray(times.T)
        x, y = (weighted_ranks(values, drawn) for values in (true, guessed))
        middle = (times.sum(axis=1) + 1) / 2
        x, y = x - middle, y - middle
        return _pearson(np.column_stack([(drawn * one).sum(axis=0) for one in (np.ones_like(x), x, y, x * x, y * y, x * y)]))

    return statistic_ci(spearman, len(true), groups, seed=seed, resamples=1000, method="percentile")[0]


def _pearson(sums: Array) -> Array:
    n, x, y, xx, yy, xy = sums.T
    across, left, right = n * xy - x * y, n * xx - x * x, n * yy - y * y
    # A resample of one value over and over has no correlation; rounding may leave a tiny spread.
    some = (left > 1e-12 * np.maximum(n * xx, 1e-300)) & (right > 1e-12 * np.maximum(n * yy, 1e-300))
    return ratio(across, np.where(some, np.sqrt(np.clip(left, 0, None) * np.clip(right, 0, None)), 0))[:, None]


def _root(sums: Array) -> Array:
    return np.sqrt(ratio(sums[:, :1], sums[:, 1:]))
