"""Jinja2 for personas and templates: sandboxed, and a name that is not defined is an error."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from agentft.errors import Problem, RecipeError, did_you_mean

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment


@cache
def environment() -> SandboxedEnvironment:
    """The one environment: no access to Python internals, nothing mutable, no escaping (prompts are not HTML).

    A line that holds only a ``{% block %}`` leaves no empty line behind.
    """
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    made = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    # Jinja's own tojson escapes for HTML, which a model should not have to read.
    made.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return made


def render_text(template: str, variables: Mapping[str, Any], where: Problem | str = "") -> str:
    """Fill in a template.

    Args:
        where: what the text is, for the message; a :class:`Problem` of which file, line and column are used, or a file name.

    Raises:
        RecipeError: the template is not valid, uses a name that is not defined, does something that the sandbox
            forbids or fails otherwise.
    """
    from jinja2 import TemplateSyntaxError, UndefinedError
    from jinja2.exceptions import SecurityError

    place = where if isinstance(where, Problem) else Problem("", where)
    try:
        return environment().from_string(template).render(dict(variables))
    except TemplateSyntaxError as error:
        raise _error(place, error.lineno, f"is not a valid template: {error.message}") from None
    except UndefinedError as error:
        named = re.match(r"'(\w+)' is undefined", str(error))
        message = f"the variable '{named[1]}' is not defined" if named else str(error.message)
        hint = did_you_mean(named[1], map(str, variables)) if named else ""
        raise _error(place, _line_of(template, named[1]) if named else 0, message, hint) from None
    except SecurityError as error:
        raise _error(place, 0, f"does what a template may not do: {error}") from None
    except Exception as error:  # whatever an expression such as {{ 1 / 0 }} raises is the author's mistake, not ours
        raise _error(place, 0, f"cannot be filled in: {type(error).__name__}: {error}") from None


def undeclared(template: str) -> set[str]:
    """Names that the template reads and does not define itself. A template that is not valid has none."""
    from jinja2 import TemplateError, meta

    try:
        return meta.find_undeclared_variables(environment().parse(template))
    except (TemplateError, RecursionError):
        return set()


def syntax_errors(template: str) -> list[str]:
    """What is wrong with the form of the template, in Jinja's words; empty if nothing is."""
    from jinja2 import TemplateSyntaxError

    try:
        environment().parse(template)
    except TemplateSyntaxError as error:
        return [str(error.message)]
    except RecursionError:
        return ["it is nested too deeply"]
    return []


def _error(place: Problem, line: int, message: str, hint: str = "") -> RecipeError:
    if not place.line and line:  # a template file of its own; inside a YAML file the caller knows the place better
        return RecipeError([Problem(message, place.file, line, 1, hint)])
    return RecipeError([Problem(message, place.file, place.line, place.column, hint)])


def _line_of(template: str, name: str) -> int:
    found = re.search(rf"\{{[{{%][^}}]*\b{re.escape(name)}\b", template)
    return template.count("\n", 0, found.end()) + 1 if found else 0
