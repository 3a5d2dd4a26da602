"""Generation spread over worker processes with Ray Data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentft.components import ModelRef
from agentft.contracts import AgentSource
from agentft.engine.fanout import RayBackend, pieces
from agentft.errors import MissingDependency
from agentft.records import Example, Message

TESTS = Path(__file__).parents[1]


@given(st.integers(0, 60), st.integers(1, 9), st.integers(1, 9))
def test_every_prompt_is_in_one_piece(count, size, workers):
    prompts = [Example(str(n), (Message("user", "x" * (n % 5)),)) for n in range(count)]
    found = pieces(prompts, size, workers)
    assert sorted(place for piece in found for place in piece) == list(range(count))
    assert all(1 <= len(piece) <= size for piece in found)
    assert len(found) * max(map(len, found), default=1) < count + size + workers, "no more pieces than are needed"


def test_a_missing_package_is_named_with_the_command(monkeypatch):
    import agentft.engine.optional as optional

    monkeypatch.setattr(optional, "available", lambda module: False)
    with pytest.raises(MissingDependency, match=r"pip install 'agentft\[ray\]'"):
        RayBackend(AgentSource(ModelRef("m", "m", "0", "folder")))


@pytest.mark.slow
def test_two_workers_one_of_which_is_killed_say_what_one_process_says(tmp_path):
    pytest.importorskip("ray.data", reason="needs agentft[ray]")
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(TESTS / "ray_job.py"), str(tmp_path / "model"), str(tmp_path / "out.json")],
        env=os.environ | {"PYTHONPATH": path, "AGENTFT_PLUGINS": "", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["killed"], "no worker was killed, so the test shows nothing"
    assert found["spread"] == found["alone"]
    assert [one["id"] for one in found["alone"] if one["finish"] == "error"] == ["long"]
    assert sum(found["batches"]) == 26
    assert found["resumed"] == found["spread"]
    assert "long" in [one["id"] for one in found["again"]] and len(found["again"]) <= 4, "only the piece with the failure is done again"
    assert {one["finish"] for one in found["failed"]} == {"error"} and "cannot be reached" in found["failed"][0]["error"]
    bad = [one for one in found["poisoned"] if one["finish"] == "error"]
    assert "p3" in [one["id"] for one in bad] and len(bad) <= 4, "a prompt that kills its worker costs its piece only"
    assert "died more than 1 times" in bad[0]["error"]
    assert "/nowhere/at/all" in found["fatal"] or "model" in found["fatal"]
    assert found["usage"] == "0" and done.stdout == ""
    assert "Started a local Ray instance" not in done.stderr and "Traceback" not in done.stderr, done.stderr
    (tmp_path / "stderr.txt").write_text(done.stderr)
