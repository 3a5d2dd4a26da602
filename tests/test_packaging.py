"""The wheel is complete: installed into an empty environment it lists and renders the personas it ships."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    pytest.importorskip("hatchling", reason="building a wheel needs hatchling (pip install -e '.[dev]')")
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)], cwd=ROOT, check=True, capture_output=True)
    return next(out.glob("agentft-*.whl"))


def test_wheel_holds_personas_templates_and_report_pages(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("personas", "templates"):
        for path in (ROOT / folder).iterdir():
            assert f"agentft/{folder}/{path.name}" in names
    pages = list((ROOT / "agentft" / "report" / "templates").iterdir())
    assert pages
    for path in pages:
        assert path.relative_to(ROOT).as_posix() in names


def test_installed_wheel_lists_personas(wheel, tmp_path):
    environment = tmp_path / "empty"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True
    )
    # Dependencies are lent from this environment: a .pth line adds the folder without following the .pth files in it,
    # so an editable agentft of this environment stays invisible.
    site = next((environment / "lib").glob("python*/site-packages"))
    (site / "lent.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")

    def agentft(*arguments: str) -> str:
        env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"AGENTFT_PLUGINS": ""}
        done = subprocess.run(
            [str(environment / "bin" / "agentft"), *arguments], cwd=tmp_path, env=env, check=True, capture_output=True, text=True
        )
        return done.stdout

    listed = {row["name"]: row for row in json.loads(agentft("personas", "list", "--json"))}
    assert {"assistant", "assistant-zh"} <= listed.keys()
    shown = json.loads(agentft("personas", "show", "assistant-zh", "--json"))
    assert shown["language"] == "zh" and shown["policies"]
    place = subprocess.run(
        [str(python), "-c", "import agentft; print(agentft.__file__)"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert str(environment) in place.stdout
