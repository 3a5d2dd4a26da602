"""Descriptors: what a plugin contributes, as data. Listing parts imports none of their code.

``target`` is ``"package.module:attribute"`` and is imported on first use; ``config`` names a pydantic model (same
form) that the part's options in a recipe are validated with, or None if it takes no options. The call shapes of the
targets are in :mod:`agentft.contracts`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True)
class Spec:
    """Fields that every descriptor has.

    Attributes:
        name: what the author calls it, ``[a-z0-9-]+``. The host puts the plugin's namespace in front.
        summary: one line for listings.
        replaces: bare name of the built-in part of the same kind that this one stands in for. It does so only in recipes
            whose ``requires:`` lists the plugin's distribution, because installed is not active.
    """

    name: str
    summary: str
    replaces: str = field(default="", kw_only=True)

    kind: ClassVar[str] = "part"


@dataclass(frozen=True)
class CodeSpec(Spec):
    """A part with code.

    Attributes:
        consumes, produces: record kinds, checked along the recipe's chain.
        requires: distributions that the part needs besides agentft's own, as pip requirements; checked before a run.
    """

    target: str
    config: str | None = None
    consumes: str = "example"
    produces: str = "example"
    requires: tuple[str, ...] = ()


@dataclass(frozen=True)
class PersonaSpec(Spec):
    """A persona file. ``path`` is absolute, or ``package:folder/file.yaml`` inside an installed package."""

    path: str
    language: str = "en"

    kind: ClassVar[str] = "persona"


@dataclass(frozen=True)
class TemplateSpec(Spec):
    """A Jinja2 template file; ``path`` as for :class:`PersonaSpec`."""

    path: str

    kind: ClassVar[str] = "template"


@dataclass(frozen=True)
class SourceSpec(CodeSpec):
    """Yields records: ``(config, ctx) -> Iterator[Example]``. ``produces`` is ``example``, ``prompt`` or ``preference``.

    ``practice``: prompts that rounds of feedback practise on; a recipe that `agentft init` writes names them under ``refine.prompts``
    and keeps them out of the evaluation.
    """

    consumes: str = ""
    practice: bool = False

    kind: ClassVar[str] = "source"


@dataclass(frozen=True)
class TransformSpec(CodeSpec):
    """Records to records: ``(records, config, ctx) -> Iterator[Example]``; drops are reported to ``ctx.drop``."""

    kind: ClassVar[str] = "transform"


@dataclass(frozen=True)
class TrainerSpec(CodeSpec):
    """A training method: ``(job: TrainJob) -> TrainResult``."""

    produces: str = "model"

    kind: ClassVar[str] = "trainer"


@dataclass(frozen=True)
class CriticSpec(CodeSpec):
    """Feedback on responses: ``(prompts, responses, config, ctx) -> list[Feedback]``."""

    consumes: str = "response"
    produces: str = "feedback"

    kind: ClassVar[str] = "critic"


@dataclass(frozen=True)
class EvaluatorSpec(CodeSpec):
    """A metric: ``(samples, generate, config, ctx) -> list[Score]``.

    ``consumes`` is ``sample`` (answers to held-out prompts), ``reference`` (only those with a demonstrated answer) or
    ``example`` (held-out demonstrations, for metrics such as perplexity that score instead of generate).
    """

    consumes: str = "sample"
    produces: str = "score"

    kind: ClassVar[str] = "evaluator"


@dataclass(frozen=True)
class BackendSpec(CodeSpec):
    """Generates text: ``(agent, config) -> Backend``."""

    consumes: str = "prompt"
    produces: str = "response"

    kind: ClassVar[str] = "backend"


@dataclass(frozen=True)
class CommandSpec(Spec):
    """A command of the command line; ``target`` is a click command, imported when it is called."""

    target: str

    kind: ClassVar[str] = "command"


@dataclass(frozen=True)
class ModelRef:
    """A model that can be loaded.

    Attributes:
        reference: what the user wrote.
        path: local folder with ``config.json``, safetensors weights and tokenizer files.
        digest: sha256 over the weights, configuration and tokenizer; part of every stage key.
        origin: where it came from, for the manifest (``bundled``, ``hub``, ``folder``, ``gguf`` ...).
    """

    reference: str
    path: str
    digest: str
    origin: str
