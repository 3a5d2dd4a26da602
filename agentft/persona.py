"""The persona: who the agent is, how it talks, and the checklist that its answers are held against.

This is the finished persona: inheritance merged, variables filled in. The YAML file is read in
:mod:`agentft.persona_file`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import Field, field_validator, model_validator

from agentft.components import ToolSpec
from agentft.errors import Problem
from agentft.records import Example, Message, Verdict
from agentft.rules import NOT_APPLICABLE, Rule, compile_rule
from agentft.validation import Listed, Model

if TYPE_CHECKING:
    from agentft.catalog import Catalog

UNSCORED = "unscored"
# Makes a problem with a variable's value from (variable, message, hint).
ValueProblem = Callable[[str, str, str], Problem]
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def checked_name(value: str) -> str:
    """A name or id as personas use them; raises ValueError."""
    if not NAME.fullmatch(value):
        raise ValueError(f"'{value}' is not a name: use lower-case letters, digits and dashes, such as no-secrets")
    return value


class When(Model):
    """When a policy applies. With both keys, both must hold."""

    prompt: str | None = Field(
        default=None, description="regular expression, searched in the last user message, upper and lower case alike"
    )
    intent: Listed[str] | None = Field(default=None, description="values of `meta.intent` of the prompt, one of which must hold")

    @field_validator("prompt")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _some(self) -> When:
        if self.prompt is None and not self.intent:
            raise ValueError("'when' needs prompt: or intent:")
        return self

    def applies(self, prompt: Example) -> bool:
        if self.prompt is not None and not re.search(self.prompt, prompt.last_user, re.IGNORECASE):
            return False
        return self.intent is None or prompt.meta.get("intent") in self.intent


class Policy(Model):
    """One item of the checklist."""

    id: str
    text: str
    severity: Literal["hard", "soft"] = "soft"
    kind: Literal["form", "substance"] = "form"
    when: When | None = None
    rule: dict[str, Any] | None = None

    def check(self, response: str, prompt: Example) -> Verdict:
        """Decide one response: ``n.a.`` where ``when`` does not hold, ``unscored`` where there is no rule."""
        if self.when is not None and not self.when.applies(prompt):
            return self._verdict(NOT_APPLICABLE, "does not apply to this prompt")
        if self.rule is None:
            return self._verdict(UNSCORED, "no rule decides this")
        outcome = _compiled(json.dumps(self.rule)).check(response, {**prompt.meta, "prompt": prompt.last_user})
        return self._verdict(outcome.verdict, outcome.evidence)

    def _verdict(self, verdict: str, evidence: str) -> Verdict:
        return Verdict(self.id, verdict, evidence, self.severity, self.kind)


@lru_cache(maxsize=1024)
def _compiled(rule: str) -> Rule:
    return compile_rule(json.loads(rule))


class FewShot(Model):
    """An exchange that is shown in the system prompt."""

    user: str = Field(min_length=1, description="what the user says")
    assistant: str = Field(min_length=1, description="what the agent answers")


class Persona(Model):
    """A persona, ready for use. Two personas with the same content are equal.

    ``tools`` have ``name``, ``description`` and ``parameters``, and ``use`` where a plugin's function stands behind the tool.

    ``lineage`` has the names of the persona itself, of the one that it extends, and so on.
    """

    name: str
    summary: str
    language: Literal["en", "zh"]
    role: str
    voice: Listed[str] = ()
    policies: Listed[Policy] = ()
    examples: Listed[FewShot] = ()
    variables: dict[str, str | int | float | bool] = Field(default_factory=dict)
    tools: Listed[dict[str, Any]] = ()
    template: str = "system"
    templates: dict[str, str] = Field(default_factory=dict)
    extends: str | None = None
    lineage: Listed[str] = ()

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        resolve: Callable[[str], Path] | None = None,
        values: Mapping[str, Any] | None = None,
        value_problem: ValueProblem | None = None,
    ) -> Persona:
        """Read a persona file.

        Args:
            resolve: finds the file of the persona that ``extends:`` names, and the tools of plugins; see :func:`resolver`.
            values: values of variables, instead of the defaults.
            value_problem: makes a problem with one of ``values`` from (variable, message, hint); for a caller that
                knows where the value was written.

        Raises:
            RecipeError: with every problem that was found, in this file and those that it extends.
        """
        from agentft.persona_file import load

        return load(Path(path), resolve, values or {}, value_problem)

    @property
    def schemas(self) -> tuple[dict[str, Any], ...]:
        """The tools as a model is shown them: ``{"name", "description", "parameters"}`` each."""
        return tuple({key: tool[key] for key in ("name", "description", "parameters") if key in tool} for tool in self.tools)

    def check(self, response: str, prompt: Example) -> list[Verdict]:
        """One verdict per policy, in their order."""
        return [policy.check(response, prompt) for policy in self.policies]

    def check_message(self, answer: Message, prompt: Example) -> list[Verdict]:
        """As :meth:`check`, for an answer that may call tools.

        Such an answer goes on when the tool has answered: what it has not said yet is no fault. So nothing is decided about it, but
        for the hard items where it says something already.
        """
        verdicts = self.check(answer.content, prompt)
        if not answer.tool_calls:
            return verdicts
        said = bool(answer.content.strip())
        reason = "calls a tool and goes on after its answer"
        return [v if said and v.severity == "hard" else replace(v, verdict=NOT_APPLICABLE, evidence=reason) for v in verdicts]

    def context(self) -> dict[str, Any]:
        """What a system-prompt template can name, as plain data."""
        data = self.to_dict()
        head = {key: data[key] for key in ("name", "summary", "language")}
        body = {**{key: data[key] for key in ("role", "voice", "policies", "examples")}, "tools": list(self.schemas)}
        return {**data["variables"], **body, "persona": {**head, **body}}

    def to_dict(self) -> dict[str, Any]:
        """JSON data; :meth:`from_dict` is the way back."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Persona:
        return cls.model_validate(data)

    @property
    def digest(self) -> str:
        """sha256 of the content; where the file lies makes no difference."""

        def plain(template: str) -> str:
            return Path(template).name if _is_file(template, ".j2") else template

        feedback = {name: plain(template) for name, template in self.templates.items()}
        content = {**self.to_dict(), "template": plain(self.template), "templates": feedback}
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Resolver:
    """Persona name -> file, and tool name -> descriptor. Both raise PluginError for an unknown name."""

    def __init__(self, catalog: Catalog):
        self._catalog = catalog

    def __call__(self, name: str) -> Path:
        return self._catalog.path(self._catalog.get("persona", name))

    def tool(self, name: str) -> ToolSpec:
        spec = self._catalog.get("tool", name).spec
        assert isinstance(spec, ToolSpec)
        return spec


def resolver(catalog: Catalog) -> Resolver:
    """What finds the parts that a persona names, for ``Persona.load(resolve=...)``."""
    return Resolver(catalog)


class Reference(Protocol):
    """What a recipe says under ``persona``."""

    @property
    def use(self) -> str: ...

    @property
    def variables(self) -> Mapping[str, Any]: ...


def find_persona(catalog: Catalog, reference: Reference, base: Path, value_problem: ValueProblem | None = None) -> Persona:
    """The persona that a recipe names, filled in with the recipe's values. ``base`` is the recipe's folder.

    Raises:
        PluginError: there is none of that name.
        RecipeError: it is not valid.
    """
    resolve = resolver(catalog)
    path = persona_path(reference.use, base, resolve)
    return Persona.load(path, resolve=resolve, values=reference.variables, value_problem=value_problem)


def load_persona(catalog: Catalog, name: str) -> Persona:
    """A persona of the catalog with the defaults of its variables. Raises as :func:`find_persona` does."""
    resolve = resolver(catalog)
    return Persona.load(resolve(name), resolve=resolve)


def persona_path(reference: str, base: Path, resolve: Callable[[str], Path]) -> Path:
    """The file behind a persona reference: a name of the catalog, or a ``.yaml`` file relative to ``base``."""
    return base / Path(reference).expanduser() if _is_file(reference, ".yaml", ".yml") else resolve(reference)


def template_path(persona: Persona, catalog: Catalog) -> Path:
    """The file of the persona's template. Raises PluginError where the catalog has none of that name."""
    if _is_file(persona.template, ".j2"):
        return Path(persona.template)
    return catalog.path(catalog.get("template", persona.template))


def _is_file(reference: str, *endings: str) -> bool:
    return reference.lower().endswith(endings)
