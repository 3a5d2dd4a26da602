"""Commands that plugins add, found without importing plugins each time.

Reading the entry points of all installed distributions costs more than the rest of ``agentft --help`` together. So
the answer is remembered in a small file, for as long as ``sys.path`` is the same and no distribution was installed or
removed (that changes the modification time of ``site-packages``). A name that is not in it is looked up afresh.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable


def find(switches: Iterable[str] = (), name: str = "") -> dict[str, tuple[str, str]]:
    """Name -> (target, summary). ``switches`` are the values of ``-p``; with any of them nothing is remembered.

    With ``name``, an answer that does not know it is not taken from memory.
    """
    switches = tuple(switches)
    environment = os.environ.get("AGENTFT_PLUGINS")
    if switches or environment is not None:
        return discover(switches)
    path, state = _cache_file(), _state()
    try:
        with open(path, encoding="utf-8") as stream:
            lines = stream.read().split("\n")
        if lines[0] == state:
            known = {key: (target, summary) for key, target, summary in (line.split("\t") for line in lines[1:] if line)}
            if not name or name in known:
                return known
    except (OSError, ValueError):
        pass
    commands = discover(switches)
    _remember(path, state, commands)
    return commands


def discover(switches: Iterable[str] = ()) -> dict[str, tuple[str, str]]:
    """The same by loading every plugin."""
    from agentft.host import Host

    host = Host(block=[switch.removeprefix("no:") for switch in switches], strict=False)
    entries = [entry for entry in host.catalog.entries("command") if not entry.plugin.builtin]
    return {entry.name: (entry.spec.target, entry.spec.summary) for entry in entries}  # type: ignore[attr-defined]


def _cache_file() -> str:
    base = os.environ.get("AGENTFT_CACHE") or os.path.join(os.path.expanduser("~"), ".cache", "agentft")
    return os.path.join(base, f"commands-{sys.version_info[0]}{sys.version_info[1]}.tsv")


def _state() -> str:
    parts = []
    for folder in sys.path:
        if not folder.endswith("-packages"):  # a working folder changes all the time
            parts.append(folder)
            continue
        try:
            parts.append(f"{folder}@{os.stat(folder).st_mtime_ns}")
        except OSError:
            continue
    return "|".join(parts)


def _remember(path: str, state: str, commands: dict[str, tuple[str, str]]) -> None:
    lines = [state, *("\t".join((name, target, summary.replace("\t", " "))) for name, (target, summary) in commands.items())]
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(f"{path}.{os.getpid()}", "w", encoding="utf-8") as stream:
            stream.write("\n".join(lines))
        os.replace(f"{path}.{os.getpid()}", path)
    except OSError:
        return  # a read-only home only costs time
