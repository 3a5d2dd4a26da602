"""pass^k: how likely an agent succeeds in all of k tries of a task; from its trials, with intervals over tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from agentft.environments import Episode, Outcome
from agentft.evaluate.common import score_from
from agentft.evaluate.compare import Comparison
from agentft.evaluate.compare import compare as compare_scores
from agentft.records import Score
from agentft.simulate.stored import Ended

Counts = Mapping[str, tuple[int, int]]  # task -> successes, trials


def pass_hat(successes: int, trials: int, k: int) -> float:
    """pass^k of one task: the probability that k tries all succeed, ``C(c, k) / C(n, k)`` for c successes in n >= k trials.

    The unbiased estimator of Yao et al. 2024 (tau-bench, arXiv:2406.12045, section 3): the share of all sets of k trials in which each
    succeeded.
    """
    _check(successes, trials, k)
    return math.comb(successes, k) / math.comb(trials, k)


def pass_at(successes: int, trials: int, k: int) -> float:
    """pass@k of one task: the probability that at least one of k tries succeeds, ``1 - C(n - c, k) / C(n, k)`` (Chen et al. 2021,
    arXiv:2107.03374, equation 1)."""
    _check(successes, trials, k)
    return 1 - math.comb(trials - successes, k) / math.comb(trials, k)


def _check(successes: int, trials: int, k: int) -> None:
    if not 0 <= successes <= trials or not 1 <= k <= trials:
        raise ValueError(f"needs 0 <= successes <= trials and 1 <= k <= trials, got {successes}, {trials}, k = {k}")


def counts(ended: Sequence[Ended], passed: Callable[[Episode, Outcome], bool | None] = lambda _, outcome: outcome.success) -> Counts:
    """Successes and trials of each task, in the order of the tasks' first episodes.

    Episodes with a fault of the user simulator are left out; a task may be left with no trials. ``passed``: what is counted; None: it does
    not apply to the episode.
    """
    found: dict[str, tuple[int, int]] = {}
    for one in ended:
        won, trials = found.get(one.episode.task, (0, 0))
        verdict = None if one.episode.fault else passed(one.episode, one.outcome)
        found[one.episode.task] = (won + bool(verdict), trials + (verdict is not None))
    return found


def rate(name: str, of: Counts, k: int = 1, *, at: bool = False, seed: int = 0, summary: str = "", lower: bool = False) -> Score:
    """pass^k (pass@k with ``at``) over tasks as a score: the mean over tasks with k trials or more and its bootstrap interval, tasks
    resampled. A task that has fewer trials because of faults of the user is unscored."""
    single = pass_at if at else pass_hat
    values = {task: single(won, trials, k) if trials >= k else math.nan for task, (won, trials) in of.items()}
    return score_from(name, values, seed=seed, summary=summary, direction="lower" if lower else "higher")


def scores(ended: Sequence[Ended], *, name: str = "success", seed: int = 0) -> list[Score]:
    """Scores of a simulation with one value per task, for :func:`agentft.evaluate.compare.compare`.

    Returns:
        ``success`` (pass^1), ``success/pass^k`` for every k up to the number of trials, ``success/CHECK`` for each check of the outcomes,
        ``success/readable-calls`` and ``success/answered``: shares of episodes without a malformed call, and without an error of the agent.
    """
    whole = counts(ended)
    trials = max((n for _, n in whole.values()), default=0)
    found = [rate(name, whole, seed=seed, summary="share of tasks done: final state, facts told, no policy broken (pass^1)")]
    found += [
        rate(f"{name}/pass^{k}", whole, k, seed=seed, summary=f"share of tasks done in {k} of {k} trials") for k in range(2, trials + 1)
    ]
    for check in dict.fromkeys(check for one in ended for check in one.outcome.checks if check != "ended"):
        found.append(rate(f"{name}/{check}", _passing(ended, check), seed=seed, summary=f"share of episodes that pass the check '{check}'"))
    found.append(
        rate(
            f"{name}/readable-calls",
            counts(ended, lambda episode, _: not episode.malformed),
            seed=seed,
            summary="share of episodes in which every call could be read",
        )
    )
    found.append(
        rate(
            f"{name}/answered",
            counts(ended, lambda episode, _: episode.end != "agent-error"),
            seed=seed,
            summary="share of episodes in which the agent never failed to answer",
        )
    )
    return found


def _passing(ended: Sequence[Ended], check: str) -> Counts:
    """Of the tasks that the check applies to."""
    return {task: pair for task, pair in counts(ended, lambda _, outcome: outcome.checks.get(check)).items() if pair[1]}


def compare(first: Sequence[Ended], second: Sequence[Ended], *, seed: int = 0) -> list[Comparison]:
    """Two simulations paired on the tasks that both hold: differences ``second - first`` with intervals, tests and verdicts."""
    common = {one.episode.task for one in first} & {one.episode.task for one in second}
    left, right = ([one for one in ended if one.episode.task in common] for ended in (first, second))
    return compare_scores(scores(left, seed=seed), scores(right, seed=seed), seed=seed)
