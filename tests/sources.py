"""Reading a source in a test as a recipe reads it: through the catalog, with its options validated."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from agentft.catalog import Catalog
from agentft.contracts import DataContext
from agentft.host import Host


@functools.cache
def catalog() -> Catalog:
    return Host(allow=()).catalog


def part(use: str) -> tuple[Any, Any]:
    """The source's function and its model of options."""
    entry = catalog().get("source", use)
    return catalog().target(entry), catalog().config_model(entry)


def opened(use: str, base: Path, **options: Any) -> tuple[Any, DataContext]:
    """An iterator over the records, and the account that it fills."""
    read, model = part(use)
    ctx = DataContext(base=base)
    return read(model.model_validate(options), ctx), ctx


def read(use: str, base: Path, **options: Any) -> tuple[list[Any], DataContext]:
    rows, ctx = opened(use, base, **options)
    return list(rows), ctx
