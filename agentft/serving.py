"""From what a user names to what the gateway serves: runs, models, personas and servers; what can share a model in memory does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentft.components import ModelRef
from agentft.errors import UserError
from agentft.persona import Persona
from agentft.serve.gateway_state import Deployment, Limits

if TYPE_CHECKING:
    from agentft.engine.agent import LoadedAgent
    from agentft.engine.profile import Profile
    from agentft.host import Host
    from agentft.opened import OpenedRun
    from agentft.persona_schema import Variable
    from agentft.serve.lanes import Body
    from agentft.serve.worker import Worker


@dataclass(frozen=True)
class Wanted:
    """An agent to serve.

    Attributes:
        reference: a run (``NAME@VERSION`` for one of its versions, ``NAME@base`` for the untrained model), a folder, a bundled name, a hub
            id, a GGUF file, or the address of a server up to ``/v1``.
        name: what callers write under ``model``; empty: made from the reference.
        persona: name or file; None: that of the run, and nobody for anything else.
        variables: values of the persona's variables.
    """

    reference: str
    name: str = ""
    persona: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Played:
    """A persona, how to render it anew, and where its tools come from."""

    persona: Persona | None = None
    system: str = ""
    declared: Mapping[str, Variable] = field(default_factory=dict)
    system_of: Callable[[Mapping[str, Any]], str] | None = None
    base: Path = Path(".")

    @property
    def tools(self) -> tuple[Mapping[str, Any], ...]:
        """As a model is shown them."""
        return self.persona.schemas if self.persona else ()


@dataclass(frozen=True)
class Parts:
    """A model that is not loaded yet, with everything that belongs to it."""

    name: str
    model: ModelRef
    played: Played
    profile: Profile
    adapter: Path | None = None
    examples: Path | None = None
    digest: str = ""  # of the renderer that it was trained with
    version: str = ""

    @cached_property
    def low_rank(self) -> bool:
        """The adapter can be switched on and off on a model that others use too."""
        from peft import PeftConfig

        return self.adapter is None or not PeftConfig.from_pretrained(str(self.adapter)).is_prompt_learning


def deploy(
    wanted: Sequence[Wanted],
    limits: Limits,
    *,
    run_tools: bool = False,
    model: str | None = None,
    key_env: str | None = None,
    runs: Path | str | None = None,
    device: Mapping[str, Any] | None = None,
    host: Host | None = None,
) -> list[Deployment]:
    """Load agents for :func:`agentft.serve.gateway.create_gateway`.

    Agents with the same base model share it: one copy in memory, and of each adapter its own weights only.

    Args:
        run_tools: tools with code are run here; else callers get the calls.
        model: a server's name for its model; default: the first that it lists.
        key_env: environment variable with a server's key.
        runs: folder for runs; default ``AGENTFT_RUNS`` or ``./runs``.
        device: overrides of the device profile.
        host: where parts come from; a fresh one if None.

    Raises:
        UserError: something cannot be found or loaded; one line each.
    """
    from agentft.host import Host

    host = host or Host()
    found: dict[int, Deployment] = {}
    local: dict[int, Parts] = {}
    for place, one in enumerate(wanted):
        if one.reference.startswith(("http://", "https://")):
            found[place] = _of_server(one, limits, model, key_env, host, run_tools)
            continue
        parts = _parts(one, runs, device, host)
        if parts.model.path.endswith(".gguf"):
            found[place] = _of_gguf(parts, limits, host, run_tools, device)
        else:
            local[place] = parts
    if local:
        from agentft.serve.worker import Worker

        worker = Worker(limits.running, limits.waiting)
        groups: dict[tuple[str, str], list[int]] = {}
        for place, parts in local.items():
            groups.setdefault((parts.model.path, str(parts.profile.to_dict())), []).append(place)
        for places in groups.values():
            made = _loaded([local[place] for place in places], worker, limits, host, run_tools)
            found |= dict(zip(places, made, strict=True))
    return [found[place] for place in range(len(wanted))]


# One model each


def _loaded(group: Sequence[Parts], worker: Worker, limits: Limits, host: Host, run_tools: bool) -> list[Deployment]:
    """Agents on the same weights: together where that can be, else one by one."""
    from agentft.engine.agent import LoadedAgent
    from agentft.serve.local import LocalAnswerer

    together = [parts for parts in group if parts.low_rank]
    shared = _shared(together) if len(together) > 1 else None
    made = []
    for parts in group:
        body, adapter = None, None
        if shared is not None and parts in together:
            body, names = shared
            adapter = names[parts.adapter]
            agent = _on(body, parts)
        else:
            played = parts.played
            agent = LoadedAgent.load(parts.model, parts.adapter, played.system, parts.profile, examples=parts.examples, tools=played.tools)
        if parts.digest and agent.renderer.digest != parts.digest:
            raise UserError(f"'{parts.name}' was trained with another chat template or persona; run the recipe again")
        played = parts.played
        answerer = LocalAnswerer(agent, worker, limits, body=body, adapter=adapter, tools=played.tools, system_of=played.system_of)
        made.append(_deployment(parts.name, answerer, played, host, run_tools, parts.version))
    return made


def _shared(group: Sequence[Parts]) -> tuple[Body, dict[Path | None, str | None]] | None:
    """One model for all, and the name of each adapter on it; None where its answers cannot be written side by side."""
    from agentft.engine.decode import unsupported
    from agentft.engine.models import load_model
    from agentft.serve.lanes import Body

    profile = group[0].profile
    profile.apply()
    model = load_model(group[0].model, profile)
    adapters = list(dict.fromkeys(parts.adapter for parts in group if parts.adapter is not None))
    if not adapters:
        return Body(model), {None: None}
    if unsupported(model) or not profile.share_prefix:
        return None
    from peft import PeftModel

    from agentft.engine.quiet import quiet_libraries

    names: dict[Path | None, str | None] = {None: None} | {path: f"adapter-{place}" for place, path in enumerate(adapters)}
    with quiet_libraries():
        tuned = PeftModel.from_pretrained(model, str(adapters[0]), adapter_name=str(names[adapters[0]]))
        for path in adapters[1:]:
            tuned.load_adapter(str(path), adapter_name=str(names[path]))
    return Body(tuned.eval().to(profile.device), switches=True), names


def _on(body: Body, parts: Parts) -> LoadedAgent:
    """An agent whose model is there already."""
    from agentft.engine.agent import LoadedAgent
    from agentft.engine.models import load_tokenizer
    from agentft.engine.shots import Shots
    from agentft.render.conversation import Renderer

    tokenizer = load_tokenizer(parts.model)
    renderer = Renderer(tokenizer, parts.played.system, tools=parts.played.tools)
    return LoadedAgent(body.model, tokenizer, renderer, parts.profile, Shots(parts.examples) if parts.examples else None)


def _of_server(one: Wanted, limits: Limits, model: str | None, key_env: str | None, host: Host, run_tools: bool) -> Deployment:
    import os

    from agentft.agents import first_model
    from agentft.serve.behind import ServerAnswerer

    if key_env is not None and not os.environ.get(key_env):
        raise UserError(f"the environment variable {key_env} with the server's key is not set")
    played = play(one.persona, one.variables, host)
    served = model or first_model(one.reference, key_env, 10.0)
    answerer = ServerAnswerer(
        one.reference,
        served,
        limits,
        system=played.system,
        key=os.environ[key_env] if key_env else None,
        system_of=played.system_of,
    )
    name = one.name or (played.persona.name if played.persona else served)
    return _deployment(name, answerer, played, host, run_tools)


def _of_gguf(parts: Parts, limits: Limits, host: Host, run_tools: bool, device: Mapping[str, Any] | None) -> Deployment:
    from agentft.contracts import AgentSource
    from agentft.engine.llamacpp import LlamaCppBackend, LlamaCppConfig
    from agentft.serve.blocking import BlockingAnswerer

    backend = LlamaCppBackend(AgentSource(parts.model, parts.played.system, device=device or {}), LlamaCppConfig())
    played = replace(parts.played, declared={})
    return _deployment(parts.name, BlockingAnswerer(backend, limits), played, host, run_tools)


def _deployment(name: str, answerer: Any, played: Played, host: Host, run_tools: bool, version: str = "") -> Deployment:
    call, runs = _runner(played, host) if run_tools else (None, frozenset[str]())
    return Deployment(name, answerer, played.persona, played.system, played.tools, call, runs, played.declared, version)


def _runner(played: Played, host: Host) -> tuple[Any, frozenset[str]]:
    """What runs the persona's tools, and which of them have code."""
    from agentft.environments import ToolAnswer, ToolContext

    persona = played.persona
    runs = frozenset(str(tool["name"]) for tool in persona.tools if "use" in tool) if persona else frozenset[str]()
    if persona is None or not runs:
        raise UserError("--run-tools: the persona has no tools with code; leave the option out, and callers run what is called")
    from agentft.engine.toolbox import ToolBox

    def call(name: str, arguments: Mapping[str, Any], variables: Mapping[str, Any]) -> ToolAnswer:
        context = ToolContext({**persona.variables, **variables}, played.base)
        return ToolBox(persona.tools, host.catalog, context).call(name, arguments)

    call("", {}, {})  # a function that cannot be imported says so now
    return call, runs


# Who is played


def play(name: str | None, variables: Mapping[str, Any], host: Host, base: Path = Path(".")) -> Played:
    """A persona by its name or file; nobody for None.

    Raises:
        UserError: there is none, or it is not valid with these values.
    """
    from agentft.persona import persona_path, resolver, template_path
    from agentft.persona_file import declared
    from agentft.render.system import system_prompt

    if name is None:
        if variables:
            raise UserError("variables belong to a persona: name one with --persona")
        return Played()
    resolve = resolver(host.catalog)
    path = persona_path(name, base, resolve)

    def system_of(values: Mapping[str, Any]) -> str:
        persona = Persona.load(path, resolve=resolve, values={**variables, **values})
        return system_prompt(persona, template_path(persona, host.catalog).read_text("utf-8"))

    persona = Persona.load(path, resolve=resolve, values=variables)
    return Played(persona, system_of({}), declared(path, resolve), system_of, path.parent)


def _parts(one: Wanted, runs: Path | str | None, device: Mapping[str, Any] | None, host: Host) -> Parts:
    """What to load for a run or a model."""
    from agentft.agents import run_named
    from agentft.engine.exported import read as read_export
    from agentft.engine.profile import detect
    from agentft.opened import open_run

    if (named := run_named(one.reference, runs)) is not None:
        reference, base, version = named
        return _of_run(one, open_run(reference, host, runs, base=base, version=version), "base" if base else version or "", device, host)
    ref = host.resolve_model(one.reference)
    place = Path(one.reference).expanduser()
    exported = read_export(place) if one.persona is None and place.exists() else None
    if exported is not None and not one.variables:
        played = Played(Persona.from_dict(exported.persona) if exported.persona else None, exported.system)
    else:
        played = play(one.persona, one.variables, host)
    name = one.name or (played.persona.name if played.persona else Path(ref.reference).stem or ref.reference)
    shown = place / "examples"
    return Parts(name, ref, played, detect(device), examples=shown if exported is not None and shown.is_dir() else None)


def _of_run(one: Wanted, run: OpenedRun, version: str, device: Mapping[str, Any] | None, host: Host) -> Parts:
    from agentft.engine.profile import detect

    manifest = run.manifest
    if run.produces != "model":
        raise UserError(f"run {manifest['id']} trained a model of the kind '{run.produces}', which does not talk")
    digest = ""
    if one.persona is None:
        played = _recorded(manifest, one.variables, host)
        digest = run.template if not one.variables else ""
    else:
        played = play(one.persona, one.variables, host)
    profile = detect(device or manifest["recipe"].get("device"))
    name = one.name or (f"{manifest['name']}@{version}" if version else manifest["name"])
    trained = "base" if version == "base" else run.trained.name if run.trained else ""
    return Parts(name, run.weights, played, profile, run.adapter, run.examples, digest, trained)


def _recorded(manifest: Mapping[str, Any], variables: Mapping[str, Any], host: Host) -> Played:
    """The persona that a run was made with. Its variables can be set as long as the installed persona is the same."""
    persona = Persona.from_dict(manifest["persona"])
    kept = Played(persona, manifest["system_prompt"])
    use = manifest["recipe"]["persona"]
    use = use if isinstance(use, Mapping) else {"use": use}
    own = dict(use.get("variables") or {})
    try:
        played = play(use["use"], own, host, Path(manifest["recipe_file"]).parent)
        same = played.system == manifest["system_prompt"]
        if same and variables:
            return play(use["use"], {**own, **variables}, host, Path(manifest["recipe_file"]).parent)
    except (UserError, OSError, KeyError):
        if variables:
            raise
        return kept
    if variables:
        raise UserError(
            "the persona has changed since the run; its variables cannot be set any more (train again, or name it with --persona)"
        )
    return replace(played, persona=persona) if same else kept
