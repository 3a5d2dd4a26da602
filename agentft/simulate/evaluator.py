"""``simulation``: an environment's tasks as an evaluator of recipes, so that comparison and gate see success in conversations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import Field, computed_field

from agentft.contracts import EvalContext, Generate
from agentft.environments import SuiteContext
from agentft.records import Sample, Score
from agentft.validation import Model

if TYPE_CHECKING:
    from agentft.simulate.stored import Ended


class SimulationConfig(Model):
    """Options of the evaluator ``simulation``."""

    env: str = Field(min_length=1, description="name of the environment, such as `customer-service/shop`")
    options: dict[str, Any] = Field(default={}, description="options of the environment")
    tasks: int | str | None = Field(default=20, description="how many tasks, drawn by the seed; or names with `*`; null: all")
    trials: int = Field(default=1, ge=1, description="conversations per task; more than one makes sense with a temperature")
    max_turns: int = Field(default=12, ge=1, description="messages of the user that are answered")
    max_calls: int = Field(default=20, ge=1, description="tool calls between two messages of the user")
    name: str = Field(default="simulation", pattern="^[a-z0-9-]+$", description="name of the score, where a recipe simulates twice")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def tasks_digest(self) -> str:
        """Makes other tasks another evaluation in the run store; empty where they cannot be opened, which the evaluation will say."""
        from agentft.errors import UserError
        from agentft.host import Host
        from agentft.simulate.suites import open_suite

        try:
            return open_suite(Host().catalog, self.env, self.options, SuiteContext())[1]["tasks"]
        except UserError:
            return ""


def simulation(samples: Sequence[Sample], generate: Generate, config: SimulationConfig, ctx: EvalContext) -> list[Score]:
    """Success of the agent in conversations, with scripted users; the samples are not looked at.

    Returns:
        ``simulation``: share of tasks done (final state, facts told, no policy broken), one value per task; and its parts, see
        :func:`agentft.simulate.passk.scores`. The suite's policy stands behind the persona in the system prompt.

    Raises:
        PluginError: no such environment.
        RecipeError: options that the environment does not take.
    """
    from agentft.host import Host
    from agentft.simulate.episodes import Limits, run_episodes
    from agentft.simulate.passk import scores
    from agentft.simulate.stored import Ended
    from agentft.simulate.suites import open_suite, select

    suite, _ = open_suite(Host().catalog, config.env, config.options, SuiteContext(seed=ctx.seed, language=ctx.language))
    tasks = select(suite.tasks, config.tasks, ctx.seed)
    by_id = {task.id: task for task in tasks}
    episodes = run_episodes(
        suite,
        lambda prompts: generate(prompts),
        [(task, trial) for task in tasks for trial in range(config.trials)],
        name=config.env,
        seed=ctx.seed,
        limits=Limits(turns=config.max_turns, calls=config.max_calls),
        language=ctx.language,
        policy=suite.policy,
    )
    ended = [Ended(episode, suite.judge(by_id[episode.task], episode)) for episode in episodes]
    ended.sort(key=lambda one: (list(by_id).index(one.episode.task), one.episode.trial))
    return [_named(score, config.env, ended) for score in scores(ended, name=config.name, seed=ctx.seed)]


def _named(score: Score, env: str, ended: Sequence[Ended]) -> Score:
    """Tasks are named with their environment: no prompt of the recipe has such an id. Why tasks failed stands in the details."""
    details = {} if "/" in score.name else {one.episode.task: one.outcome.detail for one in ended if one.outcome.detail}
    return replace(
        score,
        per_sample={f"{env}:{task}": value for task, value in score.per_sample.items()},
        details={f"{env}:{task}": text for task, text in details.items()},
    )
