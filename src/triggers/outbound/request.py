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
    pairs = list(headers.items() if isinstance(headers, dict) else headers)
    _check_names(tuple([name for name, _ in pairs]))
    lines = "".join([f"{name}: {value}\r\n" for name, value in pairs])
    # Printable is the quick answer for nearly all; the pattern knows tabs and letters of every script.
    if not "".join([value for _, value in pairs]).isprintable():
        for name, value in pairs:
            if not _HEADER_VALUE.fullmatch(value):
                raise Invalid(f"The value of the header {name} contains characters that cannot be sent.")
    return f"{start}{len(body)}\r\n{lines}\r\n".encode() + body


@lru_cache(maxsize=4096)
def _check_names(names: tuple[str, ...]) -> None:
    for name in names:
        if name.lower() in _FRAMING or not _HEADER_NAME.fullmatch(name):
            raise Invalid("A header has a name that cannot be sent.")
