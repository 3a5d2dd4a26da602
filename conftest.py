"""For all tests, the plugins' too: no deadlines, because how long an example takes says more about the machine than about the code;
and the garbage collector leaves alone what was imported."""

from __future__ import annotations

import gc
import sys

import pytest
from hypothesis import settings

settings.register_profile("agentft", deadline=None)
settings.load_profile("agentft")

_modules = 0  # that were there when the collector's objects were frozen the last time


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Trainers collect garbage when they end. Looking through all that torch and transformers consist of takes a third of a second
    each time, which was a third of the time of the training tests."""
    global _modules
    if len(sys.modules) >= _modules + 200:
        _modules = len(sys.modules)
        gc.collect()
        gc.freeze()
