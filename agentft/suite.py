"""A suite: what an agent is asked and measured by, as data. The evaluation half of a recipe, for agents of any kind."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field, PrivateAttr, ValidationError

from agentft import yamlio
from agentft.errors import PluginError, Problem, RecipeError, UserError, did_you_mean
from agentft.feedback.judge import JudgeConfig
from agentft.recipe import FolderName, Generation, PersonaUse, Recipe, Seed
from agentft.recipe_parts import PartUse
from agentft.validation import Listed, Model, in_order, problems_of

if TYPE_CHECKING:
    from agentft.host import Host
    from agentft.session import Session


class Asking(Model):
    """How answers are generated: a recipe's ``generation`` without its backend, because the agent brings its own."""

    max_new_tokens: int = Field(default=128, ge=1, description="longest answer in tokens")
    temperature: float = Field(default=0.0, ge=0, description="0: always the most probable token")
    top_p: float = Field(default=1.0, gt=0, le=1, description="sample from the most probable tokens that together have this probability")
    batch_size: int = Field(default=32, ge=1, description="prompts that are answered together, where the model is in this process")


def _bounded(value: dict[str, float]) -> dict[str, float]:
    for name, bound in value.items():
        if bound != bound or abs(bound) == float("inf"):
            raise ValueError(f"the bound of '{name}' must be a number")
    return value


Bounds = Annotated[dict[str, float], AfterValidator(_bounded)]


class Suite(Model):
    """A suite file."""

    name: FolderName = Field(description="name of the suite: letters, digits, `.`, `_` and `-`")
    summary: str = Field(default="", description="what it measures, one line")
    persona: PersonaUse | None = Field(
        default=None,
        description="whom the agent plays, and whose checklist its answers are held against; left out: the persona of the run",
    )
    requires: Listed[str] = Field(default=(), description="distributions that must be installed, such as `agentft-tutoring>=0.1`")
    prompts: Listed[PartUse] = Field(min_length=1, description="sources of prompts; of demonstrations, the last answer is the reference")
    limit: int | None = Field(default=None, ge=1, description="ask at most that many prompts, drawn by seed; left out: all")
    evaluate: Listed[PartUse] = Field(min_length=1, description="evaluators, as in a recipe")
    judge: JudgeConfig | None = Field(
        default=None, description="a model that judges checklist items, and in a comparison which of two answers is better"
    )
    slices: Listed[str] = Field(default=(), description="keys of a prompt's `meta` by which results are broken down, such as `intent`")
    headline: Listed[str] = Field(default=(), description="scores that decide a comparison; left out: adherence and relevance")
    min: Bounds = Field(default_factory=dict, description="score -> lowest value that passes; below it the command exits with 1")
    max: Bounds = Field(default_factory=dict, description="score -> highest value that passes")
    generation: Asking = Field(default=Asking(), description="how answers are generated")
    seed: Seed = Field(default=0, description="for everything that is drawn: prompts, sampling, intervals")

    _document: yamlio.Document = PrivateAttr(default_factory=lambda: yamlio.Document("", ""))

    @classmethod
    def load(cls, path: Path | str) -> Suite:
        """Read a suite file.

        Raises:
            RecipeError: with every problem that was found.
        """
        return cls._read(yamlio.load(path))

    @classmethod
    def parse(cls, text: str, file: str = "suite.yaml") -> Suite:
        """A suite from YAML text; ``file`` is the name in problems, and its folder is where relative paths start."""
        return cls._read(yamlio.parse(text, file))

    @classmethod
    def _read(cls, document: yamlio.Document) -> Suite:
        data = yamlio.mapping(document, "a suite", "name, prompts and evaluate")
        try:
            suite = cls.model_validate(data)
        except ValidationError as error:
            found = problems_of(error, cls, lambda path, message, hint, key: document.problem(path, message, hint, key=key))
            raise RecipeError(in_order(found)) from None
        suite._document = document
        return suite

    @property
    def digest(self) -> str:
        """sha256 of what decides the answers and scores: everything but the bounds and what is only shown."""
        data = self.model_dump(mode="json", exclude={"min", "max", "headline", "slices", "summary", "judge"})
        return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def session(self, host: Host, persona: str = "assistant") -> Session:
        """Everything that the suite names, found and checked.

        Args:
            persona: whose checklist counts where the suite names nobody.

        Raises:
            RecipeError: with all problems, each at its place in the suite's file.
        """
        from agentft.session import Session

        recipe = _Asked.model_validate(
            {
                "name": self.name,
                "model": "agent",
                "persona": self.persona or PersonaUse(use=persona),
                "requires": list(self.requires),
                "data": {"prompts": [use.model_dump(mode="json") for use in self.prompts], "max_prompts": self.limit},
                "evaluate": [use.model_dump(mode="json") for use in self.evaluate],
                "generation": Generation(**self.generation.model_dump()),
                "seed": self.seed,
            }
        )
        recipe._document = self._document
        return Session(recipe, host)


# Where a suite has what the recipe made of it has elsewhere.
_PLACES: dict[tuple[str, ...], tuple[str, ...]] = {("data", "prompts"): ("prompts",), ("data", "max_prompts"): ("limit",)}


class _Asked(Recipe):
    """A suite as a recipe that trains nothing; its problems are shown where the suite has the mistake."""

    def problem(self, path: Sequence[str | int], message: str, hint: str = "", *, key: bool = False) -> Problem:
        path = tuple(path)
        place = (*_PLACES.get(tuple(map(str, path[:2])), path[:2]), *path[2:])
        if "data.split.test" in hint:
            hint = "name a source of demonstrations under prompts"
        return (self._document or yamlio.Document("", "")).problem(place, message, hint, key=key)


def find_suite(reference: str) -> Suite:
    """The suite behind a ``.yaml`` file, a built-in name, or ``namespace/name`` of a plugin.

    A plugin ships suites as ``suites/NAME.yaml`` inside its package; nothing else is needed.

    Raises:
        RecipeError: the file has mistakes.
        UserError: there is no such suite.
    """
    path = Path(reference).expanduser()
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return Suite.load(path)
    known = suite_files()
    if reference not in known:
        raise UserError(f"no suite '{reference}' ({did_you_mean(reference, known) or 'name a .yaml file'})")
    return Suite.load(known[reference])


def suite_files() -> dict[str, Path]:
    """Name -> file of the suites that agentft and the installed plugins ship."""
    from agentft.catalog import resource

    found = {file.stem: file for file in sorted((Path(__file__).parent / "suites").glob("*.yaml"))}
    for entry in metadata.entry_points(group="agentft"):
        package = entry.value.partition(":")[0].partition(".")[0]
        try:
            home = resource(f"{package}:__init__.py").parent
        except PluginError:  # it is shown by `agentft plugins`; here it has no suites
            continue
        found |= {f"{entry.name}/{file.stem}": file for file in sorted((home / "suites").glob("*.yaml"))}
    return found
