"""Fills the command table and the file map of ``README.md`` from the code, so that they cannot rot.

``python -m agentft.docs_readme`` rewrites what stands between the markers; a test compares it.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from agentft.cli.table import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "README.zh.md")
PLACES = (
    "agentft",
    "plugins/agentft-customer-service/agentft_customer_service",
    "plugins/agentft-content-style/agentft_content_style",
    "plugins/agentft-tutoring/agentft_tutoring",
)


def phrase(path: Path) -> str:
    """The first sentence of a module's docstring."""
    doc = " ".join((ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split())
    sentence = re.split(r"(?<=[a-z)`’'\"])\.(?:\s|$)", doc)[0].rstrip(".")
    return sentence.replace("``", "`").replace("|", "\\|")


def commands() -> str:
    return "| command | what it does |\n|---|---|\n" + "\n".join(f"| `agentft {name}` | {summary} |" for name, summary in COMMANDS.items())


def files() -> str:
    """One line a module, folder by folder."""
    parts = []
    for place in PLACES:
        folders = sorted({path.parent for path in (ROOT / place).rglob("*.py")})
        for folder in folders:
            modules = [path for path in sorted(folder.glob("*.py")) if path.read_text("utf-8").strip()]
            lines = [f"| `{path.name}` | {phrase(path)} |" for path in modules if path.name != "__init__.py"]
            if lines:
                head = f"**`{folder.relative_to(ROOT).as_posix()}/`**"
                package = folder / "__init__.py"
                about = f" {phrase(package)}" if package.exists() and phrase(package) else ""
                parts.append(f"{head}{about}\n\n| file | what it is |\n|---|---|\n" + "\n".join(lines))
    return "\n\n".join(parts)


def filled(page: Path) -> str:
    """The page with the parts between its markers written anew."""
    text = page.read_text("utf-8")
    for name, make in (("commands", commands), ("files", files)):
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
        text = pattern.sub(lambda found, make=make: found.group(1) + make() + found.group(2), text)  # type: ignore[misc]
    return text


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page), encoding="utf-8")
