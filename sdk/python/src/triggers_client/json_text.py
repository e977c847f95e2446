"""Reads JSON that strangers wrote."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any


def read_json(text: str | bytes) -> Any:
    """The value of a JSON text. An integer with more digits than Python allows in an `int` is a `Decimal`.

    Raises:
        ValueError: the text is not JSON.
    """
    try:
        return json.loads(text)
    except ValueError:
        return json.loads(text, parse_int=_integer)


def _integer(digits: str) -> int | Decimal:
    try:
        return int(digits)
    except ValueError:
        return Decimal(digits)
