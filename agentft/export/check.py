"""How far an export is from the agent: the outputs of both on the same probes, position by position.

The agent's outputs lie on disk meanwhile, so that two models are never in memory at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agentft.contracts import Probe, Reading, Tolerance


@dataclass(frozen=True)
class Agreement:
    """One program's reading of an export, against the agent.

    Attributes:
        reading: the program.
        probes, positions: how many were compared.
        kl: mean KL(agent || export) per position in nats, ``kl_max`` the largest of a position; None where outputs are no distributions.
            From a program that tells the likeliest tokens only, all others count as one, which can only make it smaller.
        agreement: share of positions with the same likeliest output; None where outputs are no distributions.
        same_answers: share of probes where that holds at every position, so that the greedy answer is the same to the last token.
        difference: largest difference of outputs that are no distributions, as a share of the agent's largest; else None.
        prompts: share of probes whose prompt the program makes of the same tokens by itself; None where it makes none.
        failures: what is out of tolerance, a sentence each; empty: good.
    """

    reading: str
    probes: int
    positions: int
    kl: float | None = None
    kl_max: float | None = None
    agreement: float | None = None
    same_answers: float | None = None
    difference: float | None = None
    prompts: float | None = None
    failures: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "failures": list(self.failures)}


class Reference:
    """The agent's own outputs on the probes, in a folder.

    Args:
        folder: an empty one.
        distributions: the outputs of a position are a distribution.

    Attributes:
        prompts: probe id -> tokens of its prompt in one piece, as a program without agentft has to make them.
        skipped: why a row could not be used; the last such reason.
    """

    def __init__(self, folder: Path, distributions: bool):
        self.folder, self.distributions = folder, distributions
        self.prompts: dict[str, list[int]] = {}
        self.skipped = ""
        self.probes: list[Probe] = []

    def add(self, probe: Probe, outputs: Any) -> None:
        """Keep the agent's outputs for a probe, an array of shape (positions, outputs)."""
        import numpy as np

        np.save(self.folder / f"{len(self.probes)}.npy", np.asarray(outputs, dtype=np.float32))
        self.probes.append(probe)

    def __iter__(self) -> Iterator[tuple[Probe, Any]]:
        import numpy as np

        for place, probe in enumerate(self.probes):
            yield probe, np.load(self.folder / f"{place}.npy")


def compare(reference: Reference, reading: Reading, tolerance: Tolerance, progress: Callable[[int, int], None] | None = None) -> Agreement:
    """Ask a reading all probes and hold it against the agent."""
    import numpy as np

    divergences: list[float] = []
    same: list[bool] = []
    whole: list[bool] = []
    largest, difference = 0.0, 0.0
    prompts: list[bool] = []
    for done, (probe, mine) in enumerate(reference, 1):
        theirs = reading.outputs(probe)
        if reference.distributions:
            found = [position(one, other) for one, other in zip(mine, theirs, strict=True)]
            divergences += [kl for kl, _ in found]
            same += [equal for _, equal in found]
            whole.append(all(equal for _, equal in found))
        else:
            theirs = np.asarray(theirs, dtype=np.float64)
            gap = float(np.abs(mine - theirs).max()) if mine.shape == theirs.shape else math.inf
            largest = max(largest, float(np.abs(mine).max()))
            difference = max(difference, gap) if math.isfinite(gap) else math.inf
        made = reading.prompt(probe) if probe.id in reference.prompts else None
        if made is not None:
            prompts.append(made == reference.prompts[probe.id])
        if progress is not None:
            progress(done, len(reference.probes))
    agreement = Agreement(
        reading.name,
        len(reference.probes),
        len(divergences),
        kl=_mean(divergences),
        kl_max=max(divergences, default=None),
        agreement=_mean(same),
        same_answers=_mean(whole),
        difference=None if reference.distributions else difference / (largest or 1.0),
        prompts=_mean(prompts),
    )
    return _judged(agreement, tolerance)


def position(mine: Any, theirs: Any) -> tuple[float, bool]:
    """KL divergence in nats of one position, and whether the likeliest output is the same.

    Args:
        mine: the agent's log-probabilities, or raw outputs, of shape (outputs,).
        theirs: the same, or ``{output: log-probability}`` of the likeliest ones.

    Returns: infinity for anything that is not a number.
    """
    import numpy as np

    ours = _normal(np.asarray(mine, dtype=np.float64))
    if isinstance(theirs, Mapping):
        keys = list(theirs)
        q = np.array([theirs[key] for key in keys], dtype=np.float64)
        p = ours[keys]
        rest_p, rest_q = (max(1.0 - float(np.exp(part).sum()), 1e-9) for part in (p, q))
        value = float((np.exp(p) * (p - q)).sum()) + rest_p * (math.log(rest_p) - math.log(rest_q))
        same = bool(keys) and int(ours.argmax()) == max(keys, key=theirs.__getitem__)
        return (max(value, 0.0) if math.isfinite(value) else math.inf), same
    other = _normal(np.asarray(theirs, dtype=np.float64))
    if ours.shape != other.shape or not np.isfinite(other).any():
        return math.inf, False
    present = ours > -np.inf
    value = float((np.exp(ours[present]) * (ours[present] - other[present])).sum())
    return (max(value, 0.0) if math.isfinite(value) else math.inf), int(ours.argmax()) == int(other.argmax())


def _normal(values: Any) -> Any:
    """Log-probabilities: log-softmax, which leaves log-probabilities as they are."""
    import numpy as np

    top = values.max()
    shifted = values - top
    return shifted - np.log(np.exp(shifted).sum())


def _judged(found: Agreement, limit: Tolerance) -> Agreement:
    from dataclasses import replace

    failures = []
    if found.kl is not None and not found.kl <= limit.kl:
        failures.append(f"the distributions are {found.kl:.3g} nats per position from the agent's, allowed: {limit.kl:.3g}")
    if found.agreement is not None and not found.agreement >= limit.agreement:
        failures.append(f"{found.agreement:.1%} of the likeliest outputs are the agent's, needed: {limit.agreement:.1%}")
    if found.difference is not None and not found.difference <= limit.difference:
        failures.append(f"the outputs differ by {found.difference:.3g} of the largest, allowed: {limit.difference:.3g}")
    if found.prompts is not None and found.prompts < 1:
        failures.append(f"{found.prompts:.1%} of the prompts are made of the agent's tokens, needed: all")
    if not found.probes:
        failures.append("there was nothing to compare")
    return replace(found, failures=tuple(failures))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
