"""The command line answers fast: what a help page, a listing and a check must not import."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "trl", "datasets", "evaluate", "peft", "accelerate")
MODELS = ("pydantic", "ruamel", "yaml")


def imported(arguments: list[str], tmp_path) -> set[str]:
    """Top-level modules in ``sys.modules`` after ``agentft ARGUMENTS``."""
    code = (
        "import json, sys\n"
        f"sys.argv = ['agentft', *{arguments!r}]\n"
        "from agentft.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "open('modules.json', 'w').write(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "AGENTFT_CACHE": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True)
    return set(json.loads((tmp_path / "modules.json").read_text("utf-8")))


def test_help_imports_nothing_heavy(tmp_path):
    imported(["--help"], tmp_path)  # fills the small file of plugin commands
    modules = imported(["--help"], tmp_path)
    assert not modules & {*HEAVY, *MODELS, "numpy", "rich", "pluggy"}


@pytest.mark.parametrize(
    "arguments", [["--version"], ["run", "--help"], ["plugins", "list", "--json"], ["personas", "list"], ["runs", "list"]]
)
def test_listings_import_no_training_stack(tmp_path, arguments):
    assert not imported(arguments, tmp_path) & {*HEAVY, "numpy", "scipy", "sklearn", "matplotlib"}


def test_check_imports_no_training_stack(tmp_path):
    (tmp_path / "data.jsonl").write_text("{}\n", "utf-8")
    (tmp_path / "recipe.yaml").write_text(
        "name: a\nmodel: smollm2-135m\npersona: assistant\ndata: {sources: [{use: jsonl, path: data.jsonl}]}\n"
        "train: [sft]\nevaluate: [persona-adherence]\n",
        "utf-8",
    )
    assert not imported(["check", "recipe.yaml"], tmp_path) & {*HEAVY, "numpy", "scipy", "sklearn", "matplotlib"}
