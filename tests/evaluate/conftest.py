"""Small personas, samples and contexts for the metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from agentft.contracts import EvalContext
from agentft.persona import Persona
from agentft.records import Example, Message, Response, Sample

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
