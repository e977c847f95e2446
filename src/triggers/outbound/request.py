"""The bytes of a request, with the headers that a caller may set and those that only this module writes."""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, TypeAlias

from triggers.errors import Invalid

RequestHeaders: TypeAlias = dict[str, str] | Iterable[tuple[str, str]]

# With a second length or coding, one tenant's request could be read as two on a connection that others share.
_FRAMING: Final = frozenset(
    (
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "expect",
        "te",
        "trailer",
        "upgrade",
    )
)
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]*")


def request_bytes(start: str, headers: RequestHeaders, body: bytes) -> bytes:
    """A whole request. `start` ends with `content-length: `, whose value comes next.

    Raises:
        Invalid: a header cannot be sent.
    """
    lines = []
    for name, value in headers.items() if isinstance(headers, dict) else headers:
        _check_header_name(name)
        # Printable is the quick answer for nearly all; the pattern knows tabs and letters of every script.
        if not value.isprintable() and not _HEADER_VALUE.fullmatch(value):
            raise Invalid(f"The value of the header {name} contains characters that cannot be sent.")
        lines.append(f"{name}: {value}\r\n")
    return f"{start}{len(body)}\r\n{''.join(lines)}\r\n".encode() + body


@lru_cache(maxsize=4096)
def _check_header_name(name: str) -> None:
    if name.lower() in _FRAMING or not _HEADER_NAME.fullmatch(name):
        raise Invalid("A header has a name that cannot be sent.")
