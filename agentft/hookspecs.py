"""Every hook of agentft. This file is the reference manual; ``docs/hooks.md`` is generated from it.

A plugin is a module named by an entry point of the group ``agentft``; the entry point's name is the plugin's
namespace. It implements any of these functions, marked with ``@agentft.hookimpl``. Arguments are only ever added, and
an implementation may leave out those that it does not need. Arguments are read-only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

from agentft.components import (
    BackendSpec,
    CommandSpec,
    CriticSpec,
    EnvironmentSpec,
    EvaluatorSpec,
    ExporterSpec,
    LossSpec,
    ModelRef,
    PersonaSpec,
    SourceSpec,
    TemplateSpec,
    ToolSpec,
    TrainerSpec,
    TransformSpec,
)
from agentft.errors import Problem
from agentft.events import Event

if TYPE_CHECKING:
    from agentft.catalog import Catalog
    from agentft.recipe import Recipe

PROJECT = "agentft"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def agentft_personas() -> Iterable[PersonaSpec]:
    """Contribute personas.

    Called once, when the catalog is built; the YAML files are read when a recipe or a command names them.

    Returns: descriptors; a persona ``support`` of the plugin ``customer-service`` is used as
    ``customer-service/support``. See :func:`agentft.components.PersonaSpec` for the path forms.
    """
    return ()


@hookspec
def agentft_templates() -> Iterable[TemplateSpec]:
    """Contribute Jinja2 templates (system prompts).

    Called once, when the catalog is built. A persona chooses one with ``template: namespace/name``. A template gets
    ``persona``, ``role``, ``voice``, ``policies``, ``examples``, ``tools`` and the persona's variables, and runs in a sandbox.
    """
    return ()


@hookspec
def agentft_sources() -> Iterable[SourceSpec]:
    """Contribute data sources, named in a recipe under ``data.sources`` and ``data.prompts``.

    The target is called as ``(config, ctx: DataContext) -> Iterator[Example]``, in the ``data`` stage. It reports
    rows it leaves out with ``ctx.drop(reason, where)`` and files it reads in ``ctx.files``. Not called by ``check``.
    """
    return ()


@hookspec
def agentft_transforms() -> Iterable[TransformSpec]:
    """Contribute transforms, named in a recipe under ``data.transforms`` and run in that order.

    The target is called as ``(records, config, ctx: DataContext) -> Iterator[Example]``; deterministic given ``ctx.seed``;
    every record that does not come out again is reported with ``ctx.drop``.
    """
    return ()


@hookspec
def agentft_trainers() -> Iterable[TrainerSpec]:
    """Contribute training methods, named in a recipe under ``train``.

    The target is called as ``(job: TrainJob) -> TrainResult`` with rows that are already rendered, tokenised and
    masked. It continues from checkpoints that it finds in ``job.out``.
    """
    return ()


@hookspec
def agentft_losses() -> Iterable[LossSpec]:
    """Contribute losses, named in a recipe under ``loss`` of a trainer with a head (`classify`, `regress`, `tag`, `span`).

    The target is called as ``(logits, targets, config, ctx: LossContext) -> losses``: ``logits`` of shape (N, C), ``targets`` of shape (N,)
    (class numbers, or numbers with C = 1) or (N, C) (several classes a row), one loss per row and no mean over them: class
    weights and the mean over all micro-batches of a step are the trainer's business.
    """
    return ()


@hookspec
def agentft_critics() -> Iterable[CriticSpec]:
    """Contribute critics, named in a recipe under ``refine.critics``.

    The target is called as ``(prompts, responses, config, ctx: CriticContext) -> list[Feedback]``, one feedback per response and
    in their order, with a verdict for every checklist item that it decides. Several critics are combined item by item: an
    item that any of them fails is failed. A judgement that could not be had is a Feedback with ``error``, never a guess.
    """
    return ()


@hookspec
def agentft_evaluators() -> Iterable[EvaluatorSpec]:
    """Contribute metrics, named in a recipe under ``evaluate``.

    The target is called as ``(samples, generate, config, ctx: EvalContext) -> list[Score]``, once for the base model and once
    for the tuned one, on the same prompts. ``Score.per_sample`` is what the paired comparison is computed from.
    ``samples`` are predictions of rows with labels where the descriptor says ``consumes="prediction"`` and the model has a head; a chat
    model's samples are turned into predictions by :func:`agentft.evaluate.predictions.of_kind`.
    """
    return ()


@hookspec
def agentft_backends() -> Iterable[BackendSpec]:
    """Contribute generation backends, named in a recipe under ``generation.backend``.

    The target is called as ``(agent, config) -> Backend``. A failure of one prompt is returned, not raised.
    """
    return ()


@hookspec
def agentft_tools() -> Iterable[ToolSpec]:
    """Contribute functions that an agent may call, named by a persona under ``tools`` as ``{use: namespace/name}``.

    The target is called as ``(arguments, ctx: ToolContext) -> str`` with arguments that fit the descriptor's schema. What it raises is
    answered to the model as an error and counted.
    """
    return ()


@hookspec
def agentft_environments() -> Iterable[EnvironmentSpec]:
    """Contribute tasks with tools and users, named by ``agentft simulate``.

    The target is called as ``(config, ctx: SuiteContext) -> Suite``: tasks, a fresh environment and user for each, and whether an
    episode succeeded (see :mod:`agentft.environments`).
    """
    return ()


@hookspec
def agentft_exporters() -> Iterable[ExporterSpec]:
    """Contribute forms to export an agent in, named by ``agentft export --to``.

    The target is called as ``(job: ExportJob) -> ExportResult`` and leaves its files in ``job.out``; what it wrote is read back and
    compared with the agent before it is called good.
    """
    return ()


@hookspec
def agentft_commands() -> Iterable[CommandSpec]:
    """Contribute commands: ``agentft NAME``. The target is a click command and is imported when it is called.

    A command may not take the name of a built-in one unless the plugin replaces it on purpose (``agentft plugins``
    shows replaced parts).
    """
    return ()


@hookspec
def agentft_check_recipe(recipe: Recipe, catalog: Catalog) -> Iterable[Problem]:
    """Look at a recipe before anything runs and report what is wrong with it.

    Called by ``agentft check`` and at the start of ``agentft run``, after the built-in checks, for every plugin that
    contributes a part to the recipe. Must not import heavy libraries.

    Args:
        recipe: the typed recipe.
        catalog: all parts that are installed.

    Returns: problems; all of all plugins are shown together.
    """
    return ()


@hookspec(firstresult=True)
def agentft_resolve_model(reference: str) -> ModelRef | None:
    """Turn what a recipe says under ``model`` into a local folder.

    Args:
        reference: the text of the recipe, for example ``smollm2-135m`` or a hub id.

    Returns: a reference, or None to let the next plugin try. Built-in resolution (bundled models, folders, GGUF files,
    hub ids) is asked last.
    """
    return None


@hookspec
def agentft_observe(event: Event) -> Any:
    """See what happens in a run: telemetry, notifications, trackers.

    Called synchronously for every event of :mod:`agentft.events`. An exception is logged and does not stop the run.

    Args:
        event: a frozen record.
    """
