"""Thresholds: a score must be at least, or at most, so much. What a build waits for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentft.errors import UserError, did_you_mean
from agentft.records import Score


@dataclass(frozen=True)
class Bound:
    """One threshold and whether it holds. ``kind`` is ``min`` or ``max``; a score without a value never passes."""

    name: str
    kind: str
    bound: float
    value: float | None
    passed: bool

    @property
    def text(self) -> str:
        """``persona-adherence 0.71 is below 0.8``."""
        if self.value is None:
            return f"{self.name} could not be measured, so that it is not known to be {_WORDS[self.kind][0]} {self.bound:g}"
        side = _WORDS[self.kind][not self.passed]
        return f"{self.name} {self.value:.4g} is {side} {self.bound:g}"

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "kind": self.kind, "bound": self.bound, "value": self.value, "passed": self.passed}


_WORDS = {"min": ("at least", "below"), "max": ("at most", "above")}


def check_bounds(scores: Sequence[Score], lowest: Mapping[str, float], highest: Mapping[str, float]) -> list[Bound]:
    """Every threshold, in the given order.

    Raises:
        UserError: there is no score of that name.
    """
    known = {score.name: score.value for score in scores}
    found = []
    for kind, bounds in (("min", lowest), ("max", highest)):
        for name, bound in bounds.items():
            if name not in known:
                raise UserError(f"--{kind} {name}: there is no such score ({did_you_mean(name, known)})")
            value = None if math.isnan(known[name]) else known[name]
            # Half of the last digit that a reader sees: 0.8 as a mean of floats may be 0.7999999.
            passed = value is not None and (value >= bound - 1e-9 if kind == "min" else value <= bound + 1e-9)
            found.append(Bound(name, kind, bound, value, passed))
    return found


def parse_bound(text: str, option: str) -> tuple[str, float]:
    """``persona-adherence=0.8`` or ``=80%`` as name and value.

    Raises:
        UserError: it is neither.
    """
    name, equals, value = text.rpartition("=")
    try:
        number = float(value.strip().removesuffix("%")) / (100 if value.strip().endswith("%") else 1)
    except ValueError:
        number = math.nan
    if not equals or not name.strip() or not math.isfinite(number):
        raise UserError(f"{option} takes NAME=VALUE, for example {option} persona-adherence=0.8, not '{text}'")
    return name.strip(), number
