"""Call shapes of the parts: what a source, transform, trainer, evaluator or backend is called with and returns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from agentft.components import ModelRef
from agentft.labelled import Labelled
from agentft.records import Example, Feedback, Response

if TYPE_CHECKING:
    from agentft.persona import Persona


@dataclass
class DataContext:
    """What a source or a transform may use besides its options.

    Attributes:
        persona: the recipe's persona, or None.
        base: folder of the recipe; relative paths in it are relative to this folder.
        seed: use only this for randomness.
        drops: reason -> count, filled by :meth:`drop`.
        changes: what was changed in rows that go on, with counts, filled by :meth:`change`.
        files: files that were read; their digests become part of the stage's key.
        held_out: for transforms: every row that will be evaluated on and comes from a source of its own (``data.prompts``,
            ``data.test``); called each time anew, so that it need not lie in memory.
        open_model: model or server reference (see :class:`agentft.recipe_parts.ModelUse`; None: the recipe's own model) -> a backend that
            plays the persona, or nobody with ``persona=False`` as a second argument; None where the data are only looked at.
        template: name -> Jinja source in the persona's language; None where the data are only looked at.
        progress: called as ``progress(done, total)`` by a step that takes long.
        notes: facts about the step for the report, as JSON data.
    """

    persona: Persona | None = None
    base: Path = Path(".")
    seed: int = 0
    drops: Counter[str] = field(default_factory=Counter)
    dropped: list[dict[str, str]] = field(default_factory=list)
    changes: Counter[str] = field(default_factory=Counter)
    files: list[Path] = field(default_factory=list)
    held_out: Callable[[], Iterable[Example | Labelled]] = tuple
    open_model: Callable[..., Backend] | None = None
    template: Callable[[str], str] | None = None
    progress: Callable[[int, int], None] | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def fresh(self) -> DataContext:
        """The same with an account of its own, for one source or transform."""
        return replace(self, drops=Counter(), dropped=[], changes=Counter(), notes={})

    def change(self, what: str, times: int = 1) -> None:
        """Count a change that a row underwent without being dropped, or a row that was made."""
        self.changes[what] += times

    def drop(self, reason: str, where: str = "") -> None:
        """Count a record that does not go on, by reason; ``where`` (file:line or id) is kept for the report."""
        self.drops[reason] += 1
        if len(self.dropped) < 1000:
            self.dropped.append({"reason": reason, "where": where})


@dataclass(frozen=True)
class RowsJob:
    """What a function that renders rows for a trainer is called with (``TrainerSpec.rows``); it returns a summary for the report.

    Attributes:
        train, validation: JSON-lines files of records, see :func:`agentft.labelled.record_from_dict`.
        out: folder; the function writes ``train.jsonl`` and ``validation.jsonl`` into it.
        tokenizer: of the model.
        config: the trainer's validated options.
        max_length: tokens that a row may have: the recipe's ``data.max_length``, or what the model can read if that is less.
        causal: the model reads from left to right (a chat model), and not both ways (an encoder).
        seed: of the recipe.
        family: ``causal``, ``encoder`` or ``seq2seq`` (an encoder-decoder); empty: not known.
    """

    train: Path
    validation: Path
    out: Path
    tokenizer: Any
    config: Any
    max_length: int
    causal: bool
    seed: int = 0
    family: str = ""


@dataclass(frozen=True)
class LossContext:
    """What a loss may know besides logits and targets.

    Attributes:
        task: ``classify``, ``regress``, ``tag`` or ``span``.
        labels: the classes in the order of the logits.
        counts: training rows of each class.
        multi: targets are 0 / 1 per class instead of one class number.
    """

    task: str
    labels: Sequence[str] = ()
    counts: Sequence[int] = ()
    multi: bool = False


# A loss: (logits (N, C), targets (N,) or (N, C), config, ctx) -> losses (N,), one per row, token or answer; not averaged.
Loss = Callable[[Any, Any, Any, LossContext], Any]


@dataclass(frozen=True)
class BoundLoss:
    """A loss with its options; unlike a lambda it can be sent to other processes."""

    target: Callable[..., Any]
    config: Any

    def __call__(self, logits: Any, targets: Any, ctx: Any) -> Any:
        return self.target(logits, targets, self.config, ctx)


@dataclass(frozen=True)
class TrainJob:
    """What a trainer is called with.

    Attributes:
        model: the base model.
        adapter: folder of the adapter that an earlier stage trained, or None.
        reference: folder of the adapter of the fixed reference (the model before any round); None: the model as this stage starts.
        rows: JSON-lines file -> see :mod:`agentft.render.rows`; tokenised and masked training rows (pairs: :mod:`agentft.render.pairs`).
        validation: the same for validation, or None.
        out: folder for everything; may hold checkpoints of an interrupted try, from which training continues.
        config: the trainer's validated options (its ``config`` model).
        device: the device profile as a mapping (see :mod:`agentft.engine.profile`).
        seed: for order, dropout and initialisation.
        pad_token_id: id to pad with.
        loss: the loss that the options name, ``(logits, targets, ctx) -> losses``; None: the trainer's own.
        progress: called as ``progress(step, total, {"loss": ..., "tokens_per_second": ...})``.
        note: tells the user a sentence before something long or large begins.
        examples: JSON-lines file -> :class:`~agentft.records.Example`; the training conversations as they are, for trainers that produce
            ``examples``.
    """

    model: ModelRef
    rows: Path
    out: Path
    config: Any
    seed: int
    pad_token_id: int
    adapter: Path | None = None
    reference: Path | None = None
    validation: Path | None = None
    device: Mapping[str, Any] = field(default_factory=dict)
    loss: Callable[[Any, Any, LossContext], Any] | None = None
    progress: Callable[[int, int, Mapping[str, float]], None] | None = None
    note: Callable[[str], None] | None = None
    examples: Path | None = None


@dataclass(frozen=True)
class TrainResult:
    """What a trainer leaves behind.

    Attributes:
        adapter: folder of the adapter, or None if the whole model was trained.
        model: folder of the full model, or None if only an adapter was trained.
        metrics: final numbers (``train_loss``, ``eval_loss``, ``steps``, ``tokens``, ``seconds`` ...).
        trainable: number of parameters that moved; ``total``: number of parameters.
        notes: what the report says beside the numbers, a sentence each.
        warnings: what a reader must know before trusting the result, a sentence each; they stand at the top of the report.
        examples: folder with conversations that are shown before each prompt (see :mod:`agentft.engine.shots`), or None.
    """

    adapter: Path | None
    model: Path | None
    metrics: Mapping[str, float]
    trainable: int
    total: int
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    examples: Path | None = None


@dataclass(frozen=True)
class GenerationSettings:
    """How to decode. ``temperature`` 0 is greedy. ``seed`` makes sampling repeatable."""

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    batch_size: int = 32
    seed: int = 0


@dataclass(frozen=True)
class AgentSource:
    """An agent that is not loaded: plain data, which can be sent to another process.

    Attributes:
        model: the model; its ``path`` is a folder, a ``.gguf`` file, or empty where only a server knows it.
        system: the system prompt in front of every conversation.
        adapter: folder of an adapter, or None.
        examples: folder with conversations to show before each prompt, or None.
        device: overrides of the device profile.
        tools: the persona's, for prompts without tools of their own.
    """

    model: ModelRef
    system: str = ""
    adapter: Path | None = None
    examples: Path | None = None
    device: Mapping[str, Any] = field(default_factory=dict)
    tools: Sequence[Mapping[str, Any]] = ()


class Backend(Protocol):
    """Something that answers prompts. A prompt that fails gives a Response with ``finish="error"``; the rest go on."""

    def generate(
        self,
        prompts: Sequence[Example],
        settings: GenerationSettings,
        on_batch: Callable[[Sequence[Response]], None] | None = None,
        done: Mapping[str, Response] | None = None,
    ) -> list[Response]:
        """Answers in the order of ``prompts``.

        ``on_batch`` is called with responses as they are ready, one or several at a time (for progress and for saving). ``done`` maps
        prompt ids to answers of an interrupted call: they are not computed again, unless the backend's answers depend on what else is
        in their batch, and then the batches are cut the same way as without it. The result does not depend on the interruption.
        """
        ...


def settled(done: Mapping[str, Response] | None) -> dict[str, Response]:
    """What a backend takes over of ``done``: everything but errors, which are tried again."""
    return {key: response for key, response in (done or {}).items() if response.finish != "error"}


@dataclass(frozen=True)
class CriticContext:
    """What a critic may use besides prompts, responses and options.

    Attributes:
        persona: whose checklist the responses are held against.
        language: of the persona, ``en`` or ``zh``.
        seed: for order, placement and any drawing.
        base: folder of the recipe; relative paths start here.
        template: name (``critique``, ``refine``, ``judge_pair``) -> Jinja source, in the persona's language, or what the
            persona's plugin puts in its place.
        open_model: a model or server reference (see :class:`agentft.recipe_parts.ModelUse`) -> a backend without persona.
        system: the persona's system prompt.
        human: store of the annotation page, if there is one.
        reward: folder of the recipe's own reward model, if it trains one.
        resolve_model: model reference -> local folder.
        device: overrides of the device profile.
        progress: called as ``progress(done, total)``.
    """

    persona: Persona
    language: str
    seed: int = 0
    system: str = ""
    human: Path | None = None
    reward: Path | None = None
    resolve_model: Callable[[str], ModelRef] | None = None
    base: Path = Path(".")
    template: Callable[[str], str] | None = None
    open_model: Callable[[Any], Backend] | None = None
    device: Mapping[str, Any] = field(default_factory=dict)
    progress: Callable[[int, int], None] | None = None


# A critic: (prompts, responses, config, ctx) -> one feedback per response, in their order.
Critic = Callable[[Sequence[Example], Sequence[Response], Any, CriticContext], list[Feedback]]


@dataclass(frozen=True)
class EvalContext:
    """What an evaluator may use besides samples and options.

    Attributes:
        persona: the persona that the agent plays.
        language: of the persona, ``en`` or ``zh``.
        seed: for bootstrap intervals and any drawing.
        examples: held-out demonstrations (complete conversations).
        logprobs: examples -> one ``(sum of log-probs, number of supervised tokens)`` each, natural logarithm, over
            the supervised tokens, rendered exactly as in training; None if there is no model in process.
        texts: held-out raw texts (labelled ones too; their label is not looked at).
        text_logprobs: texts -> one ``(sum of log-probs, number of tokens)`` each, natural logarithm, over all tokens of the text, read
            from left to right; None for models that do not read like this.
        masked_logprobs: the same over the masked tokens of each text, the masks being the same for all arms; None but for encoders.
    """

    persona: Persona
    language: str
    seed: int = 0
    examples: Sequence[Example] = ()
    logprobs: Callable[[Sequence[Example]], list[tuple[float, int]]] | None = None
    texts: Sequence[Labelled] = ()
    text_logprobs: Callable[[Sequence[Labelled]], list[tuple[float, int]]] | None = None
    masked_logprobs: Callable[[Sequence[Labelled]], list[tuple[float, int]]] | None = None


# An evaluator's second argument: answers to prompts of the evaluator's own (for example break-character questions).
Generate = Callable[[Iterable[Example]], list[Response]]


@dataclass(frozen=True)
class Tolerance:
    """How far what was written may be from the agent. A limit that does not apply to the kind of model is not looked at.

    Attributes:
        kl: mean KL divergence of the next-token distributions (of the class probabilities) from the agent's, in nats per position.
        agreement: share of positions at which the likeliest token (class) must be the agent's.
        difference: largest difference of numbers and vectors, as a share of the largest number of the agent.
    """

    kl: float = 1e-3
    agreement: float = 0.99
    difference: float = 1e-3


@dataclass(frozen=True)
class Probe:
    """A held-out question with the agent's own answer: what the agent and the export are compared on.

    Attributes:
        id: of the prompt or row.
        ids: token ids. Chat models: prompt and answer; encoders: the row; encoder-decoders: the source.
        start: chat models: where the answer begins in ``ids``. The outputs compared are those that predict ``ids[start:]``.
        types: token types of an encoder's row, else empty.
        target: encoder-decoders: token ids of the answer.
        example: chat models: the conversation as a caller sends it, without the persona; None where it cannot be sent as plain messages.
        text: chat models: the prompt as the agent renders it.
    """

    id: str
    ids: Sequence[int]
    start: int = 0
    types: Sequence[int] = ()
    target: Sequence[int] = ()
    example: Example | None = None
    text: str = ""


class Reading(Protocol):
    """An export, read back from its files by a program that runs it."""

    @property
    def name(self) -> str:
        """The program, for the table: ``transformers``, ``llama.cpp`` ..."""
        ...

    def outputs(self, probe: Probe) -> Any:
        """What the export says to a probe, row by row in the same order as the agent.

        Chat models and encoder-decoders: natural log-probabilities, a float array of shape (positions, vocabulary), or, from a program
        that tells the likeliest ones only, one ``{token id: log-probability}`` per position. Heads: their raw outputs, an array of
        shape (positions, outputs). Encoders: an array of shape (positions, size).
        """
        ...

    def prompt(self, probe: Probe) -> list[int] | None:
        """Token ids that the program makes of ``probe.example`` by itself, with the chat template that was written and without being told
        of a persona; None for programs and models without conversations."""
        ...

    def close(self) -> None:
        """Let go of the model."""
        ...


@dataclass(frozen=True)
class ExportJob:
    """What an exporter (:class:`~agentft.components.ExporterSpec`) is called with.

    Attributes:
        name: of the agent.
        kind: ``model`` (a chat model), ``head``, ``encoder`` or ``seq2seq``.
        out: an empty folder; everything that belongs to the export is written into it.
        config: the exporter's validated options (its ``config`` model), or None.
        model: the base model, or the model that was trained as a whole.
        adapter: folder of the adapter on top of ``model``, or None.
        trained: heads: folder with ``task.json`` and the weights or adapter of the head; None for other kinds.
        system: the persona's system prompt.
        persona: whom the agent plays, or None.
        examples: folder with conversations shown before every prompt (see :mod:`agentft.engine.shots`), or None.
        options: encoder-decoders: how it is asked (``prefix``, ``max_target``, ``num_beams``, ``max_length``).
        settings: how the agent generates.
        facts: what the model card says: plain data with the run, its data, metrics, versions and lineage, as far as they are known.
        device: overrides of the device profile.
        progress: called as ``progress(done, total)``.
        note: tells the user a sentence before something long begins.
    """

    name: str
    kind: str
    out: Path
    model: ModelRef
    config: Any = None
    adapter: Path | None = None
    trained: Path | None = None
    system: str = ""
    persona: Persona | None = None
    examples: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: GenerationSettings = field(default_factory=GenerationSettings)
    facts: Mapping[str, Any] = field(default_factory=dict)
    device: Mapping[str, Any] = field(default_factory=dict)
    progress: Callable[[int, int], None] | None = None
    note: Callable[[str], None] | None = None


@dataclass(frozen=True)
class ExportResult:
    """What an exporter returns.

    Attributes:
        readings: functions that open what lies in the folder they are given (the export's, which is renamed once it is complete), one for
            each program that it is meant for. All are compared with the agent, one after the other, and all must be within ``tolerance``.
            At least one.
        tolerance: how far the form may be from the agent, unless the user says otherwise.
        notes: what a user of the export should know, a sentence each; they stand in its model card.
        warnings: what was not checked or may surprise, a sentence each; shown at once.
    """

    readings: Sequence[Callable[[Path], Reading]]
    tolerance: Tolerance = field(default_factory=Tolerance)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
