"""Values of tables as what JSON can hold, and numbers of classes as their names."""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from agentft.errors import DataError


def plain(value: Any) -> Any:
    """``value`` with lists, mappings, texts, numbers, true / false and None only.

    Times become ISO texts, durations seconds, decimals numbers, bytes texts.

    Raises:
        DataError: bytes that are not UTF-8, or a value of another type (a picture, say).
    """
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, (bytes, bytearray)):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise DataError("a value is bytes that are no UTF-8 text") from None
    if hasattr(value, "tolist"):  # numpy
        return plain(value.tolist())
    raise DataError(f"a value of type {type(value).__name__} is neither text nor number")


Change = Callable[[Any], Any]


def class_names(features: Mapping[str, Any]) -> dict[str, Change]:
    """Columns of a data set with numbers of classes in them -> what turns the numbers into the classes' names.

    Args:
        features: as ``datasets`` has them.
    """
    return {name: change for name, feature in features.items() if (change := _names(feature)) is not None}


def named_row(row: Mapping[str, Any], named: Mapping[str, Change]) -> dict[str, Any]:
    """``row`` with the names of classes; -1, which means that there is no label, becomes None."""
    return {key: named[key](value) if key in named else value for key, value in row.items()}


def _names(feature: Any) -> Change | None:
    """What turns the numbers of classes inside a column into names; None where there are none."""
    import datasets

    if isinstance(feature, datasets.ClassLabel):
        return lambda value: None if value is None or value < 0 else feature.int2str(value)
    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
    if inner is not None and (change := _names(inner)) is not None:
        return lambda value: None if value is None else [change(one) for one in value]
    if isinstance(feature, Mapping):
        changes = {key: change for key, one in feature.items() if (change := _names(one)) is not None}
        if changes:
            return lambda value: value if value is None else named_row(value, changes)
    return None
