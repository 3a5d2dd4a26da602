"""Whether a call of a tool is one that can be run: a known name, and arguments that fit the tool's JSON schema.

The part of JSON schema (draft 2020-12) that tools use: ``type``, ``enum``, ``const``, ``properties``, ``required``,
``additionalProperties``, ``items``, ``anyOf``, ``oneOf``, ``allOf``, limits of numbers, lengths and ``pattern``. No other key is looked
at. What is wrong is said in words that a model can act on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from agentft.errors import did_you_mean

Schema = Mapping[str, Any]


def function_of(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """``{"name", "description", "parameters"}`` of a tool, also of one in OpenAI's form."""
    inner = tool.get("function")
    return inner if isinstance(inner, Mapping) else tool


def check_call(call: Mapping[str, Any], tools: Iterable[Mapping[str, Any]]) -> str:
    """Why ``call`` cannot be run, as a sentence for the model; empty if it can.

    Args:
        call: ``{"name", "arguments"}``.
        tools: ``{"name", "description", "parameters"}`` each, or in OpenAI's form. Arguments that the schema does not name are refused
            unless it has ``additionalProperties``; inside of an argument JSON schema's own rule holds, which lets them pass.
    """
    known = {str(function.get("name")): function for function in map(function_of, tools)}
    name = call.get("name")
    if name not in known:
        return f"there is no function '{name}'{_hint(name, known)}"
    arguments = call.get("arguments")
    if not isinstance(arguments, Mapping):
        return f"the arguments of '{name}' must be an object, not {_shown(arguments)}"
    schema = {"additionalProperties": False, **(known[name].get("parameters") or {}), "type": "object"}
    problems = list(_problems(arguments, schema, ""))
    return f"the arguments of '{name}' do not fit: {'; '.join(problems[:5])}" if problems else ""


def fits(value: Any, schema: Any) -> bool:
    """Whether ``value`` is valid under ``schema``."""
    return next(_problems(value, schema, ""), None) is None


def type_of(schema: Any) -> tuple[str, ...]:
    """The types that a schema allows, of its alternatives too; empty where it does not say."""
    if not isinstance(schema, Mapping):
        return ()
    own = schema.get("type", ())
    found = (own,) if isinstance(own, str) else tuple(own)
    return found or tuple(name for key in ("anyOf", "oneOf") for part in schema.get(key, ()) for name in type_of(part))


def _problems(value: Any, schema: Any, path: str) -> Iterator[str]:
    if schema is False:
        yield f"{_where(path)} is not allowed"
    if not isinstance(schema, Mapping):
        return
    types = schema.get("type")
    allowed = (types,) if isinstance(types, str) else tuple(types or ())
    if allowed and not any(_is(value, name) for name in allowed):
        yield f"{_where(path)} must be {' or '.join(allowed)}, not {_shown(value)}"
        return
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        yield f"{_where(path)} must be one of {', '.join(map(_shown, schema['enum']))}, not {_shown(value)}"
    if "const" in schema and not _same(value, schema["const"]):
        yield f"{_where(path)} must be {_shown(schema['const'])}, not {_shown(value)}"
    yield from _limits(value, schema, path)
    if isinstance(value, Mapping):
        yield from _object(value, schema, path)
    elif isinstance(value, (list, tuple)) and "items" in schema:
        for place, one in enumerate(value):
            yield from _problems(one, schema["items"], f"{path}[{place}]")
    for part in schema.get("allOf", ()):
        yield from _problems(value, part, path)
    if "anyOf" in schema and not any(fits(value, part) for part in schema["anyOf"]):
        yield f"{_where(path)} is {_shown(value)}, which is none of what is allowed{_alternatives(schema['anyOf'])}"
    if "oneOf" in schema and sum(fits(value, part) for part in schema["oneOf"]) != 1:
        yield f"{_where(path)} is {_shown(value)}, which must be exactly one of what is allowed{_alternatives(schema['oneOf'])}"


def _object(value: Mapping[str, Any], schema: Schema, path: str) -> Iterator[str]:
    properties = schema.get("properties") or {}
    for name in schema.get("required") or ():
        if name not in value:
            yield f"'{_joined(path, name)}' is missing"
    for name, one in value.items():
        if name in properties:
            yield from _problems(one, properties[name], _joined(path, name))
            continue
        more = schema.get("additionalProperties", True)
        if more is False:
            yield f"there is no '{_joined(path, name)}'{_hint(name, properties)}"
        else:
            yield from _problems(one, more, _joined(path, name))


_LIMITS: tuple[tuple[str, Callable[[Any, Any], bool], type | tuple[type, ...], str], ...] = (
    ("minimum", lambda value, limit: value >= limit, (int, float), "at least"),
    ("maximum", lambda value, limit: value <= limit, (int, float), "at most"),
    ("exclusiveMinimum", lambda value, limit: value > limit, (int, float), "more than"),
    ("exclusiveMaximum", lambda value, limit: value < limit, (int, float), "less than"),
    ("minLength", lambda value, limit: len(value) >= limit, str, "a text of a length of at least"),
    ("maxLength", lambda value, limit: len(value) <= limit, str, "a text of a length of at most"),
    ("pattern", lambda value, limit: _searched(limit, value), str, "a text that matches"),
    ("minItems", lambda value, limit: len(value) >= limit, (list, tuple), "a list of a length of at least"),
    ("maxItems", lambda value, limit: len(value) <= limit, (list, tuple), "a list of a length of at most"),
)


def _limits(value: Any, schema: Schema, path: str) -> Iterator[str]:
    for key, holds, kind, words in _LIMITS:
        if key in schema and isinstance(value, kind) and not isinstance(value, bool) and not holds(value, schema[key]):
            yield f"{_where(path)} must be {words} {schema[key]}, not {_shown(value)}"


def _searched(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:  # a dialect that Python does not know: no reason to refuse a call
        return True


_KINDS: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, Mapping),
    "array": lambda value: isinstance(value, (list, tuple)),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "integer": lambda value: not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, float) and value.is_integer())),
}


def _is(value: Any, name: str) -> bool:
    # Other languages' names of types ("dict", "float", "any") stand in published tools; they decide nothing.
    return _KINDS[name](value) if name in _KINDS else True


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _alternatives(parts: Sequence[Any]) -> str:
    names = [name for part in parts for name in type_of(part)]
    return f" ({', '.join(dict.fromkeys(names))})" if names else ""


def _hint(name: Any, known: Iterable[str]) -> str:
    hint = did_you_mean(str(name), known)
    return f" ({hint})" if hint else ""


def _joined(path: str, name: Any) -> str:
    return f"{path}.{name}" if path else str(name)


def _where(path: str) -> str:
    return f"'{path}'" if path else "the value"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
