"""Reads forms that browsers send as multipart/form-data, which is much faster to read for long texts."""

from __future__ import annotations

import re
from typing import Final

from triggers.errors import Invalid

MOST_FIELDS: Final = 100

_BOUNDARY: Final = re.compile(rb'\s*multipart/form-data\s*;\s*boundary="?([!-~]{1,70}?)"?\s*', re.IGNORECASE)
_NAME: Final = re.compile(rb'content-disposition: *form-data; *name="([^"\r\n]*)"', re.IGNORECASE)


def fields_of(body: bytes, media_type: bytes) -> dict[str, str]:
    """Return the fields by name. Line breaks, which browsers send as CRLF, become LF.

    Raises:
        Invalid: it is not such a form, or has more than MOST_FIELDS fields.
    """
    boundary = _BOUNDARY.fullmatch(media_type)
    if boundary is None:
        raise Invalid("The form cannot be read.")
    before, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary[1], MOST_FIELDS + 1)
    if before or not parts or not parts.pop().startswith(b"--"):
        raise Invalid("The form cannot be read.")
    return dict(map(_field, parts))


def _field(part: bytes) -> tuple[str, str]:
    head, empty_line, value = part.partition(b"\r\n\r\n")
    name = _NAME.search(head)
    if name is None or not empty_line:
        raise Invalid("The form cannot be read.")
    try:
        return name[1].decode(), value.decode().replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise Invalid("The form cannot be read.") from None
