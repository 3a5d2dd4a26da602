"""Values of tables as what JSON can hold."""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Mapping
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
