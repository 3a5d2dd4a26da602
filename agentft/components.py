"""Descriptors: what a plugin contributes, as data. Listing parts imports none of their code.

``target`` is ``"package.module:attribute"`` and is imported on first use; ``config`` names a pydantic model (same
form) that the part's options in a recipe are validated with, or None if it takes no options. The call shapes of the
targets are in :mod:`agentft.contracts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar


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
    """Yields records: ``(config, ctx) -> Iterator``. ``produces`` is ``example``, ``prompt``, ``preference``, ``labelled`` (with labels)
    or ``text`` (without); where the options decide, their model has a property ``produces``.

    ``practice``: prompts that rounds of feedback practise on; a recipe that `agentft init` writes names them under ``refine.prompts``
    and keeps them out of the evaluation.
    """

    consumes: str = ""
    practice: bool = False

    kind: ClassVar[str] = "source"


@dataclass(frozen=True)
class TransformSpec(CodeSpec):
    """Records to records: ``(records, config, ctx) -> Iterator``; drops are reported to ``ctx.drop``.

    ``consumes="any"`` with ``produces="any"``: every kind of record goes in and comes out. ``everywhere``: it also runs on rows that
    come divided already (``data.validation``, ``data.test``), because it is part of how a row looks and not of what is learned from.
    ``asks``: it asks a model through ``ctx.open_model``, on training rows only; which model (its option ``model``) becomes part of the
    stage's key.
    """

    everywhere: bool = False
    asks: bool = False

    kind: ClassVar[str] = "transform"


@dataclass(frozen=True)
class TrainerSpec(CodeSpec):
    """A training method: ``(job: TrainJob) -> TrainResult``.

    ``consumes`` is ``example``, ``preference``, ``labelled`` or ``text``; ``produces`` is ``model`` (a chat model), ``reward``, ``head``
    (a model that predicts labels), ``encoder`` (a body for a later stage) or ``seq2seq``.

    ``rows``: ``(job: RowsJob) -> summary``, the function that makes token rows of the records, as ``"package.module:attribute"``;
    empty: conversations and preferences are rendered as for every chat model.
    """

    produces: str = "model"
    rows: str = ""

    kind: ClassVar[str] = "trainer"


@dataclass(frozen=True)
class LossSpec(CodeSpec):
    """A loss of trainers with heads: ``(logits, targets, config, ctx: LossContext) -> losses``, one per row.

    ``consumes`` says what for: ``class`` (classes and tags), ``number``, or ``any``.
    """

    consumes: str = "any"
    produces: str = "loss"

    kind: ClassVar[str] = "loss"


@dataclass(frozen=True)
class CriticSpec(CodeSpec):
    """Feedback on responses: ``(prompts, responses, config, ctx) -> list[Feedback]``."""

    consumes: str = "response"
    produces: str = "feedback"

    kind: ClassVar[str] = "critic"


@dataclass(frozen=True)
class EvaluatorSpec(CodeSpec):
    """A metric: ``(samples, generate, config, ctx) -> list[Score]``.

    ``consumes`` is ``sample`` (answers to held-out prompts), ``reference`` (only those with a demonstrated answer), ``prediction``
    (:class:`~agentft.labelled.Prediction` of rows with labels), ``example`` (held-out demonstrations, for metrics such as
    perplexity that score instead of generate), ``text`` (held-out raw texts, scored by a language model) or ``masked-text`` (the
    same, with masks that an encoder fills in).

    ``probabilities``: it looks at the probabilities of classes; a chat model is then asked how likely each of ``meta.choices`` is
    (:attr:`~agentft.records.Sample.choices`), once for all such evaluators.
    """

    consumes: str = "sample"
    produces: str = "score"
    probabilities: bool = False

    kind: ClassVar[str] = "evaluator"


@dataclass(frozen=True)
class BackendSpec(CodeSpec):
    """Generates text: ``(agent, config) -> Backend``.

    ``agent`` is a :class:`~agentft.engine.agent.LoadedAgent`; with ``loads=False`` it is an :class:`~agentft.contracts.AgentSource`, for a
    backend that does not need the model in this process. ``reads``: what that one's model has to be: ``safetensors`` (any model that a
    recipe can name), ``gguf`` (a file, as it is) or ``name`` (nothing: a server knows the name). A backend that reads anything but
    safetensors cannot run what a recipe trains.
    """

    consumes: str = "prompt"
    produces: str = "response"
    loads: bool = True
    reads: str = "safetensors"

    kind: ClassVar[str] = "backend"


@dataclass(frozen=True)
class ToolSpec(CodeSpec):
    """A function that an agent may call: ``(arguments, ctx: ToolContext) -> str``; a persona names it as ``{use: namespace/name}``.

    Attributes:
        parameters: JSON schema of the arguments, ``type: object``; they are checked before the function is called.
        function: name that the model calls; empty: ``name`` with underscores.
        writes: it changes something; listings show it.

    An exception of the function is answered to the model as an error.
    """

    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}}, kw_only=True)
    function: str = field(default="", kw_only=True)
    writes: bool = field(default=False, kw_only=True)
    consumes: str = "arguments"
    produces: str = "answer"

    kind: ClassVar[str] = "tool"


@dataclass(frozen=True)
class EnvironmentSpec(CodeSpec):
    """Tasks with tools and users: ``(config, ctx: SuiteContext) -> Suite``, see :mod:`agentft.environments`."""

    consumes: str = "agent"
    produces: str = "episode"

    kind: ClassVar[str] = "environment"


@dataclass(frozen=True)
class ExporterSpec(CodeSpec):
    """Writes an agent in some form: ``(job: ExportJob) -> ExportResult``, named by ``agentft export --to NAME``.

    Attributes:
        kinds: what it can export: ``model`` (chat models), ``head``, ``encoder``, ``seq2seq``.
        estimate: ``(job) -> bytes`` as ``"package.module:attribute"``: how large it will be, without loading the model; raises
            :class:`~agentft.errors.UserError` for an agent that cannot be written in this form. Empty: nobody knows before.
    """

    kinds: tuple[str, ...] = field(default=("model",), kw_only=True)
    estimate: str = field(default="", kw_only=True)
    consumes: str = "agent"
    produces: str = "files"

    kind: ClassVar[str] = "exporter"


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
