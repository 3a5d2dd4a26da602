"""How far a critic can be trusted: its judgements against human labels, with intervals, and whether it passes the bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agentft.evaluate.statistics import Interval, wilson

BAR = 0.8
FEWEST = 100


@dataclass(frozen=True)
class Judged:
    """One labelled case with what the critic said.

    Attributes:
        label: what people say: one of two values (``first`` / ``second``, or ``pass`` / ``fail``).
        said: what the critic says; anything else (a tie, None for unreadable) is no answer.
        forward, backward: its tries in both orders; ``backward`` is empty where there is no order.
    """

    id: str
    label: str
    said: str | None
    forward: tuple[str | None, ...] = ()
    backward: tuple[str | None, ...] = ()


@dataclass(frozen=True)
class Calibration:
    """Figures of a critic on ``n`` cases; shares are 0..1 and have Wilson intervals of 95 %.

    Attributes:
        accuracy: cases judged as people did; ties and unreadable answers count as wrong.
        tpr, tnr: the same among cases with the positive label (``first``, ``pass``) and among the others.
        kappa: Cohen's kappa (Cohen 1960): agreement beyond chance, 0 = chance.
        swap_consistency: cases in which both orders gave the same answer; None where there is no order.
        flips: cases whose tries in one order differ among themselves; None with one try.
        unreadable: share of tries that could not be read.
        first_share: of the decided tries, the share that prefers what stood first: 0.5 is unbiased.
        passes: TPR and TNR reach ``bar`` on at least 100 cases. Below it a critic may advise, not gate.
    """

    critic: str
    model: str
    n: int
    accuracy: float
    accuracy_ci: Interval | None
    tpr: float | None
    tpr_ci: Interval | None
    tnr: float | None
    tnr_ci: Interval | None
    kappa: float | None
    swap_consistency: float | None
    flips: float | None
    unreadable: float
    ties: float
    first_share: float | None
    bar: float
    passes: bool
    why: str

    def to_dict(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def calibrate(cases: Sequence[Judged], *, critic: str, model: str, bar: float = BAR, fewest: int = FEWEST) -> Calibration:
    """The figures of ``cases``.

    Args:
        fewest: cases from which a critic can pass.
    """
    from sklearn.metrics import cohen_kappa_score

    positive = "pass" if any(case.label in ("pass", "fail") for case in cases) else "first"
    right = [case.said == case.label for case in cases]
    hits = {side: [ok for ok, case in zip(right, cases, strict=True) if (case.label == positive) == side] for side in (True, False)}
    tries = [vote for case in cases for vote in (*case.forward, *case.backward)]
    # In terms of position: the backward tries are stored turned back, so they are turned again here.
    places = [vote == "first" for case in cases for vote in case.forward if vote in ("first", "second")]
    places += [vote == "second" for case in cases for vote in case.backward if vote in ("first", "second")]
    ordered = [case for case in cases if case.backward]
    repeated = [case for case in cases if len(case.forward) > 1]
    labels, said = [case.label for case in cases], [case.said or "unreadable" for case in cases]
    kappa = float(cohen_kappa_score(labels, said)) if len(set(labels) | set(said)) > 1 else None
    tpr, tnr = _share(hits[True]), _share(hits[False])
    reasons = []
    if len(cases) < fewest:
        reasons.append(f"{len(cases)} labelled cases, needed: {fewest}")
    for name, value in (("true positive rate", tpr), ("true negative rate", tnr)):
        if value is None or value < bar:
            reasons.append(f"{name} {'not measured' if value is None else f'{value:.2f}'}, needed: {bar:.2f}")
    return Calibration(
        critic=critic,
        model=model,
        n=len(cases),
        accuracy=_share(right) or 0.0,
        accuracy_ci=_interval(right),
        tpr=tpr,
        tpr_ci=_interval(hits[True]),
        tnr=tnr,
        tnr_ci=_interval(hits[False]),
        kappa=kappa,
        swap_consistency=_share([case.forward[:1] == case.backward[:1] and case.forward[0] is not None for case in ordered]),
        flips=_share([len(set(case.forward)) > 1 or len(set(case.backward)) > 1 for case in repeated]),
        unreadable=_share([vote is None for vote in tries]) or 0.0,
        ties=_share([case.said == "tie" for case in cases]) or 0.0,
        first_share=_share(places) if positive == "first" else None,
        bar=bar,
        passes=not reasons,
        why="; ".join(reasons),
    )


def _share(values: Sequence[bool]) -> float | None:
    return sum(values) / len(values) if values else None


def _interval(values: Sequence[bool]) -> Interval | None:
    return wilson(sum(values), len(values)) if values else None
