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
    from agentft_customer_service import plugin

    from agentft.testing import plugin_catalog

    return plugin_catalog("customer-service", plugin)


@pytest.fixture(scope="session")
def personas(catalog):
    from agentft.testing import load_personas

    return load_personas(catalog, "customer-service")


@pytest.fixture(scope="session")
def demonstrations(catalog):
    from agentft.testing import read_source

    return read_source(catalog, "customer-service/dialogues", {"personas": "all"})


@pytest.fixture(scope="session")
def prompts(catalog):
    from agentft.testing import read_source

    return read_source(catalog, "customer-service/prompts", {"personas": "all"})


@pytest.fixture(scope="session")
def readme() -> str:
    return (ROOT / "README.md").read_text("utf-8")
