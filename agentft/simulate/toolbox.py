"""Tools of an environment as plain functions: a decorator makes the JSON schema, one call checks the arguments and runs the function."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agentft.environments import ToolAnswer

# Annotation of a parameter -> its JSON schema.
_SCHEMAS: dict[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "str | None": {"type": "string"},
    "list[str]": {"type": "array", "items": {"type": "string"}},
    "int": {"type": "integer"},
}


class Refused(Exception):
    """A tool says no; the message is what the agent reads."""


@dataclass(frozen=True)
class Tool:
    """A tool: ``run`` is called with a state and the arguments by name; ``writes``: it may change the state."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    run: Callable[..., Any]
    writes: bool = False

    def schema(self) -> dict[str, Any]:
        return {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}


def tool(
    box: dict[str, Tool], description: str, /, *, writes: bool = False, **arguments: str | Mapping[str, Any]
) -> Callable[[Callable[..., Any]], Any]:
    """Put a function ``(state, **arguments)`` into ``box``; ``arguments`` say in words what each one is, or are its JSON schema."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        properties, required = {}, []
        for name, parameter in list(inspect.signature(function).parameters.items())[1:]:
            said = arguments[name]
            properties[name] = dict(said) if isinstance(said, Mapping) else _SCHEMAS[str(parameter.annotation)] | {"description": said}
            if parameter.default is inspect.Parameter.empty:
                required.append(name)
        schema = {"type": "object", "properties": properties, "required": required}
        box[function.__name__] = Tool(function.__name__, description, schema, function, writes)
        return function

    return add


def use(box: Mapping[str, Tool], state: Any, name: str, arguments: Mapping[str, Any]) -> ToolAnswer:
    """Call a tool of ``box``; whatever is wrong with the call comes back as an error."""
    found = box.get(name)
    if found is None:
        return ToolAnswer(f"Error: Tool '{name}' not found.", error=True)
    if problem := wrong(found.parameters, arguments):
        return ToolAnswer(f"Error: {name}: {problem}", error=True)
    try:
        result = found.run(state, **arguments)
    except Refused as refusal:
        return ToolAnswer(f"Error: {refusal}", error=True)
    return ToolAnswer(result if isinstance(result, str) else json.dumps(result, ensure_ascii=False))


def wrong(schema: Mapping[str, Any], arguments: Any) -> str:
    """What is wrong with arguments, in words; empty where they fit the schema.

    The schema is one that :func:`tool` makes: objects, lists, texts and whole numbers, with ``enum``; nothing may stand in an object
    that it does not name.
    """
    if not isinstance(arguments, Mapping):
        return "the arguments are not an object"
    if missing := [key for key in schema.get("required", ()) if key not in arguments]:
        return f"missing argument '{missing[0]}'"
    for key, value in arguments.items():
        if key not in schema["properties"]:
            return f"unexpected argument '{key}'"
        if not _fits(value, schema["properties"][key]):
            return f"argument '{key}' must be {_words(schema['properties'][key])}"
    return ""


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    kind = schema["type"]
    if kind == "array":
        return isinstance(value, list) and all(_fits(item, schema["items"]) for item in value)
    if kind == "object":
        return isinstance(value, Mapping) and not wrong(schema, value)
    if kind == "integer":
        return not isinstance(value, bool) and isinstance(value, int | float) and value == value // 1
    return isinstance(value, str) and value in schema.get("enum", (value,))


def _words(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(schema["enum"])
    if schema["type"] == "object":
        return f"an object with {', '.join(schema['required'])}"
    if schema["type"] == "array":
        inner = {"object": "objects", "string": "texts"}[schema["items"]["type"]]
        return f"a list of {inner}" + (f" with {', '.join(schema['items']['required'])}" if inner == "objects" else "")
    return {"integer": "a whole number", "string": "a text"}[schema["type"]]
