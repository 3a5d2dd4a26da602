"""The Python API: :func:`run` a recipe, :func:`load_agent` what came out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentft.errors import UserError
from agentft.progress import Progress
from agentft.runs import Run, Store

if TYPE_CHECKING:
    from agentft.engine.agent import LoadedAgent
    from agentft.engine.seq2seq import Seq2SeqAgent
    from agentft.host import Host
    from agentft.opened import OpenedRun
    from agentft.persona import Persona
    from agentft.recipe import Recipe


def run(
    recipe: Recipe | Path | str,
    *,
    overrides: Sequence[str] = (),
    runs: Path | str | None = None,
    host: Host | None = None,
    progress: Progress | None = None,
    until: str = "report",
) -> Run:
    """Do everything that a recipe says, and return the run.

    Args:
        recipe: a recipe, or the path of one.
        overrides: as on the command line, for example ``["train.0.epochs=1"]``; only with a path.
        runs: folder for runs; default ``AGENTFT_RUNS`` or ``./runs``.
        host: where parts come from; a fresh one if None.
        progress: who is told how far it is; None = nobody.
        until: last stage: ``data``, ``rows``, ``train``, ``answers``, ``comparison``, ``rounds`` or ``report``.

    Raises:
        RecipeError: with every problem of the recipe, before anything runs.
        UserError: data, plugin or training problems.
    """
    from agentft.pipeline import Pipeline
    from agentft.session import Session, open_recipe

    session = open_recipe(recipe, overrides, host) if isinstance(recipe, (str, Path)) else Session(recipe, host)
    return Pipeline(session, Store(runs), progress).execute(until)


@dataclass(frozen=True)
class Agent:
    """A tuned model with its persona, ready to talk. ``persona`` is None for an encoder-decoder."""

    name: str
    loaded: LoadedAgent | Seq2SeqAgent
    persona: Persona | None = None

    def chat(self, messages: Sequence[Mapping[str, Any]], **settings: Any) -> str:
        """The answer to a conversation.

        Args:
            messages: ``{"role": ..., "content": ...}`` each, the last one from the user; the persona is put in front.
            settings: fields of :class:`~agentft.contracts.GenerationSettings`.
        """
        from agentft.contracts import GenerationSettings

        return self.loaded.chat(messages, GenerationSettings(**settings))

    def generate(self, prompts: Sequence[str], **settings: Any) -> list[str | None]:
        """Answers to independent questions, in order; None where one failed."""
        from agentft.contracts import GenerationSettings

        responses = self.loaded.generate(prompts, GenerationSettings(**settings))
        return [None if response.finish == "error" else response.text for response in responses]


def load_agent(
    reference: Path | str,
    *,
    base: bool = False,
    version: str | None = None,
    runs: Path | str | None = None,
    device: Mapping[str, Any] | None = None,
) -> Agent:
    """The agent of a run.

    Args:
        reference: run id, run folder, or recipe name (its latest run).
        base: the untrained model with the same persona instead.
        version: ``start`` or ``round-N``; default: the champion, that is the last promoted version.
        device: overrides of the device profile.

    Raises:
        UserError: no such run, nothing trained yet, or the chat template is not the one that was trained with.
    """
    from agentft.engine.agent import LoadedAgent
    from agentft.engine.profile import detect
    from agentft.host import Host
    from agentft.opened import open_run
    from agentft.persona import Persona

    host = Host()
    run = open_run(reference, host, runs, base=base, version=version)
    manifest = run.manifest
    if run.produces == "seq2seq":
        return Agent(manifest["name"], _encoder_decoder(host, run))
    if run.produces in _SILENT:
        raise UserError(
            f"run {manifest['id']} trained a model that {_SILENT[run.produces]} and does not talk; its report shows what it does"
        )
    profile = detect(device or manifest["recipe"].get("device"))
    persona = Persona.from_dict(manifest["persona"])
    loaded = LoadedAgent.load(run.weights, run.adapter, manifest["system_prompt"], profile, examples=run.examples, tools=persona.schemas)
    if run.template and loaded.renderer.digest != run.template:
        raise UserError(f"run {manifest['id']} was trained with another chat template; run the recipe again")
    return Agent(manifest["name"], loaded, persona)


_SILENT = {"head": "predicts labels", "encoder": "fills in masked words"}


def _encoder_decoder(host: Host, run: OpenedRun) -> Seq2SeqAgent:
    """The encoder-decoder of a run, asked as its evaluation asks it."""
    from agentft.engine.profile import detect
    from agentft.engine.seq2seq import Seq2SeqAgent

    recipe = run.manifest["recipe"]
    profile = detect(recipe.get("device"))
    return Seq2SeqAgent.load(run.weights, run.adapter, profile, run.options(host), recipe["data"]["max_length"])
