"""Simulating an agent: from names to stored episodes, figures and a page. What ``agentft simulate`` and :func:`simulate_agent` do."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentft.contracts import Backend, GenerationSettings
from agentft.environments import SimTask, Suite, SuiteContext, Talker
from agentft.errors import PluginError, UserError
from agentft.progress import Progress
from agentft.records import Response, Score

if TYPE_CHECKING:
    from agentft.host import Host
    from agentft.simulate.episodes import Limits
    from agentft.simulate.stored import Ended


@dataclass(frozen=True)
class Simulation:
    """What became of it.

    Attributes:
        folder: with ``episodes.jsonl``, ``results.json`` and ``index.html``.
        results: what ``results.json`` holds, see :func:`agentft.simulate.summary.summarise`.
        episodes: in the order of tasks and trials.
    """

    folder: Path
    results: Mapping[str, Any]
    episodes: Sequence[Ended]

    @property
    def scores(self) -> list[Score]:
        """One value per task, for :func:`agentft.evaluate.compare.compare`."""
        return [Score.from_dict(row) for row in self.results["scores"]]


def load_simulation(folder: Path | str) -> Simulation:
    """A simulation that is complete.

    Raises:
        UserError: there is none in the folder.
    """
    from agentft.simulate.stored import read_episodes

    path = Path(folder) / "results.json"
    try:
        results = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{folder} holds no complete simulation (no {path.name}); run `agentft simulate` to its end") from None
    wanted = [(row["task"], row["trial"]) for row in results["plan"]]
    found = {one.key: one for one in read_episodes(Path(folder))}
    return Simulation(Path(folder), results, [found[key] for key in wanted])


def simulate_agent(
    agent: str | Talker,
    env: str | Suite,
    *,
    options: Mapping[str, Any] | None = None,
    tasks: int | str | None = None,
    trials: int = 1,
    user: str = "scripted",
    persona: str | None = None,
    base: bool = False,
    version: str | None = None,
    model: str | None = None,
    key_env: str | None = None,
    runs: Path | str | None = None,
    out: Path | str | None = None,
    seed: int = 0,
    settings: GenerationSettings | None = None,
    limits: Limits | None = None,
    language: str | None = None,
    concurrency: int = 64,
    host: Host | None = None,
    progress: Progress | None = None,
) -> Simulation:
    """Let an agent hold conversations about the tasks of an environment.

    Args:
        agent: what :func:`agentft.agents.open_agent` opens; ``reference`` (performs the reference actions and tells the facts) or
            ``silent`` (does nothing), which check the environment; or a function from prompts to responses.
        env: name of an environment, or a suite.
        options: of the environment.
        tasks: see :func:`agentft.simulate.suites.select`; default: all.
        trials: conversations per task.
        user: ``scripted``, or a model or server that plays the users from their goals.
        persona, base, version, model, key_env, runs: as for :func:`agentft.agents.open_agent`.
        out: folder; a simulation with the same options goes on in it. Default: ``simulations/ENV-AGENT``.
        seed: of everything that is drawn.
        settings: how the agent decodes; default: greedy, up to 256 tokens an answer. Its seed is not looked at.
        limits: of an episode.
        language: of what is not written in the tasks; default: the persona's, else ``en``.
        concurrency: conversations at a time.

    Raises:
        UserError: no such agent, environment or task; or no answer of the agent could be had at all (with the first reason).
    """
    from agentft.simulate.episodes import Limits, run_episodes
    from agentft.simulate.stored import Ended, EpisodeStore
    from agentft.simulate.suites import select
    from agentft.simulate.summary import summarise
    from agentft.simulate.talkers import Backed

    began, progress, limits = time.monotonic(), progress or Progress(), limits or Limits()
    settings = settings or GenerationSettings(max_new_tokens=256)
    settings = GenerationSettings(settings.max_new_tokens, settings.temperature, settings.top_p, settings.batch_size, seed)
    opened = _Opener(runs, host, key_env)
    language = language or opened.language(agent, persona)
    suite, environment = opened.suite(env, options or {}, SuiteContext(Path("."), seed, language, opened.model))
    chosen = select(suite.tasks, tasks, seed)
    plan = [(task, trial) for task in chosen for trial in range(trials)]
    reported = {"base": base, "version": version, "persona": persona, "model": model}
    talker, who, system = opened.talker(agent, suite, language, settings, reported)
    player = None if user == "scripted" else opened.user(suite, user, language, settings, seed)
    name = environment["name"]
    identity = {
        "agent": who,
        "environment": environment,
        "user": user,
        "seed": seed,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "max_new_tokens": settings.max_new_tokens,
        "limits": vars(limits),
    }
    folder = Path(out) if out is not None else Path("simulations") / _slug(f"{name}-{who['name']}")
    with _alone(folder):
        store = EpisodeStore(folder, identity)
        try:
            open_ = [(task, trial) for task, trial in plan if (task.id, trial) not in store.done]
            progress.stage("simulate", _why(store.anew, len(plan), len(open_)))
            by_id, done, answers = {task.id: task for task in chosen}, len(plan) - len(open_), 0

            def heard(responses: Sequence[Response] = ()) -> None:
                nonlocal answers
                answers += len(responses)
                progress.step(done, len(plan), {"success": _share(store.done.values()), "answers": answers})

            if isinstance(talker, Backed):  # conversations end late and together; answers show that something happens
                talker.on_answers = heard
            for episode in run_episodes(
                suite,
                talker,
                open_,
                name=name,
                seed=seed,
                limits=limits,
                language=language,
                policy="" if suite.policy and suite.policy in system else suite.policy,
                concurrency=concurrency,
                user=player,
            ):
                store.add(Ended(episode, _judged(suite, by_id[episode.task], episode)))
                done += 1
                heard()
            ended = store.finish((task.id, trial) for task, trial in plan)
        finally:
            store.close()
        progress.finished("simulate", time.monotonic() - began)
        _refuse_if_mute(ended)
        results = {
            "agent": who["name"],
            "environment": name,
            "trials": trials,
            "options": identity,
            "seconds": round(time.monotonic() - began, 3),
            "plan": [{"task": task.id, "trial": trial} for task, trial in plan],
            **summarise(chosen, ended, seed),
        }
        _write(folder, results, ended, chosen, system or suite.policy)
    return Simulation(folder, results, ended)


class _Opener:
    """Opens what a simulation names; models once each."""

    def __init__(self, runs: Path | str | None, host: Host | None, key_env: str | None):
        from agentft.host import Host

        self.runs, self.host, self.key_env = runs, host or Host(), key_env
        self._models: dict[str, Backend] = {}

    def language(self, agent: str | Talker, persona: str | None) -> str:
        """Of the persona that is named, or that the agent's run has; else English."""
        from agentft.persona import find_persona
        from agentft.recipe import PersonaUse
        from agentft.runs import Store

        use: Any = persona
        try:
            if use is None and isinstance(agent, str):
                use = Store(self.runs).manifest(agent)["recipe"].get("persona")
            return find_persona(self.host.catalog, PersonaUse.model_validate(use), Path(".")).language if use is not None else "en"
        except (UserError, ValueError):  # no run, or a persona that is not here; whoever needs it will say so
            return "en"

    def suite(self, env: str | Suite, options: Mapping[str, Any], ctx: SuiteContext) -> tuple[Suite, dict[str, Any]]:
        from agentft.simulate.suites import open_suite, tasks_digest

        if isinstance(env, str):
            return open_suite(self.host.catalog, env, options, ctx)
        return env, {"name": type(env).__name__.lower(), "tasks": tasks_digest(env.tasks), "language": ctx.language}

    def model(self, use: Any) -> Backend:
        """The backend behind a reference: a name or address, or a :class:`~agentft.recipe_parts.ModelUse`."""
        from agentft.agents import open_agent
        from agentft.feedback.prompts import open_model
        from agentft.recipe_parts import ModelUse

        key = str(use)
        if key not in self._models:
            if isinstance(use, str):
                served = use.startswith(("http://", "https://"))
                self._models[key] = open_agent(use, key_env=self.key_env if served else None, runs=self.runs, concurrency=8).backend
            else:
                parsed = ModelUse.model_validate(use) if not isinstance(use, ModelUse) else use
                self._models[key] = open_model(parsed, resolve=self.host.resolve_model, device={}, catalog=self.host.catalog)
        return self._models[key]

    def user(self, suite: Suite, use: str, language: str, settings: GenerationSettings, seed: int) -> Any:
        from agentft.simulate.suites import played_by

        return played_by(suite, self.model(use), language, settings.temperature, seed)

    def talker(
        self, agent: str | Talker, suite: Suite, language: str, settings: GenerationSettings, options: Mapping[str, Any]
    ) -> tuple[Talker, dict[str, Any], str]:
        """The agent, what identifies it, and its system prompt with the suite's policy in it."""
        from agentft.simulate.talkers import Backed, Reference, Silent

        if not isinstance(agent, str):
            name = getattr(agent, "__name__", type(agent).__name__.lower())
            return agent, {"name": name, "kind": "function"}, ""
        if agent in ("reference", "silent"):
            built = Reference(suite.tasks, language) if agent == "reference" else Silent(language)
            return built, {"name": agent, "kind": "built-in"}, ""
        from agentft.agents import open_agent

        key_env = self.key_env if agent.startswith(("http://", "https://")) else None
        found = open_agent(agent, policy=suite.policy, key_env=key_env, runs=self.runs, concurrency=16, **options)
        who = {"name": found.name, "kind": found.kind, **{key: value for key, value in options.items() if value}}
        who |= {"is": self._identity(agent, found.kind), "system": hashlib.sha256(found.system.encode()).hexdigest()[:16]}
        return Backed(found.backend, settings, by_trial=found.kind == "server"), who, found.system

    def _identity(self, agent: str, kind: str) -> Any:
        """What the answers depend on: weights of a model, training stages and champion of a run, address of a server."""
        if kind == "server":
            return agent
        if kind != "run":
            return self.host.resolve_model(agent).digest
        from agentft.lineage import Lineage
        from agentft.runs import Store

        store = Store(self.runs)
        manifest = store.manifest(agent)
        trained = {stage["name"]: stage["key"] for stage in manifest["stages"] if stage["name"].startswith("train-")}
        return {"run": manifest["id"], "trained": trained, "champion": Lineage(store.root / manifest["id"]).data["current"]}


def _judged(suite: Suite, task: SimTask, episode: Any) -> Any:
    from agentft.environments import Outcome

    if episode.fault:
        return Outcome({}, episode.fault)
    try:
        return suite.judge(task, episode)
    except UserError:
        raise
    except Exception as error:
        raise PluginError(f"task '{task.id}': its episode cannot be judged: {type(error).__name__}: {error}") from error


def _why(anew: str, planned: int, open_: int) -> str:
    if anew:
        return f"{planned} episodes, anew because of {anew}"
    return f"{planned} episodes" if open_ == planned else f"{planned} episodes, {planned - open_} of them are there"


def _share(ended: Any) -> float:
    results = [one.result == "success" for one in ended if not one.episode.fault]
    return sum(results) / len(results) if results else 0.0


def _refuse_if_mute(ended: Sequence[Ended]) -> None:
    """An agent that could not be reached has not failed any task."""
    sound = [one for one in ended if not one.episode.fault]
    if sound and all(one.episode.end == "agent-error" for one in sound):
        raise UserError(f"the agent answered nothing in {len(sound)} episodes: {sound[0].episode.error}")


def _write(folder: Path, results: Mapping[str, Any], ended: Sequence[Ended], tasks: Sequence[SimTask], system: str) -> None:
    from agentft.report.episodes import render_episodes
    from agentft.simulate.suites import goal_of

    about = {task.id: {"goal": goal_of(task), "slices": dict(task.slices)} for task in tasks}
    page = render_episodes(results, [one.to_dict() for one in ended], about, system)
    for name, text in (("results.json", json.dumps(results, ensure_ascii=False, indent=1) + "\n"), ("index.html", page)):
        temporary = folder / f".{name}.tmp"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(folder / name)


def _slug(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-.").lower()[:80] or "simulation"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """A lock on the folder.

    Raises:
        UserError: another process simulates into it.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"another process simulates into {folder}; wait for it, or choose another folder with --out") from None
    try:
        yield
    finally:
        lock.release()
