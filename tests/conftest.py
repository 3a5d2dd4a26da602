"""Fixtures for all tests. Nothing here touches the network, the user's cache or the user's runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("AGENTFT_PROFILE", "flags")  # nothing is timed, and nothing written to the user's cache
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # see agentft/engine/__init__.py; some tests import torch first

if "PYTEST_XDIST_WORKER" in os.environ:  # several processes share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

HERE = Path(__file__).parent
FAKES = HERE / "fakes"
sys.path.insert(0, str(HERE))  # for `from tiny import ...`: the tests are not a package


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """``install("healthy", "broken")`` makes the fake distributions of ``tests/fakes`` discoverable."""
    before = set(sys.modules)

    def add(*names: str) -> None:
        for name in names:
            assert (FAKES / name).is_dir(), name
            monkeypatch.syspath_prepend(str(FAKES / name))

    yield add
    for name in set(sys.modules) - before:
        if name.startswith("fake_"):
            del sys.modules[name]


@pytest.fixture
def shared_data() -> Path:
    """The folder with public data sets, or a skip where it is absent."""
    path = Path(os.environ.get("AGENTFT_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not path.is_dir():
        pytest.skip("no public data sets beside the project (set AGENTFT_SHARED_DATA)")
    return path


@pytest.fixture(scope="session")
def tiny_ref(tmp_path_factory):
    """A random two-layer chat model in a folder, built once."""
    from tiny import tiny_model

    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def cpu():
    """A float32 CPU profile on one thread: what the tests compare against must not depend on the machine."""
    from agentft.engine.profile import Profile

    return Profile("cpu", "float32", "float32", threads=1)
