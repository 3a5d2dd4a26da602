"""A database of JSON records that many conversations start from: read in place, copied record by record on the first change."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any


class Tables:
    """``base`` (table -> id -> record) with changes in a layer of their own, so that opening it costs nothing and ``base`` stays as it is.

    A record that is got may be read only; :meth:`change` gives one to write to.
    """

    def __init__(self, base: Mapping[str, Mapping[str, Any]]) -> None:
        self._base = base
        self._changed: dict[str, dict[str, Any]] = {}

    def get(self, table: str, key: str) -> Any:
        """The record, or None."""
        changed = self._changed.get(table, {})
        return changed[key] if key in changed else self._base.get(table, {}).get(key)

    def change(self, table: str, key: str) -> Any:
        """The record, to be written to. It must exist."""
        layer = self._changed.setdefault(table, {})
        if key not in layer:
            layer[key] = copy.deepcopy(self._base[table][key])
        return layer[key]

    def put(self, table: str, key: str, record: Any) -> None:
        self._changed.setdefault(table, {})[key] = record

    def items(self, table: str) -> Iterator[tuple[str, Any]]:
        """Records of a table in the order of ``base``, new ones behind."""
        base, changed = self._base.get(table, {}), self._changed.get(table, {})
        for key in base:
            yield key, changed.get(key, base[key])
        for key in changed:
            if key not in base:
                yield key, changed[key]

    def digest(self) -> str:
        """Equal for equal contents over the same ``base``, however they came about; empty where nothing differs from ``base``."""
        differs = {
            table: records
            for table, changed in self._changed.items()
            if (records := {key: record for key, record in changed.items() if record != self._base.get(table, {}).get(key)})
        }
        return hashlib.sha256(canonical(differs).encode()).hexdigest()[:16] if differs else ""


def canonical(value: Any) -> str:
    """JSON in which equal values are equal texts: keys sorted, 5.0 written as 5."""
    return json.dumps(_whole(value), sort_keys=True, ensure_ascii=False)


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): _whole(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(item) for item in value]
    return value
