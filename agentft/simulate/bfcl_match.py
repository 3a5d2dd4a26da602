"""Is a call the expected one? The rules of the Berkeley Function-Calling Leaderboard for Python functions, written anew.

A possible answer is ``{function: {parameter: [accepted values]}}``; an accepted value ``""`` says that the parameter may be left out. The
rules are those of BFCL's checker of syntax trees to the letter, its odd corners included, so that the scores can be compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

Call = Mapping[str, Any]  # {"name", "arguments"}

_TYPES: dict[str, type] = {
    "string": str,
    "integer": int,
    "float": float,
    "boolean": bool,
    "array": list,
    "tuple": list,
    "dict": dict,
    "any": str,
}


def public_name(name: str) -> str:
    """The name that a model sees: chat interfaces allow no dots in names of functions, so BFCL writes underscores."""
    return name.replace(".", "_")


def mismatch(functions: Sequence[Mapping[str, Any]], calls: Sequence[Call], answers: Sequence[Mapping[str, Any]]) -> str:
    """Why the calls are not the expected ones; empty where they are. The order of calls does not matter.

    Args:
        functions: as the task describes them, with their own names.
        calls: what the agent called, by the names that it saw.
        answers: possible answers, one for each expected call.
    """
    if len(calls) != len(answers):
        return f"{len(calls)} call(s) instead of {len(answers)}"
    free = list(calls)
    for answer in answers:
        name, accepted = next(iter(answer.items()))
        function = next((one for one in functions if one["name"] == name), None)
        if function is None:
            return f"the task describes no function '{name}'"
        problems = [call_mismatch(function, call, accepted) for call in free]
        if all(problems):
            return problems[0] if len(answers) == 1 else f"no call fits {name}: {'; '.join(problems)}"
        free.pop(problems.index(""))
    return ""


def call_mismatch(function: Mapping[str, Any], call: Call, accepted: Mapping[str, Sequence[Any]]) -> str:
    """Why a call of ``function`` is not the expected one; empty where it is."""
    described = function["parameters"]
    if call["name"] != public_name(function["name"]):
        return f"'{call['name']}' is not '{public_name(function['name'])}'"
    arguments = call["arguments"]
    if not isinstance(arguments, Mapping):
        return "the arguments are not an object"
    for name in described.get("required") or ():
        if name not in arguments:
            return f"'{name}' is missing"
    for name, value in arguments.items():
        if name not in described["properties"] or name not in accepted:
            return f"'{name}' is unexpected"
        if problem := _value_mismatch(name, value, described["properties"][name], accepted[name]):
            return problem
    for name, values in accepted.items():
        if name not in arguments and "" not in values:
            return f"'{name}' is missing and may not be left out"
    return ""


def _value_mismatch(name: str, value: Any, described: Mapping[str, Any], accepted: Sequence[Any]) -> str:
    kind = described["type"]
    expected = _TYPES.get(kind, str)
    inner = _TYPES.get((described.get("items") or {}).get("type", "any"), str) if kind in ("array", "tuple") else None
    if kind == "float" and type(value) is int:
        value = float(value)
    given_as = _type_of(accepted)
    # BFCL: a value that is not of the described type but of the type of the accepted ones stands for a variable, and is compared as it is.
    variable = given_as is not None and given_as is not expected
    if type(value) is expected:
        if inner is not None and isinstance(value, list) and not _items_fit(value, inner, accepted):
            return f"'{name}' holds values of a wrong type: {value!r}"
    elif given_as is not None and type(value) is given_as:
        variable = True
    else:
        return f"'{name}' is {type(value).__name__}, not {kind}: {value!r}"
    if _accepted(value, expected, inner, accepted, variable):
        return ""
    return f"'{name}' is {value!r}, not one of {list(accepted)!r}"


def _type_of(accepted: Sequence[Any]) -> type | None:
    return next((type(value) for value in accepted if value != ""), None)


def _items_fit(value: Sequence[Any], inner: type, accepted: Sequence[Any]) -> bool:
    """Items have the described type, or that of the first item of an accepted list; any one accepted list is enough."""
    for one in accepted:
        if not isinstance(one, list):
            return True
        given_as = _type_of(one)
        if all(type(item) is inner or (given_as is not None and type(item) is given_as) for item in value):
            return True
    return False


def _accepted(value: Any, expected: type, inner: type | None, accepted: Sequence[Any], variable: bool) -> bool:
    if not variable:
        if expected is dict:
            return any(_same_dict(value, one) for one in accepted if one != "")
        if expected is list and inner is dict:
            return any(_same_dicts(value, one) for one in accepted)
        if expected is str:
            return _plain(value) in [_plain(one) for one in accepted if isinstance(one, str)]
        if expected is list:
            # An accepted "" is as good as an empty list.
            return [_plain(item) for item in value] in [[_plain(item) for item in one] for one in accepted if isinstance(one, list | str)]
    return value in accepted


def _same_dict(value: Mapping[str, Any], answer: Any) -> bool:
    if not isinstance(answer, Mapping):
        return False
    for key, item in value.items():
        if key not in answer or _plain(item) not in [_plain(one) for one in answer[key]]:
            return False
    return all(key in value or "" in items for key, items in answer.items())


def _same_dicts(values: Sequence[Any], answers: Any) -> bool:
    if not isinstance(answers, list | str) or len(values) != len(answers):
        return False
    return all(isinstance(value, Mapping) and _same_dict(value, answer) for value, answer in zip(values, answers, strict=True))


def _plain(value: Any) -> Any:
    """Texts without case, spaces and ``, . / - _ * ^``, with one kind of quotes; anything else as it is."""
    return re.sub(r"[ ,./\-_*^]", "", value).lower().replace("'", '"') if isinstance(value, str) else value


def reference_calls(functions: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Calls that are right: of every parameter the first accepted value; what may only be left out, or is not described, is left out."""
    calls = []
    for answer in answers:
        name, accepted = next(iter(answer.items()))
        described: Mapping[str, Any] = next((one["parameters"] for one in functions if one["name"] == name), {})
        arguments: dict[str, Any] = {}
        for key, values in accepted.items():
            if any(value != "" for value in values) and key in described.get("properties", ()):
                arguments[key] = _first(values)
            elif key in described.get("required", ()):
                # Required, and nothing else is accepted: the empty value of its type.
                arguments[key] = [] if described["properties"][key]["type"] in ("array", "tuple") else ""
        calls.append({"name": public_name(name), "arguments": arguments})
    return calls


def _first(values: Sequence[Any]) -> Any:
    value = next(value for value in values if value != "")
    if isinstance(value, Mapping):
        return _filled(value)
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        return [_filled(item) for item in value]
    return value


def _filled(answer: Mapping[str, Any]) -> dict[str, Any]:
    """A dictionary of accepted values with the first of each. A dictionary inside it is compared as it is, and so stays as it is."""
    return {key: next(one for one in values if one != "") for key, values in answer.items() if any(one != "" for one in values)}
