"""How often one agent beats another in the eyes of a judge: the plain win rate, the length-controlled one, and the bias of place.

A duel is one prompt with both answers, judged in both orders. Its outcome is 1 (the second agent wins), 0 (the first does) or 0.5 (a
tie, which includes every duel whose outcome turned with the order).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agentft.evaluate.statistics import Interval, mean_ci, paired_difference, statistic_ci

FEWEST = 10  # duels below which no length effect is estimated
RIDGE = 0.1  # of the length effect: a normal prior around 0 with a standard deviation of 3.2
RESAMPLES = 1000
_STEPS, _STRIDE = 60, 2.0

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LengthControlled:
    """The win rate that would be seen if both answers were equally long.

    Attributes:
        rate: between 0 and 1, NaN where it cannot be told (see ``note``).
        ci: percentile bootstrap over clusters; None below two clusters.
        effect: what length does, in log-odds of winning between answers of the same length and much longer ones; above 0 the judge
            likes what is longer.
        note: why there is no figure, or why to read it with care; empty otherwise.
    """

    rate: float
    ci: Interval | None
    effect: float
    n: int
    note: str = ""


@dataclass(frozen=True)
class WinRate:
    """Outcome of many duels, for the second agent.

    Attributes:
        wins, ties, losses: duels; ``unread`` could not be judged and are left out, ``same`` of the ties had equal texts and were not asked.
        rate: (wins + ties / 2) / n, NaN without a duel; ci: by clusters; p: two-sided, that both are equally good (exact sign test, or
            sign flips of clusters).
        consistent: share of asked duels in which both orders gave the same answer; ``first_share``: of the decided votes, the share
            that went to the answer that stood first (0.5 without bias of place), with an interval.
    """

    n: int
    wins: int
    ties: int
    losses: int
    same: int
    unread: int
    rate: float
    ci: Interval | None
    p: float | None
    consistent: float
    consistent_ci: Interval | None
    first_share: float
    first_ci: Interval | None
    controlled: LengthControlled

    def to_dict(self) -> dict[str, Any]:
        """JSON data; NaN becomes None."""
        return _plain(asdict(self))


@dataclass(frozen=True)
class Judged:
    """One duel as judged.

    Attributes:
        winner: ``first``, ``second``, ``tie``, or None where it could not be read.
        forward, backward: the votes in the given and the swapped order, in terms of the two agents.
        lengths: characters of both answers.
        same: both texts are equal, and nobody was asked.
    """

    id: str
    winner: str | None
    forward: Sequence[str | None] = ()
    backward: Sequence[str | None] = ()
    lengths: tuple[int, int] = (0, 0)
    same: bool = False


def win_rate(duels: Sequence[Judged], groups: Mapping[str, str] | None = None, seed: int = 0, *, confidence: float = 0.95) -> WinRate:
    """Count, with intervals over clusters (``groups``: id -> group; an id that is not in it stands alone)."""
    known = groups or {}
    read = [one for one in duels if one.winner is not None]
    values = [{"second": 1.0, "tie": 0.5, "first": 0.0}[str(one.winner)] for one in read]
    labels = [known.get(one.id, one.id) for one in read]
    asked = [one for one in read if not one.same]
    agree = [float(list(one.forward) == list(one.backward)) for one in asked]
    of_place = [(share, known.get(one.id, one.id)) for one in asked if (share := _share_of_first(one)) is not None]

    def interval(numbers: Sequence[float], clusters: Sequence[Hashable]) -> Interval | None:
        return mean_ci(numbers, clusters, seed=seed, confidence=confidence) if numbers else None

    return WinRate(
        n=len(read),
        wins=values.count(1.0),
        ties=values.count(0.5),
        losses=values.count(0.0),
        same=sum(one.same for one in read),
        unread=len(duels) - len(read),
        rate=_mean(values),
        ci=interval(values, labels),
        p=paired_difference([1 - value for value in values], values, labels, seed=seed).p if values else None,
        consistent=_mean(agree),
        consistent_ci=interval(agree, [known.get(one.id, one.id) for one in asked]),
        first_share=_mean([share for share, _ in of_place]),
        first_ci=interval([share for share, _ in of_place], [label for _, label in of_place]),
        controlled=length_controlled(values, [one.lengths[1] - one.lengths[0] for one in read], labels, seed, confidence=confidence),
    )


def length_controlled(
    outcomes: Sequence[float],
    differences: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> LengthControlled:
    """Win rate at equal length, by logistic regression of the outcome on the difference of lengths.

    ``P(win) = sigmoid(theta + phi * tanh(d / sd(d)))``, with ``d`` the length of the second answer minus that of the first; the
    figure is ``sigmoid(theta)``. This is the estimator of AlpacaEval 2 (Dubois, Galambosi, Liang and Hashimoto 2024, "Length-Controlled
    AlpacaEval", arXiv:2404.04475, equation 2) without its term for how hard a prompt is, which takes many pairs of agents on the
    same prompts to estimate. ``phi`` has a weak ridge penalty (as there), so that it stays finite where length alone decides. Without an
    effect of length the figure is the plain win rate; exchanging the agents turns it into 1 minus itself.

    Args:
        outcomes: 1, 0.5 or 0 each, for the second agent.
        differences: of the lengths, in any unit.

    Below 10 duels there is no figure: two numbers cannot be had from so few yes and no. Where no two differences differ the effect of
    length cannot be told from that of the agents, and there is none either. Where the second answer is longer, or shorter, in all
    duels, the figure reaches beyond what was seen; the note says so.
    """
    y, d = np.asarray(outcomes, dtype=np.float64), np.asarray(differences, dtype=np.float64)
    if len(y) != len(d):
        raise ValueError(f"one difference per outcome is needed, got {len(d)} for {len(y)}")
    if len(y) < FEWEST:
        return LengthControlled(math.nan, None, math.nan, len(y), f"needs at least {FEWEST} judged duels, and there are {len(y)}")
    spread = float(d.std())
    if spread < 1e-9:
        if d[0] == 0:  # equal lengths: there is nothing to control for
            return LengthControlled(float(y.mean()), mean_ci(y, groups, seed=seed, confidence=confidence), 0.0, len(y))
        note = f"one answer is longer by the same {abs(d[0]):g} in all duels: what length does cannot be told apart"
        return LengthControlled(math.nan, None, math.nan, len(y), note)
    x = np.tanh(d / spread)

    def statistic(times: Array) -> Array:
        return _fit(times, x, y)[:, :1]

    fitted = _fit(np.ones((1, len(y))), x, y)[0]
    (ci,) = statistic_ci(statistic, len(y), groups, seed=seed, resamples=resamples, confidence=confidence, method="percentile")
    sided = "longer" if (d > 0).all() else "shorter" if (d < 0).all() else ""
    note = f"the second answer is {sided} in all duels, so equal length lies outside of what was seen" if sided else ""
    return LengthControlled(float(fitted[0]), ci, float(fitted[1]), len(y), note)


def _fit(times: Array, x: Array, y: Array) -> Array:
    """``sigmoid(theta)`` and ``phi`` for each row of ``times`` (how often each duel counts), shape (R, 2), by Newton's method."""
    total = times.sum(axis=1)
    mean = (times @ y) / total
    # All won or all lost: theta has no finite optimum, and the rate is 1 or 0.
    decided = (mean < 1e-12) | (mean > 1 - 1e-12)
    theta = np.log(np.clip(mean, 1e-6, 1 - 1e-6) / np.clip(1 - mean, 1e-6, 1))
    phi = np.zeros_like(theta)
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-(theta[:, None] + phi[:, None] * x)))
        rest, v = times * (y - p), times * p * (1 - p)
        slope = rest.sum(axis=1), rest @ x - RIDGE * phi
        a, b, c = v.sum(axis=1) + 1e-12, v @ x, v @ (x * x) + RIDGE
        determinant = a * c - b * b
        steps = ((c * slope[0] - b * slope[1]) / determinant, (a * slope[1] - b * slope[0]) / determinant)
        # Far from the optimum a full step may overshoot; bounded ones arrive all the same.
        theta = theta + np.clip(steps[0], -_STRIDE, _STRIDE)
        phi = phi + np.clip(steps[1], -_STRIDE, _STRIDE)
        if max(float(np.abs(step[~decided]).max(initial=0.0)) for step in steps) < 1e-10:
            break
    rate = np.where(decided, mean, 1 / (1 + np.exp(-np.clip(theta, -500, 500))))
    return np.stack([rate, np.where(decided, 0.0, phi)], axis=1)


def _share_of_first(duel: Judged) -> float | None:
    """Of the votes of one duel that are for one of the answers, the share for what stood first; None without such a vote."""
    votes = [vote == "first" for vote in duel.forward if vote in ("first", "second")]
    votes += [vote == "second" for vote in duel.backward if vote in ("first", "second")]
    return sum(votes) / len(votes) if votes else None


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else list(value) if isinstance(value, tuple) else value
