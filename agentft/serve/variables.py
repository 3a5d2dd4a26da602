"""Values of a persona's variables that come with a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentft.errors import did_you_mean
from agentft.persona_schema import Variable
from agentft.serve.answering import Refusal


def values_of(declared: Mapping[str, Variable], variables: Mapping[str, Any] | None, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """The values that a request sets, name -> value.

    Args:
        declared: the persona's variables.
        variables: the request's own field; every name must be declared and every value fit.
        metadata: OpenAI's field, texts only; what names a variable is read as its type, all else is left alone.

    Raises:
        Refusal: 400: no such variable, or a value that it does not take.
    """
    found: dict[str, Any] = {}
    for name, value in (metadata or {}).items():
        if name in declared:
            found[name] = _checked(name, declared[name], _read(value, declared[name].kind), f"metadata.{name}")
    for name, value in (variables or {}).items():
        if name not in declared:
            hint = did_you_mean(name, declared)
            known = f" ({hint})" if hint else " (this agent has none)" if not declared else ""
            raise Refusal(400, f"There is no variable '{name}'{known}.", "invalid_variable", f"variables.{name}")
        found[name] = _checked(name, declared[name], value, f"variables.{name}")
    return found


def _checked(name: str, variable: Variable, value: Any, place: str) -> Any:
    try:
        variable.check(value)
    except ValueError as error:
        raise Refusal(400, f"Variable '{name}' {error}.", "invalid_variable", place) from None
    if isinstance(value, str) and len(value) > 1000:
        raise Refusal(400, f"Variable '{name}' may have 1,000 characters at most.", "invalid_variable", place)
    return value


def _read(value: Any, kind: str) -> Any:
    """A text as a value of ``kind``; as it is where it is none."""
    if not isinstance(value, str) or kind == "string":
        return value
    if kind == "boolean":
        return {"true": True, "false": False}.get(value.lower(), value)
    try:
        return int(value) if kind == "integer" else float(value)
    except ValueError:
        return value
