"""The host: finds plugins, loads them, keeps what failed and why, and makes typed calls of the hooks.

Discovery is tolerant, execution strict: a broken plugin is recorded and shown, and only a recipe that needs it fails.
Make a fresh Host per use; there is no global plugin manager.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module, metadata
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from agentft import components, hookspecs
from agentft.errors import PluginError, Problem, did_you_mean
from agentft.events import Event

if TYPE_CHECKING:
    from agentft.catalog import Catalog
    from agentft.recipe import Recipe

GROUP = "agentft"
BUILTINS = ("content", "data", "training", "feedback", "evaluation", "benchmarks", "export", "commands")
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")

# Hook -> what it must return. The order is the order of the listings.
CONTRIBUTIONS: dict[str, type[components.Spec]] = {
    "agentft_personas": components.PersonaSpec,
    "agentft_templates": components.TemplateSpec,
    "agentft_sources": components.SourceSpec,
    "agentft_transforms": components.TransformSpec,
    "agentft_trainers": components.TrainerSpec,
    "agentft_losses": components.LossSpec,
    "agentft_critics": components.CriticSpec,
    "agentft_evaluators": components.EvaluatorSpec,
    "agentft_backends": components.BackendSpec,
    "agentft_tools": components.ToolSpec,
    "agentft_environments": components.EnvironmentSpec,
    "agentft_exporters": components.ExporterSpec,
    "agentft_commands": components.CommandSpec,
}

log = logging.getLogger("agentft.host")


@dataclass(frozen=True)
class Plugin:
    """One plugin as found: ``status`` is ``loaded``, ``broken``, ``blocked`` or ``incompatible``; ``cause`` says why."""

    name: str
    distribution: str
    version: str
    status: str = "loaded"
    cause: str = ""
    builtin: bool = False


class Host:
    """Plugins of one process, loaded on construction.

    Args:
        block: names of plugins not to load (``-p no:NAME``).
        allow: names to load; None = ``AGENTFT_PLUGINS`` if set (comma-separated, empty = none), else all.
        strict: raise the first failure instead of recording it; None = ``AGENTFT_STRICT_PLUGINS``.
        extra: further plugins as (name, module) pairs, for tests and notebooks.
    """

    def __init__(
        self,
        *,
        block: Iterable[str] = (),
        allow: Iterable[str] | None = None,
        strict: bool | None = None,
        extra: Iterable[tuple[str, ModuleType]] = (),
    ):
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._block = frozenset(block)
        self._allow = _allowed_by_environment() if allow is None else frozenset(allow)
        self._strict = os.environ.get("AGENTFT_STRICT_PLUGINS") == "1" if strict is None else strict
        self._plugins: dict[str, Plugin] = {}
        for name in BUILTINS:
            self._register(Plugin(name, "agentft", _own_version(), builtin=True), import_module(f"agentft.builtins.{name}"))
        for name, module in extra:
            self._try_register(Plugin(name, getattr(module, "__name__", name), "0"), module)
        self._discover()

    @property
    def plugins(self) -> list[Plugin]:
        """Third-party plugins, sorted by name, the broken and blocked ones included."""
        return sorted((p for p in self._plugins.values() if not p.builtin), key=lambda p: p.name)

    @cached_property
    def catalog(self) -> Catalog:
        """Everything that can be named in a recipe or on the command line."""
        from agentft.catalog import Catalog

        return Catalog(self)

    def plugin(self, name: str) -> Plugin | None:
        return self._plugins.get(name)

    def contributions(self, hook: str) -> list[tuple[Plugin, components.Spec]]:
        """Results of a contribution hook with who gave them, built-ins first. A plugin that fails is marked broken."""
        result: list[tuple[Plugin, components.Spec]] = []
        for plugin in self._loaded():
            try:
                specs = self._contribution(plugin, hook)
            except Exception as error:
                self._fail(plugin, error, f"{hook}: ")
                continue
            result += [(plugin, spec) for spec in specs]
        return result

    def check_recipe(self, recipe: Recipe, active: Iterable[str]) -> list[Problem]:
        """Problems that the plugins in ``active`` (those with a part in the recipe) find."""
        problems: list[Problem] = []
        for plugin in self._loaded():
            if not plugin.builtin and plugin.name not in active:
                continue
            try:
                for found in self._caller(plugin, "agentft_check_recipe")(recipe=recipe, catalog=self.catalog):
                    problems += list(found)
            except Exception as error:
                raise PluginError(f"plugin '{plugin.name}' failed in agentft_check_recipe: {_cause(error)}") from error
        return problems

    def resolve_model(self, reference: str) -> components.ModelRef:
        """The local folder behind a model reference; plugins are asked first, built-in resolution last.

        Raises:
            UserError: nobody knows the reference.
        """
        found = self._manager.hook.agentft_resolve_model(reference=reference)
        if found is None:
            raise PluginError(
                f"no model '{reference}': neither a bundled name, a folder, a .gguf file nor a hub id (see: agentft models list)"
            )
        return found

    def observe(self, event: Event) -> None:
        """Tell every plugin; an exception is logged and goes no further."""
        for plugin in self._loaded():
            try:
                self._caller(plugin, "agentft_observe")(event=event)
            except Exception as error:
                log.warning("plugin '%s' failed in agentft_observe: %s", plugin.name, _cause(error))

    # Loading

    def _discover(self) -> None:
        found = sorted(metadata.entry_points(group=GROUP), key=lambda ep: (ep.name, ep.dist.name if ep.dist else ""))
        by_name: dict[str, list[metadata.EntryPoint]] = {}
        for entry_point in found:
            # An editable install can be listed twice; the same distribution with the same value is one plugin.
            known = by_name.setdefault(entry_point.name, [])
            if not any(_dist(other) == _dist(entry_point) for other in known):
                known.append(entry_point)
        for name, entry_points in by_name.items():
            if name in self._plugins:  # given by the caller, who knows better than the environment
                continue
            distributions = [_dist(ep) for ep in entry_points]
            plugin = Plugin(name, " and ".join(d for d, _ in distributions), " and ".join(v for _, v in distributions))
            if name in self._block:
                self._plugins[name] = _with(plugin, "blocked", f"blocked by -p no:{name}")
            elif self._allow is not None and name not in self._allow:
                self._plugins[name] = _with(plugin, "blocked", "not listed in AGENTFT_PLUGINS")
            elif len(entry_points) > 1:
                both = " and ".join(f"{d} {v}" for d, v in distributions)
                self._fail(plugin, PluginError(f"{both} both call themselves '{name}'; uninstall one"))
            elif reason := _incompatible(entry_points[0]):
                self._fail(plugin, PluginError(reason), status="incompatible")
            else:
                self._load(plugin, entry_points[0])

    def _load(self, plugin: Plugin, entry_point: metadata.EntryPoint) -> None:
        try:
            module = entry_point.load()
        except (Exception, SystemExit) as error:
            self._fail(plugin, error, f"import of {entry_point.value} failed: ")
        else:
            self._try_register(plugin, module)

    def _try_register(self, plugin: Plugin, module: Any) -> None:
        try:
            if not NAME.fullmatch(plugin.name):
                raise PluginError(f"plugin name '{plugin.name}' must be lower-case letters, digits and dashes")
            self._register(plugin, module)
        except Exception as error:
            self._fail(plugin, error)

    def _register(self, plugin: Plugin, module: Any) -> None:
        if plugin.name in self._plugins:
            raise PluginError(f"the name '{plugin.name}' is taken by {self._plugins[plugin.name].distribution}")
        for attribute in dir(module):
            # Before pluggy sees the module: it would keep an unknown hook as "pending" with a message about internals.
            marked = getattr(getattr(module, attribute), f"{hookspecs.PROJECT}_impl", None)
            if marked is not None and not hasattr(self._manager.hook, attribute):
                hooks = [name for name in vars(self._manager.hook) if name.startswith("agentft_")]
                raise PluginError(f"there is no hook '{attribute}' ({did_you_mean(attribute, hooks)})")
        self._manager.register(module, plugin.name)
        self._manager.check_pending()
        self._plugins[plugin.name] = plugin

    def _fail(self, plugin: Plugin, error: BaseException, prefix: str = "", status: str = "broken") -> None:
        if self._strict or plugin.builtin:
            raise error
        if self._manager.has_plugin(plugin.name):
            self._manager.unregister(name=plugin.name)
        self._plugins[plugin.name] = _with(plugin, status, prefix + _cause(error))

    # Calling

    def _loaded(self) -> Iterator[Plugin]:
        yield from [p for p in self._plugins.values() if p.status == "loaded"]

    def _caller(self, plugin: Plugin, hook: str) -> pluggy.HookCaller:
        """The hook as only this plugin sees it, so that a failure has a name."""
        mine = self._manager.get_plugin(plugin.name)
        others = [p for p in self._manager.get_plugins() if p is not mine]
        return self._manager.subset_hook_caller(hook, others)

    def _contribution(self, plugin: Plugin, hook: str) -> list[components.Spec]:
        expected = CONTRIBUTIONS[hook]
        # Materialised here: a generator that fails later would be blamed on whoever looks at it first.
        specs = [spec for returned in self._caller(plugin, hook)() for spec in returned]
        for spec in specs:
            if not isinstance(spec, expected):
                raise PluginError(f"returned {type(spec).__name__}, expected {expected.__name__}")
            if not NAME.fullmatch(spec.name):
                raise PluginError(f"{spec.kind} name '{spec.name}' must be lower-case letters, digits and dashes")
        return specs


def _allowed_by_environment() -> frozenset[str] | None:
    value = os.environ.get("AGENTFT_PLUGINS")
    return None if value is None else frozenset(name.strip() for name in value.split(",") if name.strip())


def _own_version() -> str:
    from agentft import __version__

    return __version__


def _dist(entry_point: metadata.EntryPoint) -> tuple[str, str]:
    return (entry_point.dist.name, entry_point.dist.version) if entry_point.dist else ("?", "?")


def _incompatible(entry_point: metadata.EntryPoint) -> str:
    """Why the plugin's own metadata rules this agentft out, or an empty string."""
    from packaging.requirements import InvalidRequirement, Requirement

    for text in (entry_point.dist.requires or []) if entry_point.dist else []:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.name == "agentft" and not requirement.specifier.contains(_own_version(), prereleases=True):
            return f"built for agentft{requirement.specifier}, this is agentft {_own_version()}"
    return ""


def _with(plugin: Plugin, status: str, cause: str) -> Plugin:
    from dataclasses import replace

    return replace(plugin, status=status, cause=cause)


def _cause(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return (f"{type(error).__name__}: " if not isinstance(error, PluginError) else "") + (text[0] if text else "no message")
