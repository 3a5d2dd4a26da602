"""The plugin as a real host sees it, whether it is installed or not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="session")
def catalog():
    from agentft_tutoring import plugin

    from agentft.testing import plugin_catalog

    return plugin_catalog("tutoring", plugin)


@pytest.fixture(scope="session")
def personas(catalog):
    from agentft.testing import load_personas

    return load_personas(catalog, "tutoring")


@pytest.fixture(scope="session")
def demonstrations(catalog):
    from agentft.testing import read_source

    return read_source(catalog, "tutoring/sessions", {"personas": "all"})


@pytest.fixture(scope="session")
def prompts(catalog):
    from agentft.testing import read_source

    return read_source(catalog, "tutoring/prompts", {"personas": "all"})


@pytest.fixture(scope="session")
def readme() -> str:
    return (ROOT / "README.md").read_text("utf-8")


@pytest.fixture
def shared_data() -> Path:
    """The folder with public data sets, or a skip where it is absent."""
    path = Path(os.environ.get("AGENTFT_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))
    if not path.is_dir():
        pytest.skip("no public data sets beside the project (set AGENTFT_SHARED_DATA)")
    return path
