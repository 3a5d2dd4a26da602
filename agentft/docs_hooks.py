"""Writes ``docs/hooks.md`` from the hook specifications, so that the manual cannot rot.

``python -m agentft.docs_hooks`` rewrites the page; a test compares it.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from agentft import hookspecs

PAGE = Path(__file__).resolve().parent.parent / "docs" / "hooks.md"

HEAD = """# Hooks

*Generated from `agentft/hookspecs.py` by `python -m agentft.docs_hooks`.*

A plugin is a module that an entry point of the group `agentft` names; the entry point's name is the namespace of its
parts (`customer-service/support`). Functions are marked with `@agentft.hookimpl`, and may leave out arguments.

- **Discovery is tolerant, execution strict.** A plugin that cannot be loaded is shown by `agentft plugins` with the
  cause; only a recipe that names one of its parts fails.
- **Installed is not active.** A plugin changes nothing until a recipe names one of its parts. A part that `replaces` a
  built-in one does so in recipes whose `requires:` lists its distribution.
- `-p no:NAME` blocks a plugin, `AGENTFT_PLUGINS=a,b` limits to a list (empty: none), `AGENTFT_STRICT_PLUGINS=1` raises the
  first failure.

What the targets of the descriptors are called with is in `agentft/contracts.py`, the descriptors are in
`agentft/components.py`. `agentft.testing` has checks for plugin authors.
"""


def page() -> str:
    """The text of ``docs/hooks.md``."""
    parts = [HEAD]
    for name, function in vars(hookspecs).items():
        if not name.startswith("agentft_"):
            continue
        signature = str(inspect.signature(function)).replace("'", "")
        doc = inspect.cleandoc(function.__doc__ or "")
        doc = re.sub(r":\w+:`([^`]+)`", r"`\1`", doc).replace("``", "`")
        first = "*First result wins.* " if getattr(function, f"{hookspecs.PROJECT}_spec", {}).get("firstresult") else ""
        parts.append(f"## {name}\n\n```python\ndef {name}{signature}\n```\n\n{first}{doc}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
