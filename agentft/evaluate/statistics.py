"""Intervals and tests for means over prompts, with prompts of one customer or problem (a cluster) kept together.

All functions are seeded and vectorised; none accepts NaN (callers leave out what could not be scored, and count it).
Clusters are given as one label per value; None means that every value stands alone. A statistic is always the mean
over *values*; resampling draws whole clusters, so large clusters count for more, as they do in the mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

Interval = tuple[float, float]
Method = Literal["bca", "percentile"]
_NORMAL = NormalDist()
_CHUNK = 2_000_000  # random numbers drawn at a time: about 16 MB


@dataclass(frozen=True)
class Paired:
    """Outcome of :func:`paired_difference`: second minus first.

    Attributes:
        difference: mean of the differences.
        ci: its confidence interval, None below two clusters.
        p: two-sided p-value, see ``test``.
        test: ``mcnemar`` (yes / no values that stand alone) or ``permutation`` (everything else).
        n: number of pairs; ``clusters``: number of groups they fall into.
        smallest_detectable: smallest true difference that data as scattered as these would show with 80 % power, NaN
            where the differences do not vary at all.
    """

    difference: float
    ci: Interval | None
    p: float
    test: str
    n: int
    clusters: int
    smallest_detectable: float


def wilson(successes: float, n: int, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a proportion (Wilson 1927, JASA 22, 209-212). Right at 0 and n successes too."""
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"needs 0 <= successes <= n and n >= 1, got {successes} of {n}")
    z = _NORMAL.inv_cdf((1 + confidence) / 2)
    share, shrink = successes / n, 1 + z * z / n
    middle = (share + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At 0 and n successes the formula touches the border up to rounding; the border is exact.
    return (0.0 if successes == 0 else middle - half, 1.0 if successes == n else middle + half)


def mean_ci(
    values: Sequence[float] | npt.NDArray[np.float64],
    groups: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
    method: Method = "bca",
) -> Interval | None:
    """Confidence interval of the mean of ``values``; None where there are fewer than two clusters.

    Yes / no values (0 and 1 only) that stand alone get Wilson's interval; so do yes / no values that are all alike, with the
    number of clusters as n, because no resampling can show any scatter there. Everything else is bootstrapped:
    BCa (Efron 1987, JASA 82, 171-185), or percentile. BCa may miss the mean itself with few and skewed values; it is
    then widened to it.
    """
    data = _array(values)
    sums, sizes = _clusters(data, groups)
    if len(sums) < 2:
        return None
    binary = bool(np.isin(data, (0.0, 1.0)).all())
    if binary and len(sums) == len(data):
        return wilson(float(data.sum()), len(data), confidence)
    if binary and (data == data[0]).all():
        return wilson(float(data[0]) * len(sums), len(sums), confidence)
    return _bootstrap(sums, sizes, seed, resamples, confidence, method)


def statistic_ci(
    statistic: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]],
    parts: npt.NDArray[np.float64] | int,
    groups: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
    method: Method = "bca",
) -> list[Interval | None]:
    """Confidence intervals of figures of a whole corpus (macro-F1, BLEU, Pearson's r ...) by a bootstrap over clusters.

    Args:
        statistic: sums, shape ``(R, k)`` -> values, shape ``(R, m)``, one row per resample. NaN where a value is not defined.
        parts: shape ``(n, k)``: what each sample adds to the ``k`` sums that the figures are made of (for F1: true positives,
            predicted and true members of each class). A number n: the sums are how often each of n samples was drawn, for
            statistics that cannot be written with sums (ranks); use the method ``percentile`` then, BCa calls for n more rows.

    Returns:
        One interval for each of the ``m`` values, widened to the value itself where it lies outside. None where there are fewer than
        two clusters, where the value itself is NaN, or where it is NaN in more than half of the resamples (it is left out of these).
    """
    samples = parts if isinstance(parts, int) else len(parts)
    labels, count = _numbered(groups, samples)
    if isinstance(parts, int):
        clustered = np.eye(count)[:, labels] if method == "bca" else np.zeros((0, samples))
        total = np.ones((1, samples))
    elif count == samples:
        clustered, total = parts, parts.sum(axis=0, keepdims=True)
    else:
        clustered = np.stack([np.bincount(labels, weights=column, minlength=count) for column in parts.T], axis=1)
        total = parts.sum(axis=0, keepdims=True)
    estimates = statistic(total)[0]
    if count < 2:
        return [None] * len(estimates)
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // max(count, total.shape[1]))
    found = []
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        picks = rng.integers(0, count, size=(rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(picks.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
        found.append(statistic(times[:, labels] if isinstance(parts, int) else times @ clustered))
    values = np.concatenate(found)
    left_out = statistic(total - clustered) if method == "bca" else None
    low, high = (1 - confidence) / 2, (1 + confidence) / 2
    intervals: list[Interval | None] = []
    for index, estimate in enumerate(estimates.tolist()):
        drawn = values[:, index][~np.isnan(values[:, index])]
        if math.isnan(estimate) or 2 * len(drawn) < resamples:
            intervals.append(None)
            continue
        levels = (low, high)
        if left_out is not None and not np.isnan(left_out[:, index]).any():
            levels = _bca_levels(drawn, estimate, left_out[:, index], low, high)
        left, right = (float(value) for value in np.quantile(drawn, levels))
        intervals.append((min(left, estimate), max(right, estimate)))
    return intervals


def of_share(ci: Interval | None, value: float, groups: Sequence[Hashable]) -> Interval | None:
    """``ci`` of a figure between 0 and 1, from :func:`statistic_ci`, put right where no resample can show any scatter.

    At 0 or 1 in all resamples it becomes Wilson's interval, with the number of clusters among ``groups`` (of the samples that
    the figure is about) as n; None below two clusters.
    """
    clusters = len(set(groups))
    if clusters < 2:
        return None
    return wilson(value * clusters, clusters) if ci == (value, value) and value in (0.0, 1.0) else ci


def paired_difference(
    first: Sequence[float] | npt.NDArray[np.float64],
    second: Sequence[float] | npt.NDArray[np.float64],
    groups: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    resamples: int = 2000,
    permutations: int = 9999,
    confidence: float = 0.95,
    method: Method = "bca",
) -> Paired:
    """Mean of ``second - first`` on the same prompts, with a cluster bootstrap interval and a test.

    Exchanging the two arguments turns the sign of the difference and of the interval, and nothing else.
    """
    left, right = _array(first), _array(second)
    if left.shape != right.shape:
        raise ValueError(f"paired values need the same length, got {len(left)} and {len(right)}")
    differences = right - left
    sums, sizes = _clusters(differences, groups)
    alone = len(sums) == len(differences)
    if alone and np.isin(left, (0.0, 1.0)).all() and np.isin(right, (0.0, 1.0)).all():
        test, p = "mcnemar", mcnemar_exact(left, right)
    else:
        test, p = "permutation", paired_permutation(differences, groups, seed=seed, permutations=permutations)
    return Paired(
        difference=float(sums.sum() / sizes.sum()),
        ci=_bootstrap(sums, sizes, seed, resamples, confidence, method) if len(sums) > 1 else None,
        p=p,
        test=test,
        n=len(differences),
        clusters=len(sums),
        smallest_detectable=_detectable(sums, sizes),
    )


def mcnemar_exact(first: Sequence[float] | npt.NDArray[np.float64], second: Sequence[float] | npt.NDArray[np.float64]) -> float:
    """Exact two-sided McNemar test of paired yes / no values: a binomial test on the discordant pairs (McNemar 1947)."""
    left, right = _array(first), _array(second)
    wins, losses = int(((right == 1) & (left == 0)).sum()), int(((right == 0) & (left == 1)).sum())
    n, fewer = wins + losses, min(wins, losses)
    # Whole numbers throughout: 2 ** n overflows a float from n = 1024 on.
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n)


def paired_permutation(
    differences: Sequence[float] | npt.NDArray[np.float64],
    groups: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    permutations: int = 9999,
) -> float:
    """Two-sided sign-flip test that paired ``differences`` have mean 0; the signs of a cluster flip together.

    All sign patterns are tried where at most 13 clusters differ at all, otherwise ``permutations`` drawn ones, with the
    observed one added to both counts (Phipson and Smyth 2010), so that p is never 0.
    """
    sums, _ = _clusters(_array(differences), groups)
    moving = sums[sums != 0]
    size = len(moving)
    if size == 0:
        return 1.0
    observed = abs(moving.sum()) * (1 - 1e-9)  # sums in another order differ in the last digits
    if size <= 13:
        patterns = 1 - 2.0 * ((np.arange(2**size)[:, None] >> np.arange(size)) & 1)
        return float((np.abs(patterns @ moving) >= observed).mean())
    rng = np.random.default_rng(seed)
    step, extreme = max(1, _CHUNK // size), 0
    for start in range(0, permutations, step):
        rows = min(step, permutations - start)
        signs = 2.0 * rng.integers(0, 2, size=(rows, size), dtype=np.int8) - 1
        extreme += int((np.abs(signs @ moving) >= observed).sum())
    return (extreme + 1) / (permutations + 1)


def smallest_detectable_effect(sd: float, n: int, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest true mean difference that a two-sided test at ``alpha`` finds with probability ``power``.

    ``(z(1 - alpha/2) + z(power)) * sd / sqrt(n)``, with ``sd`` the standard deviation of the paired differences (Cohen 1988,
    chapter 2; Miller 2024, arXiv:2411.00640). The factor is 2.80 at the defaults. Normal approximation: too
    small below about 20 pairs.
    """
    return (_NORMAL.inv_cdf(1 - alpha / 2) + _NORMAL.inv_cdf(power)) * sd / math.sqrt(n)


def discordant_sd(effect: float, discordant: float) -> float:
    """Standard deviation of paired yes / no differences: ``sqrt(discordant - effect**2)``.

    ``discordant`` is the share of prompts on which the two agents differ (Lachin 1992, Statistics in Medicine 11, 1239-1251).
    """
    if not abs(effect) <= discordant <= 1:
        raise ValueError(f"the discordant share must be between the effect and 1, got {discordant} for {effect}")
    return math.sqrt(discordant - effect * effect)


def prompts_needed(effect: float, sd: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Number of pairs from which :func:`smallest_detectable_effect` is at most ``effect``; the same formula turned round.

    For yes / no metrics, with 30 / 20 / 15 % of the prompts on which the agents differ, 10 / 5 / 3 points need 228 / 621 /
    1,301 prompts (227 / 619 / 1,299 with the factor rounded to 2.80).
    """
    return math.ceil((smallest_detectable_effect(sd, 1, alpha=alpha, power=power) / effect) ** 2 - 1e-9)


def zero_failures_bound(n: int, confidence: float = 0.95) -> float:
    """Upper bound of a failure rate of which ``n`` tries showed none: exact, close to 3/n at 95 %."""
    return 1 - (1 - confidence) ** (1 / n)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (Holm 1979, Scandinavian Journal of Statistics 6, 65-70), in the given order."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def _array(values: Sequence[float] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or len(data) == 0:
        raise ValueError("needs at least one value")
    if np.isnan(data).any():
        raise ValueError("NaN among the values: leave out what could not be scored")
    return data


def _clusters(data: npt.NDArray[np.float64], groups: Sequence[Hashable] | None) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Sum of the values and number of values of each cluster, in order of first appearance."""
    if groups is None:
        return data, np.ones_like(data)
    labels, _ = _numbered(groups, len(data))
    return np.bincount(labels, weights=data).astype(np.float64), np.bincount(labels).astype(np.float64)


def _numbered(groups: Sequence[Hashable] | None, size: int) -> tuple[npt.NDArray[np.int64], int]:
    """The cluster of each of ``size`` samples as a number from 0, in order of first appearance; and the number of clusters."""
    if groups is None:
        return np.arange(size), size
    if len(groups) != size:
        raise ValueError(f"one group per value is needed, got {len(groups)} for {size}")
    numbers: dict[Hashable, int] = {}
    labels = np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.int64)
    return labels, len(numbers)


def _bootstrap(
    sums: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64], seed: int, resamples: int, confidence: float, method: Method
) -> Interval:
    estimate = float(sums.sum() / sizes.sum())
    means = _resampled_means(sums, sizes, seed, resamples)
    low, high = (1 - confidence) / 2, (1 + confidence) / 2
    if method == "bca":
        left_out = (sums.sum() - sums) / (sizes.sum() - sizes)
        low, high = _bca_levels(means, estimate, left_out, low, high)
    left, right = (float(value) for value in np.quantile(means, (low, high)))
    return min(left, estimate), max(right, estimate)


def _resampled_means(sums: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64], seed: int, resamples: int) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    size = len(sums)
    step = max(1, _CHUNK // size)
    parts = []
    for start in range(0, resamples, step):
        picks = rng.integers(0, size, size=(min(step, resamples - start), size))
        parts.append(sums[picks].sum(axis=1) / sizes[picks].sum(axis=1))
    return np.concatenate(parts)


def _bca_levels(
    means: npt.NDArray[np.float64], estimate: float, left_out: npt.NDArray[np.float64], low: float, high: float
) -> tuple[float, float]:
    """Bias-corrected and accelerated quantile levels; the plain ones where the data do not vary.

    ``left_out``: the statistic without one cluster at a time (the jackknife).
    """
    tolerance = 1e-12 * max(1.0, abs(estimate))  # resamples that equal the estimate up to rounding are ties
    below = float((means < estimate - tolerance).mean() + (np.abs(means - estimate) <= tolerance).mean() / 2)
    spread = left_out.mean() - left_out
    scatter = float((spread**2).sum())
    if not 0 < below < 1 or scatter < tolerance**2:
        return low, high
    bias = _NORMAL.inv_cdf(below)
    acceleration = float((spread**3).sum()) / (6 * scatter**1.5)

    def level(plain: float) -> float:
        shifted = bias + _NORMAL.inv_cdf(plain)
        room = 1 - acceleration * shifted
        return _NORMAL.cdf(bias + shifted / room) if room > 0 else plain

    return level(low), level(high)


def _detectable(sums: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64]) -> float:
    """Smallest detectable effect from the cluster-robust standard error (Miller 2024, arXiv:2411.00640, times G / (G - 1))."""
    count = len(sums)
    if count < 2:
        return math.nan
    rest = sums - sizes * (sums.sum() / sizes.sum())
    error = math.sqrt(count / (count - 1) * float((rest**2).sum())) / float(sizes.sum())
    return smallest_detectable_effect(error, 1) if error > 1e-12 else math.nan
