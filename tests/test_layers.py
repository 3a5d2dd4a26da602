"""Data flows one way: a module imports only its own layer and those before it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "agentft"
LAYERS = [
    [
        "errors",
        "text",
        "tool_schema",
        "rules",
        "records",
        "labelled",
        "components",
        "contracts",
        "environments",
        "events",
        "hookspecs",
        "jinja",
        "yamlio",
        "validation",
        "progress",
        "processes",
    ],
    [
        "host",
        "catalog",
        "persona",
        "persona_file",
        "persona_schema",
        "recipe",
        "recipe_parts",
        "recipe_refine",
        "overrides",
        "check",
        "builtins",
    ],
    ["data"],
    ["render"],
    ["engine"],
    ["train"],
    ["feedback"],
    ["evaluate"],
    ["simulate"],
    ["export"],
    ["report"],
    ["serve"],
    [
        "runs",
        "session",
        "arms",
        "head_arms",
        "run_compare",
        "sides",
        "duels",
        "comparing",
        "suite",
        "evaluation",
        "data_models",
        "distributed",
        "distributed_config",
        "text_arms",
        "pipeline",
        "lineage",
        "critic_check",
        "rounds",
        "round_steps",
        "reporting",
        "reporting_rounds",
        "api",
        "opened",
        "agents",
        "simulation",
        "serving",
        "exporting",
        "exporting_source",
        "cli",
        "testing",
        "testing_labels",
        "docs_hooks",
        "docs_readme",
        "docs_reference",
        "__main__",
    ],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def imported(path: Path) -> set[str]:
    """First components of the agentft modules that a file imports, but not those for type checking only."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "agentft":
            parts = node.module.split(".")[1:]
            found |= {parts[0]} if parts else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("agentft.")}
    return found & RANK.keys()


FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_imports_a_later_layer(path):
    mine = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert mine in RANK, f"give '{mine}' a layer"
    # The built-ins name their targets as text; what a hook imports when it is called does not count as a dependency.
    later = {name for name in imported(path) if RANK[name] > RANK[mine]} if mine != "builtins" else set()
    assert not later, f"{path.name} is in layer {RANK[mine]} and imports {later}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_small(path):
    assert len(path.read_text("utf-8").splitlines()) <= 600
