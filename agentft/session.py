"""Everything that a recipe names, found and checked: the starting point of every job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agentft.catalog import Catalog, Entry
from agentft.components import CodeSpec, ModelRef
from agentft.errors import RecipeError
from agentft.host import Host
from agentft.persona import Persona, find_persona
from agentft.recipe import PartUse, Recipe
from agentft.runs import file_digest


@dataclass(frozen=True)
class Part:
    """A part as a recipe uses it: catalog entry, validated options, and what identifies its code."""

    use: PartUse
    entry: Entry
    config: Any

    @property
    def name(self) -> str:
        return self.entry.name

    def identity(self) -> dict[str, Any]:
        """What a stage's key contains: name, options, version, and the digest of the file that holds the code.

        The digest makes an edited plugin in a checkout count as another one, without a new version number.
        """
        spec = self.entry.spec
        code = find_spec(spec.target.partition(":")[0]) if isinstance(spec, CodeSpec) else None
        return {
            "use": self.name,
            "options": self.config.model_dump(mode="json") if self.config is not None else {},
            "weight": self.use.weight,
            "distribution": f"{self.entry.distribution} {self.entry.version}",
            "code": file_digest(Path(code.origin))[:16] if code and code.origin else "",
        }


class Session:
    """A checked recipe with its host, catalog, persona and parts.

    Args:
        recipe: the recipe.
        host: where parts come from; a fresh one if None.

    Raises:
        RecipeError: with all problems that were found, before any heavy import.
    """

    def __init__(self, recipe: Recipe, host: Host | None = None):
        from agentft.check import check_recipe

        self.recipe = recipe
        self.host = host or Host()
        self.catalog: Catalog = self.host.catalog.activate(distribution_name(text) for text in recipe.requires)
        problems = check_recipe(recipe, self.catalog)
        if not problems:
            problems = self.host.check_recipe(recipe, self.active)
        if problems:
            raise RecipeError(problems)

    @cached_property
    def persona(self) -> Persona:
        return find_persona(self.catalog, self.recipe.persona, self.recipe.base)

    @cached_property
    def system_prompt(self) -> str:
        """The exact text that is put in front of every conversation."""
        from agentft.render.system import system_prompt

        return system_prompt(self.persona, self.template_text)

    @property
    def tools(self) -> tuple[Mapping[str, Any], ...]:
        """The persona's tools: what every conversation without tools of its own is rendered with, in training and at use."""
        return self.persona.schemas

    @cached_property
    def template_text(self) -> str:
        from agentft.persona import template_path

        return template_path(self.persona, self.catalog).read_text("utf-8")

    @cached_property
    def model(self) -> ModelRef:
        return self.host.resolve_model(self.recipe.model_reference)

    @property
    def active(self) -> set[str]:
        """Names of the plugins that contribute a part to the recipe."""
        from agentft.check import part_uses

        names = {use.use for _, _, use in part_uses(self.recipe)} | {self.recipe.persona.use}
        names |= {tool["use"] for tool in self.persona.tools if "use" in tool}
        return {name.partition("/")[0] for name in names if "/" in name}

    def parts(self, kind: str, uses: Sequence[PartUse]) -> list[Part]:
        """The parts behind ``uses``, with validated options."""
        return [self._part(kind, use) for use in uses]

    def _part(self, kind: str, use: PartUse) -> Part:
        entry = self.catalog.get(kind, use.use)
        model = self.catalog.config_model(entry)
        return Part(use, entry, model.model_validate(dict(use.options)) if model else None)

    def plugin_versions(self) -> dict[str, str]:
        """Distribution -> version of the plugins that take part."""
        found = (self.host.plugin(name) for name in sorted(self.active))
        return {plugin.distribution: plugin.version for plugin in found if plugin is not None}


def open_recipe(path: Path | str, overrides: Sequence[str] = (), host: Host | None = None) -> Session:
    """Read, override and check a recipe file."""
    return Session(Recipe.load(path, overrides=list(overrides)), host)


def distribution_name(requirement: str) -> str:
    """``agentft-x`` from ``agentft-x>=0.1``; the text itself where it is no valid requirement (the check reports that)."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return Requirement(requirement).name
    except InvalidRequirement:
        return requirement


def versions() -> Mapping[str, str]:
    """Versions of what a result depends on, without importing any of it."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in ("agentft", "torch", "transformers", "trl", "peft", "accelerate", "tokenizers", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
