"""What a persona's YAML file may hold. ``docs/persona.md`` is generated from these models."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from agentft import yamlio
from agentft.persona import FewShot, When, checked_name
from agentft.validation import Listed, Model, describe

_TYPES: dict[str, Any] = {"string": str, "integer": int, "number": float, "boolean": bool}


class Variable(Model):
    """A variable, written as a mapping, or as just its default value."""

    expects = "a value, or a mapping with type, default, description, choices"

    type: Literal["string", "integer", "number", "boolean"] | None = Field(
        default=None, description="what values it takes; left out: that of the default"
    )
    default: str | int | float | bool | None = Field(
        default=None, description="value if the recipe gives none; left out: the recipe must give one"
    )
    description: str | None = Field(default=None, description="one line for the person who sets it")
    choices: Listed[str | int | float | bool] | None = Field(default=None, description="the only values allowed")

    @model_validator(mode="before")
    @classmethod
    def _bare_value(cls, data: Any) -> Any:
        return {"default": data} if isinstance(data, (str, int, float)) else data

    @model_validator(mode="after")
    def _consistent(self) -> Variable:
        if self.choices is not None and not self.choices:
            raise ValueError("'choices' is empty")
        for key, values in (("choices", self.choices or ()), ("default", () if self.default is None else (self.default,))):
            for value in values:
                try:
                    self.check(value)
                except ValueError as error:
                    raise ValueError(f"'{key}' {error}") from None
        return self

    @property
    def kind(self) -> str:
        if self.type:
            return self.type
        values = [self.default] if self.default is not None else list(self.choices or ("",))
        return next(name for name in ("boolean", "integer", "number", "string") if _fits(values[0], name))

    def check(self, value: Any) -> None:
        """Raises ValueError unless ``value`` is one that the variable takes."""
        if not _fits(value, self.kind):
            raise ValueError(f"must be {describe(_TYPES[self.kind])}, not {yamlio.show(value)}")
        if self.choices and value not in self.choices:
            raise ValueError(f"must be one of {', '.join(map(str, self.choices))}, not {yamlio.show(value)}")


def _fits(value: Any, kind: str) -> bool:
    if isinstance(value, bool) or kind == "boolean":
        return isinstance(value, bool) and kind == "boolean"
    return isinstance(value, (int, float) if kind == "number" else _TYPES[kind])


class PolicyEntry(Model):
    """A policy as written. One with the id of an inherited policy changes only the keys that it gives."""

    id: str = Field(description="lower-case letters, digits and dashes; once per file")
    text: str | None = Field(default=None, min_length=1, description="the sentence that the model is shown; may use variables")
    severity: Literal["hard", "soft"] | None = Field(
        default=None, description="`hard`: breaking it once is a fault; `soft` (the default): a matter of degree"
    )
    kind: Literal["form", "substance"] | None = Field(
        default=None, description="`form` (the default): how it is said; `substance`: what is said"
    )
    when: When | None = Field(default=None, description="when it applies; left out: always")
    rule: dict[str, Any] | None = Field(
        default=None, description="what decides it, see the table below; left out: unscored until a judge decides"
    )
    enabled: bool = Field(default=True, description="`false` switches an inherited policy off")

    @field_validator("id")
    @classmethod
    def _name(cls, value: str) -> str:
        return checked_name(value)


class Tool(Model):
    """A function that the agent may call: one of a plugin (`use`), which is then run, or one that is only described."""

    use: str | None = Field(
        default=None, min_length=1, description="a plugin's function, `namespace/name`; it brings name, description and parameters"
    )
    name: str | None = Field(default=None, min_length=1, description="name of the function; required without `use`")
    description: str | None = Field(default=None, min_length=1, description="what it does, for the model; required without `use`")
    parameters: dict[str, Any] | None = Field(
        default=None, description="JSON schema of the arguments, `type: object`; required without `use`"
    )

    @model_validator(mode="after")
    def _either(self) -> Tool:
        given = [key for key in ("name", "description", "parameters") if getattr(self, key) is not None]
        if self.use is None and len(given) < 3:
            missing = next(key for key in ("name", "description", "parameters") if key not in given)
            raise ValueError(f"'{missing}' is missing (or name a plugin's function with use:)")
        if self.use is not None and set(given) - {"description"}:
            raise ValueError(f"'{given[0]}' comes from '{self.use}'; only the description can be another one")
        return self

    @field_validator("parameters")
    @classmethod
    def _schema(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is None:
            return None
        properties, required = value.get("properties", {}), value.get("required", [])
        if value.get("type") != "object":
            raise ValueError("'parameters' is a JSON schema and needs type: object")
        if not isinstance(properties, dict) or not all(isinstance(schema, dict) for schema in properties.values()):
            raise ValueError("'properties' must be a mapping from the name of an argument to its schema")
        if not isinstance(required, list) or not all(name in properties for name in required):
            raise ValueError("'required' must be a list of names of 'properties'")
        return value


class PersonaFile(Model):
    """One file. Everything but ``name`` may come from the persona that it extends."""

    name: str = Field(description="lower-case letters, digits and dashes")
    summary: str | None = Field(default=None, min_length=1, description="one line: what this agent is")
    language: Literal["en", "zh"] | None = Field(default=None, description="language of the agent")
    extends: str | None = Field(default=None, min_length=1, description="persona to start from: a name, or a `.yaml` file beside this one")
    template: str | None = Field(
        default=None,
        min_length=1,
        description="template of the system prompt: a name, or a `.j2` file beside this one; left out: `system` (`system-zh` for `zh`)",
    )
    templates: dict[Literal["critique", "refine", "judge_pair"], str] = Field(
        default_factory=dict,
        description="templates of the rounds of feedback, instead of the built-in ones: `critique`, `refine` or `judge_pair` -> "
        "a name, or a `.j2` file beside this one",
    )
    variables: dict[str, Variable] = Field(
        default_factory=dict, description="values that a recipe may change; used in texts as `{{ name }}`"
    )
    role: str | None = Field(default=None, min_length=1, description="who the agent is, in one to three sentences")
    voice: Listed[str] | None = Field(default=None, description="how it talks, in short sentences")
    policies: Listed[PolicyEntry] = Field(default=(), description="the checklist: what every answer is held against")
    examples: Listed[FewShot] | None = Field(
        default=None, description="exchanges shown in the system prompt; every training row pays for them"
    )
    tools: Listed[Tool] | None = Field(default=None, description="functions that the agent may call")

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        return checked_name(value)
