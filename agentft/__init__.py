"""agentft: customise the behaviour of LLM agents with personas, plugins and gated rounds of feedback.

The public names are loaded on first use, so that ``import agentft`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from agentft.agents import open_agent
    from agentft.api import Agent, load_agent, run
    from agentft.exporting import export_agent
    from agentft.hookspecs import hookimpl
    from agentft.host import Host
    from agentft.persona import Persona
    from agentft.recipe import Recipe
    from agentft.simulation import simulate_agent

_NAMES = {
    "run": "agentft.api",
    "load_agent": "agentft.api",
    "Agent": "agentft.api",
    "open_agent": "agentft.agents",
    "export_agent": "agentft.exporting",
    "Host": "agentft.host",
    "hookimpl": "agentft.hookspecs",
    "Persona": "agentft.persona",
    "Recipe": "agentft.recipe",
    "simulate_agent": "agentft.simulation",
}

__all__ = [
    "Agent",
    "Host",
    "Persona",
    "Recipe",
    "__version__",
    "export_agent",
    "hookimpl",
    "load_agent",
    "open_agent",
    "run",
    "simulate_agent",
]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'agentft' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_NAMES[name]), name)


def __dir__() -> list[str]:
    return __all__
