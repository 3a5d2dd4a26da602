"""``docs/plugins.md`` works as written: its files make a plugin that agentft finds, checks and uses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^`([\w./-]+)`\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    """The folder of the page's plugin, with what an installation would add beside it."""
    folder = tmp_path_factory.mktemp("agentft-library")
    files = dict(BLOCK.findall((ROOT / "docs" / "plugins.md").read_text("utf-8")))
    assert len(files) == 7
    for name, text in {**files, "agentft_library/__init__.py": "", "more.jsonl": json.dumps(example("a", "b")) + "\n"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    info = folder / "agentft_library-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: agentft-library\nVersion: 0.1.0\nRequires-Dist: agentft>=0.1,<0.2\n", "utf-8"
    )
    (info / "entry_points.txt").write_text("[agentft]\nlibrary = agentft_library.plugin\n", "utf-8")
    return folder


def example(question: str, answer: str) -> dict:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def python(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]), "AGENTFT_PLUGINS": "library", "COLUMNS": "200"}
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_test_passes(library):
    assert "2 passed" in python(library, "pytest", "-q", "-p", "no:cacheprovider", "tests")


def test_agentft_finds_it(library):
    (listed,) = (row for row in json.loads(python(library, "agentft", "plugins", "list", "--json")) if row["name"] == "library")
    assert (listed["distribution"], listed["version"], listed["status"]) == ("agentft-library", "0.1.0", "loaded")


def test_its_recipe_is_valid(library):
    python(library, "agentft", "check", "recipe.yaml")


def test_its_recipe_reports_a_mistake_in_an_option_of_the_plugin(library):
    bad = (library / "recipe.yaml").read_text("utf-8").replace("shelves: ABLN", "shelfs: ABLN")
    (library / "bad.yaml").write_text(bad, "utf-8")
    with pytest.raises(AssertionError, match=r"bad\.yaml:10:\d+: unknown key 'shelfs' \(did you mean 'shelves'\?\)"):
        python(library, "agentft", "check", "bad.yaml")
