"""An agent is anything that answers: a run, a folder, a hub id, a bundled name, a GGUF file, an OpenAI-compatible server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentft.contracts import AgentSource, Backend, GenerationSettings
from agentft.errors import UserError
from agentft.records import Example, Response

if TYPE_CHECKING:
    from agentft.engine.agent import LoadedAgent
    from agentft.persona import Persona


@dataclass(frozen=True)
class OpenAgent:
    """An agent that answers.

    Attributes:
        name: for listings and reports.
        kind: ``run``, ``model`` (a folder, bundled name or hub id), ``gguf`` or ``server``.
        backend: what generates; the system prompt is in it.
        system: the system prompt that every conversation gets.
        persona: whom the agent plays, if agentft knows.
        loaded: the model in this process; None for a server and for GGUF.
    """

    name: str
    kind: str
    backend: Backend
    system: str = ""
    persona: Persona | None = None
    loaded: LoadedAgent | None = None

    def generate(
        self,
        prompts: Sequence[Example],
        settings: GenerationSettings,
        on_batch: Callable[[Sequence[Response]], None] | None = None,
        done: Mapping[str, Response] | None = None,
    ) -> list[Response]:
        """Answers in the order of ``prompts``; see :class:`agentft.contracts.Backend`."""
        return self.backend.generate(prompts, settings, on_batch, done)


def open_agent(
    reference: str,
    *,
    persona: str | None = None,
    variables: Mapping[str, Any] | None = None,
    policy: str = "",
    model: str | None = None,
    key_env: str | None = None,
    concurrency: int = 4,
    timeout: float = 60.0,
    base: bool = False,
    version: str | None = None,
    runs: Path | str | None = None,
    device: Mapping[str, Any] | None = None,
) -> OpenAgent:
    """Open an agent.

    Args:
        reference: ``http(s)://.../v1``; a run (id, folder, or recipe name: its latest run); else what a recipe may name under ``model``.
        persona: name or file of a persona; default: that of the run, and nobody for anything else.
        variables: values of the persona's variables.
        policy: text that follows the persona in the system prompt (a suite's rules, say).
        model: the server's name for the model; default: the first that it lists.
        key_env: environment variable with the server's key.
        concurrency, timeout: requests at a time, and seconds for each, where the agent is a server.
        base, version: of a run, as for :func:`agentft.api.load_agent`.
        runs: folder for runs; default ``AGENTFT_RUNS`` or ``./runs``.
        device: overrides of the device profile.

    Raises:
        UserError: there is no such run, model or persona; the message lists what was tried.
    """
    who = _persona(persona, variables or {})
    if reference.startswith(("http://", "https://")):
        from agentft.engine.http import HttpBackend

        system = _joined(_system(who), policy)
        served = model or _first_model(reference, key_env, timeout)
        backend = HttpBackend(
            reference, served, system=system, key_env=key_env, concurrency=concurrency, timeout=timeout, tools=_tools(who)
        )
        return OpenAgent(served, "server", backend, system, who)
    if model is not None or key_env is not None:
        raise UserError(f"'{reference}' is no server; --model and --key-env go with an http address")
    if _is_run(reference, runs):
        return _of_run(reference, who, policy, base, version, runs, device)
    if base or version is not None:
        raise UserError(f"'{reference}' is not a run; only a run has a base model and versions")
    return _of_model(reference, who, policy, device)


def _of_run(
    reference: str,
    who: Persona | None,
    policy: str,
    base: bool,
    version: str | None,
    runs: Path | str | None,
    device: Mapping[str, Any] | None,
) -> OpenAgent:
    from agentft.api import load_agent
    from agentft.engine.agent import LoadedAgent
    from agentft.engine.generate import TransformersBackend
    from agentft.render.conversation import Renderer
    from agentft.runs import Store

    agent = load_agent(reference, base=base, version=version, runs=runs, device=device)
    loaded = agent.loaded
    if not isinstance(loaded, LoadedAgent):
        raise UserError(f"'{reference}' is an encoder-decoder; it answers single texts and holds no conversation")
    system = _joined(_system(who) if who else loaded.renderer.given_system, policy)
    tools = _tools(who) if who else loaded.renderer.tools
    if (system, tools) != (loaded.renderer.given_system, loaded.renderer.tools):
        loaded.renderer = Renderer(loaded.tokenizer, system, tools=tools)
    recipe = Store(runs).manifest(reference)["recipe"]
    return OpenAgent(agent.name, "run", TransformersBackend(loaded), system, who or _recorded(recipe), loaded)


def _of_model(reference: str, who: Persona | None, policy: str, device: Mapping[str, Any] | None) -> OpenAgent:
    from agentft.engine.profile import detect
    from agentft.host import Host

    ref = Host().resolve_model(reference)
    system = _joined(_system(who), policy)
    if ref.path.endswith(".gguf"):
        from agentft.engine.llamacpp import LlamaCppBackend, LlamaCppConfig

        source = AgentSource(ref, system, device=device or {}, tools=_tools(who))
        return OpenAgent(Path(ref.path).stem, "gguf", LlamaCppBackend(source, LlamaCppConfig()), system, who)
    from agentft.engine.agent import LoadedAgent
    from agentft.engine.generate import TransformersBackend

    loaded = LoadedAgent.load(ref, system=system, profile=detect(device), tools=_tools(who))
    return OpenAgent(ref.reference, "model", TransformersBackend(loaded), system, who, loaded)


def _is_run(reference: str, runs: Path | str | None) -> bool:
    from agentft.runs import Store

    try:
        Store(runs).manifest(reference)
    except UserError:
        return False
    return True


def _recorded(recipe: Mapping[str, Any]) -> Persona | None:
    """The persona that a run's recipe names, as it is installed now; None where it is not any more."""
    from agentft.recipe import Recipe
    from agentft.session import Session

    try:
        return Session(Recipe.model_validate(dict(recipe))).persona
    except (UserError, ValueError):
        return None


def _persona(name: str | None, variables: Mapping[str, Any]) -> Persona | None:
    from agentft.host import Host
    from agentft.persona import find_persona
    from agentft.recipe import PersonaUse

    if name is None:
        if variables:
            raise UserError("variables belong to a persona: name one with --persona")
        return None
    return find_persona(Host().catalog, PersonaUse(use=name, variables=dict(variables)), Path("."))


def _system(persona: Persona | None) -> str:
    from agentft.host import Host
    from agentft.persona import template_path
    from agentft.render.system import system_prompt

    if persona is None:
        return ""
    return system_prompt(persona, template_path(persona, Host().catalog).read_text("utf-8"))


def _tools(persona: Persona | None) -> tuple[Mapping[str, Any], ...]:
    return persona.schemas if persona else ()


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)


def _first_model(url: str, key_env: str | None, timeout: float) -> str:
    """What the server calls the first of its models."""
    import os

    import httpx

    headers = {"Authorization": f"Bearer {os.environ.get(key_env, '')}"} if key_env else {}
    try:
        answer = httpx.get(f"{url.rstrip('/')}/models", headers=headers, timeout=timeout)
        answer.raise_for_status()
        return str(answer.json()["data"][0]["id"])
    except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(f"{url} does not list its models ({type(error).__name__}: {error}); name one with --model") from None
