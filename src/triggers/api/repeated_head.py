"""A head that came before on the same connection, recognised instead of parsed.

Who sends many events sends one head with all of them, but for the length of the body. Read once, it
need not be taken apart again. What differs from it in any other byte is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

LONGEST = 4096
"""Bytes of a head that is remembered, as long as its connection is open."""

_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})(?=\r\n)", re.IGNORECASE)


class RepeatedHead(NamedTuple):
    """A head on both sides of the length that it gives, and what it was read as."""

    before: bytes
    after: bytes
    scope: dict[str, Any]
    headers: list[tuple[bytes, bytes]]

    @classmethod
    def of(cls, data: bytes, scope: Mapping[str, Any]) -> RepeatedHead | None:
        """Of a request that was read as `scope`. None unless `data` is all of it, and it gives its length."""
        end = data.find(_END, 0, LONGEST) + len(_END)
        lengths = [*_LENGTH.finditer(data, 0, end)]
        if len(lengths) != 1 or int(lengths[0][1]) != len(data) - end:
            return None
        first, last = lengths[0].span(1)
        others = [header for header in scope["headers"] if header[0] != b"content-length"]
        return cls(data[:first], data[last:end], dict(scope), others)

    def read(self, data: bytes) -> tuple[dict[str, Any], bytes] | None:
        """Scope and body of a request that has this head. None if it has not, or `data` is not all of it."""
        before, after, scope, others = self
        if not data.startswith(before):
            return None
        first = len(before)
        last = data.find(b"\r", first, first + 10)
        length = data[first:last]
        if not length.isdigit() or not data.startswith(after, last):
            return None
        body = data[last + len(after) :]
        if int(length) != len(body):
            return None
        return {**scope, "headers": [*others, (b"content-length", length)], "state": {}}, body
