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
    from agentft.components import ModelRef
    from agentft.engine.agent import LoadedAgent
    from agentft.engine.seq2seq import Seq2SeqAgent
    from agentft.host import Host
    from agentft.persona import Persona
    from agentft.recipe import Recipe
    from agentft.runs import StageResult


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
    from agentft.arms import adapter, examples, trained_model
    from agentft.engine.agent import LoadedAgent
    from agentft.engine.profile import detect
    from agentft.host import Host
    from agentft.persona import Persona

    store = Store(runs)
    manifest = store.manifest(str(reference))
    stages = {stage["name"]: stage for stage in manifest["stages"]}
    trained = None if base else _trained(store, manifest, stages, version)
    host = Host()
    model = host.resolve_model(manifest["model"]["reference"])
    if model.digest != manifest["model"]["digest"]:
        raise UserError(f"the model '{model.reference}' is not the one that run {manifest['id']} was made with; run the recipe again")
    profile = detect(device or manifest["recipe"].get("device"))
    last = _last_training(stages)
    kind = stages[last]["summary"].get("produces", "model") if last else "model"
    if last and kind == "seq2seq":
        use = manifest["recipe"]["train"][int(last[6:])]
        return Agent(manifest["name"], _encoder_decoder(host, manifest, use, model, trained))
    if kind in ("head", "encoder"):
        raise UserError(f"run {manifest['id']} trained a model that {_SILENT[kind]} and does not talk; its report shows what it does")
    weights, shown = trained_model(model, trained), examples(trained)
    persona = Persona.from_dict(manifest["persona"])
    loaded = LoadedAgent.load(weights, adapter(trained), manifest["system_prompt"], profile, examples=shown, tools=persona.schemas)
    expected = stages["rows"]["summary"]["template"] if "rows" in stages else loaded.renderer.digest
    if loaded.renderer.digest != expected:
        raise UserError(f"run {manifest['id']} was trained with another chat template; run the recipe again")
    return Agent(manifest["name"], loaded, persona)


_SILENT = {"head": "predicts labels", "encoder": "fills in masked words"}


def _last_training(stages: Mapping[str, Any]) -> str | None:
    """Name of the last training stage, reward models aside."""
    named = [name for name in stages if name.startswith("train-") and stages[name]["summary"].get("produces") != "reward"]
    return max(named, key=lambda name: int(name[6:]), default=None)


def _encoder_decoder(host: Host, manifest: Mapping[str, Any], use: Any, model: ModelRef, trained: StageResult | None) -> Seq2SeqAgent:
    """The encoder-decoder of a run, asked as its evaluation asks it; ``use``: the trainer in the recipe."""
    from agentft.arms import adapter, trained_model
    from agentft.engine.profile import detect
    from agentft.engine.seq2seq import Seq2SeqAgent
    from agentft.recipe import PartUse

    part, recipe = PartUse.model_validate(use), manifest["recipe"]
    kind = host.catalog.config_model(host.catalog.get("trainer", part.use))
    options = kind.model_validate(dict(part.options)) if kind else None
    profile = detect(recipe.get("device"))
    return Seq2SeqAgent.load(trained_model(model, trained), adapter(trained), profile, options, recipe["data"]["max_length"])


def _trained(store: Store, manifest: Mapping[str, Any], stages: Mapping[str, Any], version: str | None) -> StageResult | None:
    """The stage with the weights of the champion, or of ``version``; None if the recipe trains nothing."""
    from agentft.lineage import Lineage
    from agentft.runs import StageResult

    lineage = Lineage(store.root / manifest["id"])
    if lineage.data["versions"]:
        versions = lineage.versions
        if version is not None and version not in versions:
            raise UserError(f"run {manifest['id']} has no version '{version}' (versions: {', '.join(versions)})")
        chosen = versions[version] if version else lineage.current
        if not chosen.folder:
            return None
        name, key, folder, content, summary = chosen.name, chosen.key, chosen.folder, chosen.content, chosen.summary
    else:
        last = _last_training(stages)
        if last is None:
            if manifest["recipe"].get("train"):
                raise UserError(f"run {manifest['id']} has not trained yet (status: {manifest['status']}); continue it with `agentft run`")
            return None
        found = stages[last]
        name, key, folder, content, summary = last, found["key"], found["folder"], found["content"], found["summary"]
    path = store.stages / folder
    if not path.is_dir():
        raise UserError(f"run {manifest['id']}: the folder of {name} is gone ({path}); run the recipe again")
    return StageResult(name, key, path, content, True, 0.0, "", summary)
