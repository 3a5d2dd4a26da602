"""From the name of an environment to its tasks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from agentft.environments import SimTask, Suite, SuiteContext, User
from agentft.errors import MissingDependency, PluginError, Problem, RecipeError, UserError, did_you_mean

if TYPE_CHECKING:
    from agentft.catalog import Catalog
    from agentft.contracts import Backend


def open_suite(catalog: Catalog, name: str, options: Mapping[str, Any], ctx: SuiteContext) -> tuple[Suite, dict[str, Any]]:
    """The suite of an environment, and what identifies it, as JSON data: name, version, options and a digest of its tasks.

    Raises:
        PluginError: no such environment, or one with two tasks of one id.
        RecipeError: options that it does not take.
        MissingDependency: it needs a distribution that is not installed.
    """
    from pydantic import ValidationError

    from agentft.check import missing
    from agentft.validation import problems_of

    entry = catalog.get("environment", name)
    for text, reason in missing(entry):
        raise MissingDependency(f"environment '{name}': {reason}: pip install '{text}'")
    model, config = catalog.config_model(entry), None
    if model is not None:
        try:
            config = model.model_validate(dict(options))
        except ValidationError as error:
            raise RecipeError(problems_of(error, model, lambda path, message, hint, key: _problem(name, path, message, hint))) from None
    elif options:
        raise RecipeError(f"environment '{name}' takes no options, but got '{next(iter(options))}'")
    suite: Suite = catalog.target(entry)(config, ctx)
    ids = [task.id for task in suite.tasks]
    if twice := next((one for one in ids if ids.count(one) > 1), None):
        raise PluginError(f"environment '{name}' has two tasks '{twice}'")
    if not ids:
        raise UserError(f"environment '{name}' has no tasks with these options")
    identity = {
        "name": name,
        "version": f"{entry.distribution} {entry.version}",
        "options": config.model_dump(mode="json") if config is not None else {},
        "language": ctx.language,
        "tasks": tasks_digest(suite.tasks),
        "policy": hashlib.sha256(suite.policy.encode()).hexdigest()[:16],
    }
    return suite, identity


def _problem(name: str, path: Sequence[str | int], message: str, hint: str) -> Problem:
    return Problem(message, ".".join(["option", *map(str, path)]) if path else f"options of {name}", hint=hint)


def tasks_digest(tasks: Sequence[SimTask]) -> str:
    """A digest of what the tasks say."""
    rows = [[task.id, dict(task.slices), list(task.actions), list(task.facts), task.data] for task in tasks]
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False, sort_keys=True, default=str).encode()).hexdigest()[:16]


def select(tasks: Sequence[SimTask], which: int | str | None, seed: int = 0) -> list[SimTask]:
    """Some of the tasks, in their order.

    Args:
        which: None: all; a number: so many, drawn by ``seed`` (of two numbers the smaller one draws some of the larger one's); else
            names with ``*``, several with commas.

    Raises:
        UserError: there is no such task.
    """
    if which is None:
        return list(tasks)
    if isinstance(which, int) or which.strip().isdigit():
        count = int(which)
        if count < 1:
            raise UserError("tasks: at least one task is needed")
        drawn = sorted(tasks, key=lambda task: hashlib.sha256(f"{seed}\0{task.id}".encode()).digest())[:count]
        names = {task.id for task in drawn}
        return [task for task in tasks if task.id in names]
    found: set[str] = set()
    for pattern in filter(None, (part.strip() for part in which.split(","))):
        matching = {task.id for task in tasks if fnmatchcase(task.id, pattern)}
        if not matching:
            raise UserError(f"tasks: no task '{pattern}' ({did_you_mean(pattern, [task.id for task in tasks]) or f'{len(tasks)} tasks'})")
        found |= matching
    if not found:
        raise UserError("tasks: name some, as in 'refund-*,order-3'")
    return [task for task in tasks if task.id in found]


def goal_of(task: SimTask) -> str:
    """What the user of a task wants, in words: ``scenario`` or ``goal`` of the task's data, or ``goal`` of the script in it; empty
    where nobody says."""
    script = task.data.get("script")
    goal = script.get("goal") if isinstance(script, Mapping) else ""
    return str(task.data.get("scenario") or task.data.get("goal") or goal or "")


def played_by(suite: Suite, backend: Backend, language: str, temperature: float = 0.0, seed: int = 0) -> Callable[[SimTask, int], User]:
    """Users played by a model, from the goals of the tasks.

    Raises:
        UserError: a task does not say in words what its user wants.
    """
    from agentft.contracts import GenerationSettings
    from agentft.simulate.users import ModelUser

    if mute := next((task.id for task in suite.tasks if not goal_of(task)), None):
        raise UserError(f"task '{mute}' does not say in words what its user wants, so no model can play the user; leave out --user")
    settings = GenerationSettings(max_new_tokens=200, temperature=temperature, seed=seed)
    return lambda task, trial: ModelUser(backend, goal_of(task), trial, language=language, settings=settings)
