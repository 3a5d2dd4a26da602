"""Packages that are extras."""

from __future__ import annotations

from importlib.util import find_spec

from agentft.errors import MissingDependency


def available(module: str) -> bool:
    """Whether an optional package can be imported, without importing it."""
    return find_spec(module) is not None


def need(module: str, extra: str, what: str = "this metric") -> None:
    """Raise :class:`MissingDependency` with the command to type unless ``module`` can be imported."""
    if not available(module):
        raise MissingDependency(f"{what} needs the package '{module}': pip install 'agentft[{extra}]'")
