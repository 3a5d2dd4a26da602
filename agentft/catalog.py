"""The catalog: every part that can be named, by kind and full name; code is imported on first use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentft import components
from agentft.errors import PluginError, did_you_mean
from agentft.host import CONTRIBUTIONS, Plugin

if TYPE_CHECKING:
    from pydantic import BaseModel

    from agentft.host import Host

KINDS = {spec.kind: hook for hook, spec in CONTRIBUTIONS.items()}


@dataclass(frozen=True)
class Entry:
    """A part with where it came from. ``name`` is what users write: bare if built in, else ``namespace/name``."""

    name: str
    kind: str
    spec: components.Spec
    plugin: Plugin

    @property
    def distribution(self) -> str:
        return self.plugin.distribution

    @property
    def version(self) -> str:
        return self.plugin.version


class Catalog:
    """All parts of a host.

    Args:
        host: where the parts come from.
        activated: distributions whose ``replaces`` take effect (a recipe's ``requires:``).
    """

    def __init__(self, host: Host, activated: Iterable[str] = ()):
        self._host = host
        self._entries: dict[str, dict[str, Entry]] = {kind: {} for kind in KINDS}
        self.problems: list[str] = []
        wanted = {_normal(name) for name in activated}
        found = [(kind, plugin, spec) for kind, hook in KINDS.items() for plugin, spec in host.contributions(hook)]
        for kind, plugin, spec in found:
            # A plugin that failed in a later hook is out as a whole: half a plugin is harder to understand than none.
            current = host.plugin(plugin.name)
            if current is not None and current.status == "loaded":
                self._add(kind, plugin, spec, replace=_normal(plugin.distribution) in wanted)

    def _add(self, kind: str, plugin: Plugin, spec: components.Spec, replace: bool) -> None:
        parts = self._entries[kind]
        # A command is typed by itself, so it has no namespace and may not hide a built-in one.
        name = spec.name if plugin.builtin or kind == "command" else f"{plugin.name}/{spec.name}"
        if name in parts:
            first = parts[name].plugin
            self.problems.append(f"{kind} '{name}' of {plugin.distribution} is not used: {first.distribution} already has one of that name")
            return
        parts[name] = Entry(name, kind, spec, plugin)
        if spec.replaces and spec.replaces not in parts:
            self.problems.append(f"{kind} '{name}' wants to replace '{spec.replaces}', which does not exist")
        elif spec.replaces and replace:
            parts[spec.replaces] = Entry(spec.replaces, kind, spec, plugin)

    def activate(self, distributions: Iterable[str]) -> Catalog:
        """The catalog as a recipe with this ``requires:`` sees it."""
        return Catalog(self._host, distributions)

    def entries(self, kind: str) -> list[Entry]:
        return list(self._entries[kind].values())

    def names(self, kind: str) -> list[str]:
        return list(self._entries[kind])

    def get(self, kind: str, name: str) -> Entry:
        """The part of that kind and name.

        Raises:
            PluginError: there is none; names the broken plugin it would come from, or the closest name.
        """
        entry = self._entries[kind].get(name)
        if entry is not None:
            return entry
        namespace, slash, _ = name.partition("/")
        plugin = self._host.plugin(namespace) if slash else None
        if plugin is not None and not plugin.builtin and plugin.status != "loaded":
            raise PluginError(
                f"{kind} '{name}' needs the plugin '{namespace}' ({plugin.distribution} {plugin.version}), "
                f"which is {plugin.status}: {plugin.cause}"
            )
        if slash and plugin is None:
            raise PluginError(f"{kind} '{name}': no plugin '{namespace}' is installed (try: pip install agentft-{namespace})")
        raise PluginError(f"no {kind} '{name}' ({did_you_mean(name, self._entries[kind])})")

    def target(self, entry: Entry) -> Callable[..., Any]:
        """Import what the descriptor's ``target`` names.

        Raises:
            PluginError: it cannot be imported; the message names the plugin and the cause.
        """
        return self.resolve(entry, entry.spec.target)  # type: ignore[attr-defined]

    def config_model(self, entry: Entry) -> type[BaseModel] | None:
        """The pydantic model of the part's options, or None if it takes none."""
        config = getattr(entry.spec, "config", None)
        return self.resolve(entry, config) if config else None

    def resolve(self, entry: Entry, reference: str) -> Any:
        """What ``module:attribute`` names, for a descriptor's further fields.

        Raises:
            PluginError: as :meth:`target`.
        """
        module, _, attribute = reference.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except (ImportError, AttributeError, SyntaxError) as error:
            raise PluginError(
                f"{entry.kind} '{entry.name}' of {entry.distribution} {entry.version}: cannot import {reference}: {error}"
            ) from error

    def path(self, entry: Entry) -> Path:
        """The file of a persona or template."""
        return resource(entry.spec.path)  # type: ignore[attr-defined]


def resource(path: str) -> Path:
    """``package:folder/file`` or a plain path, as a file path.

    Raises:
        PluginError: the package or file does not exist.
    """
    package, colon, inner = path.partition(":")
    if colon and len(package) > 1:  # one letter would be a Windows drive
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise PluginError(f"no package '{package}' for the file {path}")
        found = Path(spec.submodule_search_locations[0]) / inner
    else:
        found = Path(path)
    if not found.is_file():
        raise PluginError(f"the file {path} does not exist")
    return found


def _normal(distribution: str) -> str:
    return distribution.lower().replace("_", "-").replace(".", "-")
