"""The plugin as a real host sees it, whether it is installed or not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="session")
def catalog():
    from agentft_content_style import plugin

    from agentft.testing import plugin_catalog

    return plugin_catalog("content-style", plugin)


@pytest.fixture(scope="session")
def personas(catalog):
    from agentft.testing import load_personas

    return load_personas(catalog, "content-style")


@pytest.fixture(scope="session")
def demonstrations(catalog):
    from agentft.testing import read_source

    return read_source(catalog, "content-style/texts", {"personas": "all"})


@pytest.fixture(scope="session")
def prompts(catalog):
    from agentft.testing import read_source

    return read_source(catalog, "content-style/prompts", {"personas": "all"})


@pytest.fixture(scope="session")
def readme() -> str:
    return (ROOT / "README.md").read_text("utf-8")
