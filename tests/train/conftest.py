"""Makes ``tiny`` importable from the tests of training, and builds the tiny model once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))


@pytest.fixture(scope="session")
def tiny_ref(tmp_path_factory):
    from tiny import tiny_model

    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def cpu():
    """A float32 CPU profile on one thread: what the tests compare against must not depend on the machine."""
    from agentft.engine.profile import Profile

    return Profile("cpu", "float32", "float32", threads=1)
