"""Built-in evaluators."""

from __future__ import annotations

from agentft.components import EvaluatorSpec
from agentft.hookspecs import hookimpl

_E = "agentft.evaluate"


@hookimpl
def agentft_evaluators() -> list[EvaluatorSpec]:
    return []
