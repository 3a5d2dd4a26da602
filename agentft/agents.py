"""An agent is anything that answers: a run, a folder, a hub id, a bundled name, a GGUF file, an OpenAI-compatible server."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentft.contracts import AgentSource, Backend, GenerationSettings
from agentft.errors import UserError
from agentft.records import Example, Response

if TYPE_CHECKING:
    from agentft.components import ModelRef
    from agentft.engine.agent import LoadedAgent
    from agentft.persona import Persona
    from agentft.runs import Store

WEB = ("http://", "https://")


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
        identity: what its answers depend on besides the system prompt: digests of weights, or address and model of a server. Answers
            are kept under it, and an agent with another identity is asked anew.
    """

    name: str
    kind: str
    backend: Backend
    system: str = ""
    persona: Persona | None = None
    loaded: LoadedAgent | None = None
    identity: str = ""

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
    persona: str | Persona | None = None,
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
        reference: ``http(s)://.../v1``, with ``#MODEL`` behind it for one of several models; a run (id, folder, or recipe name: its latest
            run), with ``@base``, ``@start`` or ``@round-1`` behind it for another version than the champion; a folder with an adapter;
            else what a recipe may name under ``model``.
        persona: name or file of a persona, or one that is read already; default: that of the run, and nobody for anything else.
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
    if reference.startswith(WEB):
        url, _, named = reference.partition("#")
        return _of_server(url, model or named or None, who, policy, key_env, concurrency, timeout)
    if model is not None or key_env is not None:
        raise UserError(f"'{reference}' is no server; --model and --key-env go with an http address")
    if (run := run_named(reference, runs, base, version)) is not None:
        return _of_run(run[0], who, policy, run[1], run[2], runs, device)
    if base or version is not None:
        raise UserError(f"'{reference}' is not a run; only a run has a base model and versions")
    return _of_model(reference, who, policy, runs, device)


def _of_server(
    url: str, model: str | None, who: Persona | None, policy: str, key_env: str | None, concurrency: int, timeout: float
) -> OpenAgent:
    from agentft.engine.http import HttpBackend

    system = _joined(_system(who), policy)
    served = model or first_model(url, key_env, timeout)
    backend = HttpBackend(url, served, system=system, key_env=key_env, concurrency=concurrency, timeout=timeout, tools=_tools(who))
    return OpenAgent(served, "server", backend, system, who, identity=f"{url.rstrip('/')}#{served}")


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

    store = Store.holding(reference, runs)
    manifest = store.manifest(reference)
    agent = load_agent(reference, base=base, version=version, runs=runs, device=device)
    loaded = agent.loaded
    if not isinstance(loaded, LoadedAgent):
        raise UserError(f"'{reference}' is an encoder-decoder; it answers single texts and holds no conversation")
    system = _joined(_system(who) if who else loaded.renderer.given_system, policy)
    tools = _tools(who) if who else loaded.renderer.tools
    if (system, tools) != (loaded.renderer.given_system, loaded.renderer.tools):
        loaded.renderer = Renderer(loaded.tokenizer, system, tools=tools)
    identity = f"{manifest['model']['digest'][:16]} {'' if base else _weights(store, manifest, version)}".strip()
    which = "base" if base else version
    name = f"{agent.name}@{which}" if which else agent.name
    return OpenAgent(name, "run", TransformersBackend(loaded), system, who or _recorded(manifest), loaded, identity)


def _weights(store: Store, manifest: Mapping[str, Any], version: str | None) -> str:
    """What a run has trained, as text that changes with it: the champion, or ``version``."""
    from agentft.lineage import Lineage

    lineage = Lineage(store.root / manifest["id"])
    if lineage.data["versions"]:
        return (lineage.versions[version] if version else lineage.current).content[:16]
    return " ".join(stage["content"][:16] for stage in manifest["stages"] if stage["name"].startswith("train-"))


def _of_model(reference: str, who: Persona | None, policy: str, runs: Path | str | None, device: Mapping[str, Any] | None) -> OpenAgent:
    from agentft.engine.exported import read as read_export
    from agentft.persona import Persona

    place, shown = Path(reference).expanduser(), None
    exported = read_export(place) if who is None and place.exists() else None
    if exported is not None:
        who = Persona.from_dict(exported.persona) if exported.persona else None
        shown = place / "examples" if (place / "examples").is_dir() else None
    system = _joined(exported.system if exported is not None else _system(who), policy)
    if reference.endswith(".gguf") and _llamacpp():
        from agentft.engine.llamacpp import LlamaCppBackend, LlamaCppConfig
        from agentft.engine.models import resolve_gguf

        file = resolve_gguf(reference)
        source = AgentSource(file, system, device=device or {}, tools=_tools(who))
        return OpenAgent(Path(reference).stem, "gguf", LlamaCppBackend(source, LlamaCppConfig()), system, who, identity=file.digest)
    from agentft.engine.agent import LoadedAgent
    from agentft.engine.generate import TransformersBackend
    from agentft.engine.profile import detect

    adapter = place if (place / "adapter_config.json").is_file() and not (place / "config.json").is_file() else None
    ref = _resolved(_adapted(adapter) if adapter else reference, runs)
    identity = ref.digest
    if adapter:
        from agentft.runs import file_digest

        identity += "".join(f" {file_digest(path)[:16]}" for path in sorted(adapter.glob("adapter_*")))
    loaded = LoadedAgent.load(ref, adapter, system, detect(device), examples=shown, tools=_tools(who))
    name = place.name if place.is_dir() else reference
    return OpenAgent(name, "model", TransformersBackend(loaded), system, who, loaded, identity)


def _adapted(folder: Path) -> str:
    """The model that an adapter belongs to.

    Raises:
        UserError: its configuration names none.
    """
    try:
        return str(json.loads((folder / "adapter_config.json").read_text("utf-8"))["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{folder}: adapter_config.json does not name the adapter's model (base_model_name_or_path)") from None


def _llamacpp() -> bool:
    """Whether llama.cpp can run a GGUF file as it is; without it the file is converted, and transformers runs it."""
    from importlib.util import find_spec

    return find_spec("xllamacpp") is not None


def _resolved(reference: str, runs: Path | str | None) -> ModelRef:
    from agentft.host import Host
    from agentft.runs import Store

    try:
        return Host().resolve_model(reference)
    except UserError as error:
        if Path(reference).expanduser().exists():
            raise
        tried = f"nor is it a run in {Store(runs).root}, or a server (http://.../v1)"
        raise type(error)(f"{error}; {tried}") from None


def run_named(
    reference: str, runs: Path | str | None, base: bool = False, version: str | None = None
) -> tuple[str, bool, str | None] | None:
    """The run behind ``RUN`` or ``RUN@VERSION``, whether its base model is meant (``RUN@base``), and which version; None: it is no run."""
    if _known(reference, runs):
        return reference, base, version
    run, _, which = reference.rpartition("@")
    if not run or base or version is not None or not _known(run, runs):
        return None
    return run, which == "base", None if which == "base" else which


def is_run(reference: str, runs: Path | str | None) -> bool:
    """Whether ``reference`` is a run, or a version of one (``RUN@base``)."""
    return run_named(reference, runs) is not None


def _known(reference: str, runs: Path | str | None) -> bool:
    from agentft.runs import Store

    try:
        Store(runs).manifest(reference)
    except UserError:
        return False
    return True


def _recorded(manifest: Mapping[str, Any]) -> Persona | None:
    """The persona as it was when the run was made; None where a run of another version recorded something else."""
    from pydantic import ValidationError

    from agentft.persona import Persona

    try:
        return Persona.from_dict(manifest["persona"])
    except (KeyError, TypeError, ValidationError):
        return None


def _persona(named: str | Persona | None, variables: Mapping[str, Any]) -> Persona | None:
    from agentft.host import Host
    from agentft.persona import find_persona
    from agentft.recipe import PersonaUse

    if named is None or not isinstance(named, str):
        if variables:
            raise UserError("variables belong to a persona: name one with --persona")
        return named
    return find_persona(Host().catalog, PersonaUse(use=named, variables=dict(variables)), Path("."))


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


def first_model(url: str, key_env: str | None, timeout: float) -> str:
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
