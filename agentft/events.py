"""What happened, as frozen records, for observers (``agentft_observe``) and for ``events.jsonl`` of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RunStarted:
    run: str
    recipe: str


@dataclass(frozen=True)
class StageStarted:
    run: str
    stage: str
    why: str  # "new", "resumed", or what changed since the last time


@dataclass(frozen=True)
class StageFinished:
    run: str
    stage: str
    key: str
    reused: bool
    seconds: float
    summary: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RoundGated:
    run: str
    round: int
    state: str  # "promoted", "rejected" or "inconclusive"
    sentence: str


@dataclass(frozen=True)
class RunFinished:
    run: str
    seconds: float


@dataclass(frozen=True)
class RunFailed:
    run: str
    stage: str
    error: str


Event = RunStarted | StageStarted | StageFinished | RoundGated | RunFinished | RunFailed
