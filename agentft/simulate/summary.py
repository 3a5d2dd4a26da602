"""What became of a simulation, as JSON data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from agentft.environments import SimTask
from agentft.records import Score
from agentft.simulate.passk import counts, rate, scores
from agentft.simulate.stored import Ended


def summarise(tasks: Sequence[SimTask], ended: Sequence[Ended], seed: int = 0) -> dict[str, Any]:
    """Figures of a simulation.

    Returns:
        ``pass`` and ``pass_at``: k -> ``{"value", "ci", "n"}`` (pass^k and pass@k over tasks, 95 % bootstrap interval, number of tasks);
        ``slices``: name -> value -> the same of pass^1; ``checks``: check -> episodes that pass and that it applies to; ``violations``:
        policy -> number; ``ends``: reason -> number; sums of ``calls``, ``malformed``, ``tool_errors``, ``tokens``; ``user_faults`` and
        ``agent_errors``: reason -> number; ``scores``: see :func:`agentft.simulate.passk.scores`. Episodes with a user's fault are in
        ``user_faults`` and ``episodes`` only.
    """
    sound = [one for one in ended if not one.episode.fault]
    whole = counts(ended)
    trials = max((n for _, n in whole.values()), default=0)
    slices: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(name for task in tasks for name in task.slices):
        values = dict.fromkeys(str(task.slices[name]) for task in tasks if name in task.slices)
        slices[name] = {
            value: figure(rate(value, {t.id: whole[t.id] for t in tasks if str(t.slices.get(name)) == value and t.id in whole}, seed=seed))
            for value in values
        }
    checks = {
        check: {
            "passed": sum(one.outcome.checks.get(check, False) for one in sound),
            "of": sum(check in one.outcome.checks for one in sound),
        }
        for check in dict.fromkeys(check for one in sound for check in one.outcome.checks if check != "ended")
    }
    return {
        "tasks": len({one.episode.task for one in ended}),
        "episodes": len(ended),
        "pass": {str(k): figure(rate(f"pass^{k}", whole, k, seed=seed)) for k in range(1, trials + 1)},
        "pass_at": {str(k): figure(rate(f"pass@{k}", whole, k, at=True, seed=seed)) for k in range(2, trials + 1)},
        "slices": slices,
        "checks": checks,
        "violations": _most(Counter(violation.policy for one in sound for violation in one.episode.violations)),
        "ends": _most(Counter(one.episode.end for one in sound)),
        **{key: sum(getattr(one.episode, key) for one in sound) for key in ("calls", "malformed", "tool_errors", "tokens")},
        "with_malformed": sum(one.episode.malformed > 0 for one in sound),
        "user_faults": _most(Counter(one.episode.fault for one in ended if one.episode.fault)),
        "agent_errors": _most(Counter(one.episode.error for one in sound if one.episode.end == "agent-error")),
        "scores": [score.to_dict() for score in scores(ended, seed=seed)],
    }


def figure(score: Score) -> dict[str, Any]:
    """A score as ``{"value", "ci", "n"}``; value None where no task has enough trials."""
    data = score.to_dict()
    return {key: data[key] for key in ("value", "ci", "n")}


def _most(found: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
