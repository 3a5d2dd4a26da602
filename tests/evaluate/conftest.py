"""Small personas, samples and contexts for the metrics."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from agentft.contracts import EvalContext
from agentft.labelled import Labelled, Prediction
from agentft.persona import Persona
from agentft.records import Example, Message, Response, Sample, Score

POLICIES = [
    {"id": "close", "text": "End by offering further help.", "rule": {"contains": {"any": ["anything else"]}}},
    {"id": "brief", "text": "Write at most eight words.", "severity": "hard", "rule": {"words": {"max": 8}}},
    {
        "id": "refund",
        "text": "Name the refund.",
        "kind": "substance",
        "when": {"prompt": "money"},
        "rule": {"contains": {"any": ["refund"]}},
    },
]


@pytest.fixture
def make_persona() -> Callable[..., Persona]:
    def make(**changes: Any) -> Persona:
        content = {
            "name": "shop",
            "summary": "A shop.",
            "language": "en",
            "role": "You are the support agent of Northwind, an online shop for tents and boots.",
            "voice": ["Calm, warm and plain."],
            "policies": POLICIES,
        }
        return Persona.from_dict(content | changes)

    return make


@pytest.fixture
def make_context(make_persona: Callable[..., Persona]) -> Callable[..., EvalContext]:
    def make(language: str = "en", **changes: Any) -> EvalContext:
        persona = changes.pop("persona", None) or make_persona(language=language)
        return EvalContext(persona=persona, language=language, **changes)

    return make


@pytest.fixture
def make_sample() -> Callable[..., Sample]:
    def make(
        id: str,
        text: str = "",
        *,
        ask: str = "Hello?",
        reference: str | None = None,
        finish: str = "stop",
        group: str | None = None,
        **meta: Any,
    ) -> Sample:
        error = "out of memory" if finish == "error" else ""
        return Sample(Example(id, (Message("user", ask),), group=group, meta=meta), Response(id, text, finish, error=error), reference)

    return make


@pytest.fixture
def no_generation() -> Callable[[Iterable[Example]], list[Response]]:
    """For metrics that must not ask anything."""

    def generate(prompts: Iterable[Example]) -> list[Response]:
        raise AssertionError("this metric must not generate")

    return generate


@pytest.fixture
def part(make_context: Callable[..., EvalContext], no_generation: Any) -> Callable[..., dict[str, Score]]:
    """``part("f1", samples)``: the scores of a built-in evaluator by name, found as a recipe finds it."""
    from agentft.host import Host

    catalog = Host().catalog

    def scores(name: str, samples: Sequence[Any], language: str = "en", **options: Any) -> dict[str, Score]:
        entry = catalog.get("evaluator", name)
        model = catalog.config_model(entry)
        found = catalog.target(entry)(samples, no_generation, model(**options) if model else None, make_context(language))
        assert len({score.name for score in found}) == len(found) and all(score.summary for score in found)
        json.dumps([score.to_dict() for score in found], allow_nan=False)
        return {score.name: score for score in found}

    return scores


@pytest.fixture
def make_prediction() -> Callable[..., Prediction]:
    def make(id: str, true: Any, label: Any, scores: dict[str, float] | None = None, **more: Any) -> Prediction:
        inputs = more.pop("inputs", {"text": "x"})
        return Prediction(
            Labelled(id, inputs, true, more.pop("group", None), more), label, scores or {}, "" if label is not None else "cut"
        )

    return make
