from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))


@pytest.fixture(scope="session")
def tiny_ref(tmp_path_factory):
    from tiny import tiny_model

    return tiny_model(tmp_path_factory.mktemp("tiny"))
