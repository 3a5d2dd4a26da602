"""Reading a persona's YAML file: check every file of the ``extends`` chain, merge, fill in variables."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from agentft import jinja, yamlio
from agentft.errors import Problem, RecipeError, UserError, did_you_mean
from agentft.persona import FewShot, Persona, Policy, Resolver, ValueProblem, persona_path
from agentft.persona_schema import PersonaFile, Variable
from agentft.rules import compile_rule
from agentft.validation import in_order, problems_of

MAX_DEPTH = 8
Resolve = Callable[[str], Path]

_RESERVED = ("persona", "role", "voice", "policies", "examples", "tools", "loop", "self", "caller", "true", "false", "none")
# A rule may take a number or a text from a variable; the whole value must be the reference, so that patterns stay as they are.
_REFERENCE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True)
class _Spot:
    """A value and the place where it is written."""

    value: Any
    document: yamlio.Document
    path: tuple[str | int, ...]

    def problem(self, message: str, hint: str = "", pattern: str = "") -> Problem:
        line, column = self.document.find(self.path, pattern) if pattern else self.document.place(self.path)
        return Problem(message, self.document.file, line, column, hint)


def load(path: Path, resolve: Resolve | None, values: Mapping[str, Any], value_problem: ValueProblem | None = None) -> Persona:
    """See :meth:`agentft.persona.Persona.load`."""
    problems: list[Problem] = []
    layers = _chain(path, resolve, problems)
    incomplete = bool(problems)
    for document in layers:
        problems += _shape(document)
    if incomplete:  # what seems to be missing may stand in the file that was not found
        raise RecipeError(in_order(problems, str(path)))
    variables = _variables(layers, problems)
    filled = _filled(variables, values, value_problem or (lambda name, message, hint: Problem(message, str(path), hint=hint)), problems)
    for spot in _texts(layers):
        problems += _template_problems(spot, variables)
    policies = _policies(layers, problems)
    for spots in policies.values():
        problems += _rule_problems(spots["rule"], filled, variables) if "rule" in spots else []
    problems += _incomplete(layers)
    if not problems:
        persona = _build(layers, policies, filled, problems, resolve)
        if persona is not None and not problems:
            return persona
    raise RecipeError(in_order(problems, str(path)))


def declared(path: Path, resolve: Resolve | None = None) -> dict[str, Variable]:
    """The variables of a persona that :func:`load` accepts, those that it inherits too."""
    return {name: variable for name, variable in _variables(_chain(path, resolve, []), []).items() if variable is not None}


def _chain(path: Path, resolve: Resolve | None, problems: list[Problem]) -> list[yamlio.Document]:
    """The files from the root of the inheritance to ``path``; stops with a problem where it cannot go on."""
    layers: list[yamlio.Document] = []
    seen: list[Path] = []
    while True:
        try:
            document = yamlio.load(path)
            yamlio.mapping(document, "a persona", "name, summary, language and role")
        except RecipeError as error:
            problems += error.problems
            return layers
        layers.insert(0, document)
        seen.append(path.resolve())
        parent = document.data.get("extends")
        if not isinstance(parent, str) or not parent:
            return layers
        try:
            path = persona_path(parent, path.parent, resolve or _no_names)
        except UserError as error:
            problems.append(document.problem(("extends",), str(error)))
            return layers
        if not path.exists():
            problems.append(document.problem(("extends",), f"there is no file '{path}'"))
            return layers
        if path.resolve() in seen:
            circle = " -> ".join(p.name for p in [*seen[seen.index(path.resolve()) :], path])
            problems.append(document.problem(("extends",), f"'extends' goes round in a circle: {circle}"))
            return layers
        if len(layers) > MAX_DEPTH:
            problems.append(document.problem(("extends",), f"more than {MAX_DEPTH} personas extend each other"))
            return layers


def _no_names(name: str) -> Path:
    raise UserError(f"no plugins are loaded here, so '{name}' cannot be found; extend a .yaml file instead")


def _no_tools(name: str) -> NoReturn:
    raise UserError(f"no plugins are loaded here, so the function '{name}' cannot be found")


def _shape(document: yamlio.Document) -> list[Problem]:
    problems: list[Problem] = []
    try:
        PersonaFile.model_validate(document.data)
    except ValidationError as error:
        problems += problems_of(error, PersonaFile, lambda path, message, hint, key: document.problem(path, message, hint, key=key))
    seen: dict[Any, int] = {}
    for index, entry in enumerate(_listed(document, "policies")):
        name = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            continue
        if name in seen:
            first = document.place(("policies", seen[name], "id"))[0]
            problems.append(
                document.problem(("policies", index, "id"), f"two policies have the id '{name}'", f"the first one is in line {first}")
            )
        seen.setdefault(name, index)
    for name in _mapped(document, "variables"):
        if not name.isidentifier() or name in _RESERVED or name in jinja.environment().globals:
            hint = "use letters, digits and _" if not name.isidentifier() else "templates use this name for something else"
            problems.append(document.problem(("variables", name), f"'{name}' cannot be the name of a variable", hint, key=True))
    return problems


def _listed(document: yamlio.Document, key: str) -> list[Any]:
    value = document.data.get(key)
    return value if isinstance(value, list) else []


def _mapped(document: yamlio.Document, key: str) -> dict[str, Any]:
    value = document.data.get(key)
    return value if isinstance(value, dict) else {}


def _variables(layers: list[yamlio.Document], problems: list[Problem]) -> dict[str, Variable | None]:
    """Name -> variable; None for one that is not valid. A child changes only the keys that it gives."""
    merged: dict[str, dict[str, Any]] = {}
    result: dict[str, Variable | None] = {}
    for document in layers:
        for name, data in _mapped(document, "variables").items():
            merged[name] = {**merged.get(name, {}), **(data if isinstance(data, dict) else {"default": data})}
            try:
                result[name] = Variable.model_validate(merged[name])
            except ValidationError as error:
                if name in result:  # fine on its own, but not with what is inherited
                    message = str(error.errors()[0]["ctx"]["error"]) if "ctx" in error.errors()[0] else "is not valid"
                    problems.append(document.problem(("variables", name), f"variable '{name}': {message}"))
                result[name] = None
    return result


def _filled(
    variables: Mapping[str, Variable | None], values: Mapping[str, Any], value_problem: ValueProblem, problems: list[Problem]
) -> dict[str, Any]:
    filled: dict[str, Any] = {}
    for name in values:
        if name not in variables:
            problems.append(value_problem(name, f"the persona has no variable '{name}'", did_you_mean(name, variables)))
    for name, variable in variables.items():
        if variable is None:
            continue
        if name in values:
            try:
                variable.check(values[name])
            except ValueError as error:
                problems.append(value_problem(name, f"variable '{name}' {error}", ""))
                continue
        elif variable.default is None:
            hint = f"give one in the recipe under persona.variables{f': {variable.description}' if variable.description else ''}"
            problems.append(value_problem(name, f"variable '{name}' has no value", hint))
            continue
        filled[name] = values.get(name, variable.default)
    return filled


def _texts(layers: list[yamlio.Document]) -> Iterator[_Spot]:
    """Every text that may use variables, in every file."""
    for document in layers:
        found: list[tuple[str | int, ...]] = [("role",)]
        found += [("voice", index) for index in range(len(_listed(document, "voice")))]
        found += [("policies", index, "text") for index in range(len(_listed(document, "policies")))]
        found += [("examples", index, key) for index in range(len(_listed(document, "examples"))) for key in ("user", "assistant")]
        for path in found:
            value = document.data
            for step in path:
                value = value[step] if isinstance(step, int) else value.get(step) if isinstance(value, dict) else None
            if isinstance(value, str):
                yield _Spot(value, document, path)


def _template_problems(spot: _Spot, names: Mapping[str, Any]) -> list[Problem]:
    missing = sorted(jinja.undeclared(spot.value) - set(names) - set(jinja.environment().globals))
    problems = [
        spot.problem(f"the variable '{name}' is not defined", did_you_mean(name, names) or "define it under 'variables'", _use(name))
        for name in missing
    ]
    return problems + [spot.problem(f"is not a valid text: {message}", pattern=r"\{[{%#]") for message in jinja.syntax_errors(spot.value)]


def _use(name: str) -> str:
    return rf"\{{[{{%][^}}]*?\b({re.escape(name)})\b"


def _policies(layers: list[yamlio.Document], problems: list[Problem]) -> dict[str, dict[str, _Spot]]:
    """Policy id -> key -> value and place, merged key by key along the chain, in the order of first appearance."""
    merged: dict[str, dict[str, _Spot]] = {}
    for document in layers:
        inherited = set(merged)
        for index, entry in enumerate(_listed(document, "policies")):
            if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
                continue
            place = ("policies", index)
            name = entry["id"]
            if name not in inherited and entry.get("enabled") is False:
                message = f"there is no inherited policy '{name}' to switch off"
                problems.append(document.problem((*place, "id"), message, did_you_mean(name, inherited)))
            elif name not in inherited and entry.get("text") is None:
                problems.append(document.problem(place, f"policy '{name}' has no text", did_you_mean(name, inherited)))
            spots = {key: _Spot(value, document, (*place, key)) for key, value in entry.items()}
            merged[name] = {**merged.get(name, {}), **spots}
    return {name: spots for name, spots in merged.items() if "enabled" not in spots or spots["enabled"].value is not False}


def _rule_problems(spot: _Spot, filled: Mapping[str, Any], variables: Mapping[str, Any]) -> list[Problem]:
    if not isinstance(spot.value, dict):
        return []  # None is no rule; the rest was reported with the shape of the file
    missing = {name for name in _references(spot.value) if name not in variables}
    problems = [
        spot.problem(f"the variable '{name}' is not defined", did_you_mean(name, variables), _use(name)) for name in sorted(missing)
    ]
    if problems or any(name not in filled for name in _references(spot.value)):
        return problems
    try:
        compile_rule(_substituted(spot.value, filled))
    except ValueError as error:
        return [spot.problem(f"rule: {error}")]
    return []


def _references(rule: Any) -> Iterator[str]:
    if isinstance(rule, str) and (found := _REFERENCE.fullmatch(rule)):
        yield found[1]
    for part in rule.values() if isinstance(rule, dict) else rule if isinstance(rule, list) else ():
        yield from _references(part)


def _substituted(rule: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(rule, dict):
        return {key: _substituted(part, values) for key, part in rule.items()}
    if isinstance(rule, list):
        return [_substituted(part, values) for part in rule]
    found = _REFERENCE.fullmatch(rule) if isinstance(rule, str) else None
    return values[found[1]] if found else rule


def _last(layers: list[yamlio.Document], key: str) -> _Spot | None:
    """The value of ``key`` that counts: that of the file furthest down the chain."""
    for document in reversed(layers):
        if document.data.get(key) is not None:
            return _Spot(document.data[key], document, (key,))
    return None


def _incomplete(layers: list[yamlio.Document]) -> list[Problem]:
    last = layers[-1]
    return [
        last.problem((), f"'{key}' is missing", str(PersonaFile.model_fields[key].description))
        for key in ("summary", "language", "role")
        if not _last(layers, key)
    ]


def _build(
    layers: list[yamlio.Document],
    policies: Mapping[str, dict[str, _Spot]],
    filled: Mapping[str, Any],
    problems: list[Problem],
    resolve: Resolve | None,
) -> Persona | None:
    def text(spot: _Spot) -> str:
        line, column = spot.document.place(spot.path)
        try:
            rendered = jinja.render_text(spot.value, filled, Problem("", spot.document.file, line, column)).strip()
        except RecipeError as error:
            problems.extend(error.problems)
            return ""
        if not rendered:
            problems.append(spot.problem("the text is empty"))
        return rendered

    def items(key: str) -> list[_Spot]:
        found = _last(layers, key)
        return [_Spot(value, found.document, (key, index)) for index, value in enumerate(found.value)] if found else []

    def inside(spot: _Spot, key: str) -> _Spot:
        return _Spot(spot.value[key], spot.document, (*spot.path, key))

    def scalar(key: str) -> Any:
        found = _last(layers, key)
        return found.value if found else None

    role = _last(layers, "role")
    language = scalar("language")
    merged = []
    for name, spots in policies.items():
        plain = {key: spots[key].value for key in ("severity", "kind", "when") if key in spots and spots[key].value is not None}
        rule = spots["rule"].value if "rule" in spots else None
        rule = _substituted(rule, filled)
        if (spoken := _demanded_language(rule)) and spoken != language:
            message = f"policy '{name}' demands language {spoken}, but the persona speaks {language}"
            problems.append(spots["rule"].problem(message, "change the rule, or switch the policy off with enabled: false"))
        merged.append(Policy(id=name, text=text(spots["text"]), rule=rule, **plain))
    data = {
        "name": layers[-1].data["name"],
        "summary": scalar("summary"),
        "language": language,
        "role": text(role) if role else "",
        "voice": [text(spot) for spot in items("voice")],
        "policies": merged,
        "examples": [
            FewShot(user=text(inside(spot, "user")) or "?", assistant=text(inside(spot, "assistant")) or "?") for spot in items("examples")
        ],
        "variables": dict(filled),
        "tools": _tools(items("tools"), resolve, problems),
        "template": _template(layers, language),
        "templates": _templates(layers),
        "extends": layers[-1].data.get("extends"),
        "lineage": [document.data["name"] for document in reversed(layers)],
    }
    return None if problems else Persona.model_validate(data)


def _tools(spots: list[_Spot], resolve: Resolve | None, problems: list[Problem]) -> list[dict[str, Any]]:
    """Each with name, description and parameters; a plugin's function also with ``use``."""
    found: dict[str, dict[str, Any]] = {}
    for spot in spots:
        tool = dict(spot.value)
        if use := tool.get("use"):
            try:
                spec = resolve.tool(use) if isinstance(resolve, Resolver) else _no_tools(use)
            except UserError as error:
                problems.append(_Spot(use, spot.document, (*spot.path, "use")).problem(str(error)))
                continue
            tool = {
                "name": spec.function or spec.name.replace("-", "_"),
                "description": tool.get("description") or spec.summary,
                "parameters": json.loads(json.dumps(spec.parameters)),
                "use": use,
            }
        if tool["name"] in found:
            problems.append(spot.problem(f"two tools have the name '{tool['name']}'"))
        found[tool["name"]] = tool
    return list(found.values())


def _demanded_language(rule: Any) -> str | None:
    if not isinstance(rule, dict):
        return None
    if "language" in rule:
        return str(rule["language"])
    return next((found for part in rule.get("all", ()) if (found := _demanded_language(part))), None)


def _templates(layers: list[yamlio.Document]) -> dict[str, str]:
    """Templates of the rounds; the last file that names one wins, and a file is looked for beside it."""
    found: dict[str, str] = {}
    for layer in layers:
        for name, value in _mapped(layer, "templates").items():
            found[name] = str(Path(layer.file).parent / value) if value.endswith(".j2") else value
    return found


def _template(layers: list[yamlio.Document], language: str) -> str:
    found = _last(layers, "template")
    if found is None:
        return "system-zh" if language == "zh" else "system"
    if not found.value.lower().endswith(".j2"):
        return str(found.value)
    return str((Path(found.document.file).parent / Path(found.value).expanduser()).resolve())
