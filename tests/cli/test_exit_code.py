"""What a shell sees: the exit code of the installed command, not of click's test runner."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FAKES = Path(__file__).parents[1] / "fakes"


@pytest.mark.parametrize(
    ("arguments", "code"), [(["plugins", "doctor"], 1), (["plugins"], 0), (["plugins", "show", "nope"], 2), (["-x"], 2)]
)
def test_exit_code(arguments, code):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(FAKES / "broken"), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-m", "agentft", *arguments], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
