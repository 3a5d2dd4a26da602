"""The built-in parts, contributed through the same hooks as anybody's. One module per area; each is a plugin."""

from __future__ import annotations

from pathlib import Path


def shipped(folder: str, name: str) -> str:
    """Absolute path of a file of the top-level ``personas/`` or ``templates/``.

    In a wheel these folders lie inside the package; in a checkout beside it.
    """
    package = Path(__file__).resolve().parent.parent
    inside = package / folder / name
    return str(inside if inside.exists() else package.parent / folder / name)
