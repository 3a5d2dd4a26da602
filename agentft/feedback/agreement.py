"""Do raters agree? Krippendorff's alpha for nominal labels, with any number of raters and any gaps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agentft.feedback.human import Judged

FEWEST = 2  # units that two raters share; below it there is nothing to say


@dataclass(frozen=True)
class Agreement:
    """Agreement on one question.

    Attributes:
        alpha: 1 = always agree, 0 = chance, below 0 = worse; None where too few units are shared, or all labels are one.
        units: tasks (or answers) that at least two people judged; ``raters``: people who did.
    """

    name: str
    alpha: float | None
    units: int
    raters: int


def krippendorff_alpha(units: Iterable[Mapping[str, str]]) -> float | None:
    """Alpha for nominal data (Krippendorff 2011, *Computing Krippendorff's Alpha-Reliability*): ``1 - (n - 1) * D_o / D_e``.

    Args:
        units: per unit, rater -> label. Units with one label count for nothing.

    Returns: None where fewer than two units are shared, or everybody always said the same one thing (no variation, no figure).
    """
    shared = [list(unit.values()) for unit in units if len(unit) > 1]
    if len(shared) < FEWEST:
        return None
    totals = Counter(label for labels in shared for label in labels)
    n = totals.total()
    expected = n * n - sum(count * count for count in totals.values())
    if expected == 0:
        return None
    observed = 0.0
    for labels in shared:
        counts = Counter(labels)
        m = len(labels)
        observed += (m * m - sum(count * count for count in counts.values())) / (m - 1)
    return 1 - (n - 1) * observed / expected


def agreement(rows: Iterable[Judged]) -> list[Agreement]:
    """Agreement on the choice between two answers, and on each item of the checklist; what nobody shared is left out."""
    choices: dict[str, dict[str, str]] = {}
    items: dict[str, dict[tuple[str, str], dict[str, str]]] = {}
    for row in rows:
        if row.kind == "choice":
            choices.setdefault(row.task, {})[row.rater] = row.choice
        for response, verdicts in row.verdicts.items():
            for item, value in verdicts.items():
                items.setdefault(item, {}).setdefault((row.task, response), {})[row.rater] = value
    found = [_agreement("choice", choices.values())] if choices else []
    return found + [_agreement(item, units.values()) for item, units in sorted(items.items())]


def _agreement(name: str, units: Iterable[Mapping[str, str]]) -> Agreement:
    listed = list(units)
    shared = [unit for unit in listed if len(unit) > 1]
    return Agreement(name, krippendorff_alpha(listed), len(shared), len({rater for unit in shared for rater in unit}))
