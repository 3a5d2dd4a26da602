"""The recipe: the whole job as data. Reading it checks its form; :mod:`agentft.check` checks what it names."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_serializer,
    model_validator,
)
from typing_extensions import TypedDict

from agentft import yamlio
from agentft.errors import Problem, RecipeError
from agentft.overrides import Override
from agentft.recipe_parts import PartUse as PartUse
from agentft.recipe_refine import Refine
from agentft.validation import Listed, Model, in_order, problems_of

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def _folder_name(value: str) -> str:
    if not NAME.fullmatch(value) or len(value) > 64:
        raise ValueError(f"'name' may hold up to 64 letters, digits, '.', '_' and '-' (it names folders), not {yamlio.show(value)}")
    return value


FolderName = Annotated[str, AfterValidator(_folder_name)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class PersonaUse(Model):
    """A persona and the values of its variables."""

    expects: ClassVar[str] = "the name of a persona, a .yaml file, or a mapping with 'use' and 'variables'"

    use: str = Field(min_length=1, description="name of a persona, or a `.yaml` file relative to the recipe")
    variables: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="values of the persona's variables, instead of their defaults"
    )

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, data: Any) -> Any:
        return {"use": data} if isinstance(data, str) else data


class Split(Model):
    """How demonstrations are divided. What is not validation or test is trained on."""

    validation: float = Field(default=0.1, ge=0, lt=1, description="share of the rows for the validation loss")
    test: float = Field(default=0.1, ge=0, lt=1, description="share of the rows held out for the evaluation")
    by: str = Field(
        default="group",
        min_length=1,
        description="what is never separated: `group` (one customer, text or problem), `id` (single rows), or a key of `meta`",
    )
    seed: Seed = Field(default=7, description="another seed gives another division")
    stratify: str | None = Field(
        default=None,
        min_length=1,
        description="keep the shares of this value alike in all parts: `label`, or a key of `meta`; a group has the value of its first row",
    )

    @model_validator(mode="after")
    def _some_left(self) -> Split:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation {self.validation:g} and test {self.test:g} leave nothing to train on; their sum must be below 1")
        return self


class Data(Model):
    """What is learned from, and what is asked in the evaluation.

    Where ``validation`` or ``test`` names sources, the share of that name in ``split`` is not taken from the training rows.
    """

    sources: Listed[PartUse] = Field(default=(), description="sources of demonstrations, in this order")
    transforms: Listed[PartUse] = Field(default=(), description="transforms, run in this order on the rows of all sources")
    mix: Literal["concatenate", "interleave"] = Field(
        default="concatenate",
        description="how several sources are put together: one after the other, each `weight` times; or drawn row by row with the weights "
        "as probabilities until one of them is used up",
    )
    split: Split = Field(default=Split(), description="how the rows are divided")
    validation: Listed[PartUse] = Field(default=(), description="sources of validation rows that come divided already")
    test: Listed[PartUse] = Field(default=(), description="sources of test rows that come divided already; nothing of them is learned")
    leaks: Literal["drop", "keep"] = Field(
        default="drop", description="what happens to a test row whose text is in the training data; it is counted either way"
    )
    prompts: Listed[PartUse] = Field(default=(), description="sources of further prompts for the evaluation; no demonstration answers them")
    max_prompts: int | None = Field(default=None, ge=1, description="ask at most that many of `prompts`, drawn by seed; left out: all")
    max_test: int | None = Field(default=None, ge=1, description="evaluate on at most that many test rows, drawn by seed; left out: all")
    max_length: int = Field(default=1024, ge=32, description="longest training row in tokens")
    on_overflow: Literal["error", "drop", "truncate_turns", "split"] = Field(
        default="truncate_turns",
        description="what happens to a longer row: stop; leave it out; leave out its oldest turns; cut it into several. All is counted",
    )


class Generation(Model):
    """How answers are generated in the evaluation."""

    backend: PartUse = Field(
        default=PartUse.model_validate("transformers"), description="part that generates, with its options ([backends](backends.md))"
    )
    max_new_tokens: int = Field(default=128, ge=1, description="longest answer in tokens")
    temperature: float = Field(default=0.0, ge=0, description="0: always the most probable token")
    top_p: float = Field(default=1.0, gt=0, le=1, description="sample from the most probable tokens that together have this probability")
    batch_size: int = Field(default=32, ge=1, description="prompts that are answered together; where one ends, the next takes its place")

    @field_serializer("backend")
    def _bare_name(self, backend: PartUse) -> Any:
        return backend.model_dump(mode="json") if backend.options else backend.use


def _known_device(value: str) -> str:
    if not re.fullmatch(r"cpu|mps|cuda(:\d{1,3})?", value):
        raise ValueError(f"'device' must be cpu, cuda, cuda:N or mps, not '{value}'")
    return value


Dtype = Literal["bf16", "fp16", "fp32", "bfloat16", "float16", "float32"]
Count = Annotated[int, Field(ge=1)]


class Device(TypedDict, total=False):
    """How the machine is used. What is left out is decided by looking at the machine."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[misc]

    device: Annotated[str, AfterValidator(_known_device), Field(description="`cpu`, `cuda`, `cuda:N` or `mps`")]
    train_dtype: Annotated[Dtype, Field(description="`bf16` and `fp16`: mixed precision")]
    decode_dtype: Annotated[Dtype, Field(description="of the weights when answers are generated or scored")]
    threads: Annotated[Count, Field(description="CPU threads")]
    attention: Annotated[
        Literal["sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention"],
        Field(description="attention code of transformers"),
    ]
    micro_batch: Annotated[Count, Field(description="rows per forward and backward pass")]
    score_batch: Annotated[Count, Field(description="rows per forward pass where answers are scored")]
    gradient_checkpointing: Annotated[bool, Field(description="less memory, up to half again the time")]
    share_prefix: Annotated[bool, Field(description="compute what rows have in common (the persona, a pair's prompt) once")]


def _requirement(text: str) -> str:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        Requirement(text)
    except InvalidRequirement:
        raise ValueError(f"'{text}' is not a requirement such as agentft-customer-service>=0.1") from None
    return text


class Recipe(Model):
    """A recipe. Two recipes with the same content are equal, wherever they were read from."""

    name: FolderName = Field(description="name of the agent and of its runs: letters, digits, `.`, `_` and `-`")
    model: str = Field(min_length=1, description="bundled name, hub id, local folder or `.gguf` file")
    persona: PersonaUse = Field(
        default=PersonaUse(use="assistant"),
        description="name of a persona, a `.yaml` file, or a mapping with `use` and `variables`; tasks with heads need none",
    )
    requires: Listed[Annotated[str, AfterValidator(_requirement)]] = Field(
        default=(), description="distributions that must be installed, such as `agentft-customer-service>=0.1`"
    )
    data: Data = Field(default=Data(), description="what is learned from, and what is asked in the evaluation")
    train: Listed[PartUse] = Field(default=(), description="training stages, in this order; left out: only the base model is evaluated")
    generation: Generation = Field(default=Generation(), description="how answers are generated")
    refine: Refine | None = Field(default=None, description="rounds of feedback after the training; left out: none")
    evaluate: Listed[PartUse] = Field(default=(), description="evaluators; base model and tuned model answer the same prompts")
    device: Device = Field(default_factory=Device, description="how the machine is used")
    seed: Seed = Field(default=0, description="for everything that is drawn: order of the rows, dropout, sampling, intervals")

    _document: yamlio.Document | None = PrivateAttr(None)
    _overrides: tuple[Override, ...] = PrivateAttr(())

    @classmethod
    def load(cls, path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
        """Read a recipe file.

        Args:
            overrides: changes of the form ``train.0.epochs=1``, applied in this order.

        Raises:
            RecipeError: with every problem that was found.
        """
        return cls._read(yamlio.load(path), overrides)

    @classmethod
    def parse(cls, text: str, file: str = "recipe.yaml", overrides: Sequence[str] = ()) -> Recipe:
        """A recipe from YAML text; ``file`` is the name in problems, and its folder is :attr:`base`."""
        return cls._read(yamlio.parse(text, file), overrides)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
        """A recipe from plain data, as :meth:`to_dict` gives it; relative paths start at the current folder."""
        return cls._read(yamlio.Document("", "", dict(data)), overrides)

    @classmethod
    def _read(cls, document: yamlio.Document, overrides: Sequence[str]) -> Recipe:
        problems: list[Problem] = []
        data = copy.deepcopy(yamlio.mapping(document, "a recipe", "name, model and persona"))
        applied: list[Override] = []
        for text in overrides:
            try:
                override = Override.parse(text)
                override.apply(data, list(cls.model_fields))
                applied.append(override)
            except RecipeError as error:
                problems += error.problems
        try:
            recipe = cls.model_validate(data)
        except ValidationError as error:
            problems += problems_of(error, cls, lambda path, message, hint, key: _problem(document, applied, path, message, hint, key))
        if problems:
            raise RecipeError(in_order(problems))
        recipe._document, recipe._overrides = document, tuple(applied)
        return recipe

    @property
    def path(self) -> Path | None:
        """The file that the recipe was read from."""
        return Path(self._document.file) if self._document is not None and self._document.file else None

    @property
    def base(self) -> Path:
        """Folder that relative paths in the recipe start from."""
        return self.path.parent if self.path else Path(".")

    @property
    def model_reference(self) -> str:
        """``model`` for whoever resolves it: a relative path starts at the recipe's folder, anything else is as written."""
        path = self.base / Path(self.model).expanduser()
        return str(path) if re.search(r"[/\\~]|\.gguf$", self.model) and path.exists() else self.model

    @property
    def overrides(self) -> tuple[str, ...]:
        """Changes that were made on the command line."""
        return tuple(override.text for override in self._overrides)

    @property
    def source_text(self) -> str:
        """The recipe's YAML as it was written, comments included; empty if it was not read from YAML."""
        return self._document.text if self._document is not None else ""

    @property
    def digest(self) -> str:
        """sha256 of the content: defaults filled in, wherever and however it was written."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """JSON data with all defaults filled in; :meth:`from_dict` is the way back."""
        return self.model_dump(mode="json")

    def problem(self, path: Sequence[str | int], message: str, hint: str = "", *, key: bool = False) -> Problem:
        """A problem at ``path``, with file, line and column, or with the ``--set`` that put the value there.

        Args:
            path: such as ``("train", 0, "epochs")``.
            key: the key is meant, not its value.
        """
        return _problem(self._document or yamlio.Document("", ""), self._overrides, path, message, hint, key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.to_dict() == other.to_dict()

    __hash__ = Model.__hash__


def _problem(
    document: yamlio.Document, overrides: Sequence[Override], path: Sequence[str | int], message: str, hint: str, key: bool
) -> Problem:
    wanted = tuple(path)
    for override in reversed(overrides):
        shared = min(len(override.path), len(wanted))
        # What is inside an overridden value was written there; so was what exists only because of it.
        if override.path[:shared] == wanted[:shared] and (shared == len(override.path) or not document.has(wanted)):
            return override.problem(message, hint)
    if not document.file and not document.text:
        return Problem(message, ".".join(map(str, path)), hint=hint)
    return document.problem(path, message, hint, key=key)
