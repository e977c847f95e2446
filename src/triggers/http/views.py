"""What answers are made of, and the parameters that lists share."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar.params import Parameter
from msgspec import Meta

from triggers.domain import rfc3339
from triggers.errors import Invalid

_CURSOR = re.compile("[A-Za-z0-9_-]{22}")
Timestamp = Annotated[
    str, Meta(description="RFC 3339, UTC with milliseconds.", extra_json_schema={"format": "date-time"})
]
Limit = Annotated[int, Parameter(ge=1, le=1000, description="At most so many items.")]
Cursor = Annotated[
    str | None,
    Parameter(
        description="`next_cursor` of the page before.",
        max_length=100,
        schema_extra={"pattern": f"^{_CURSOR.pattern}$"},
    ),
]
Order = Annotated[str, Parameter(description="`asc` is oldest first.", pattern="^(asc|desc)$")]


def optional_timestamp(moment: datetime | None) -> str | None:
    """A time that may be missing, as answers write it."""
    return None if moment is None else rfc3339(moment)


def make_cursor(last: UUID | None) -> str | None:
    """The cursor of the page after `last`."""
    return None if last is None else base64.urlsafe_b64encode(last.bytes).decode().rstrip("=")


def read_cursor(cursor: str | None) -> UUID | None:
    """Where the page begins."""
    if cursor is None:
        return None
    if not _CURSOR.fullmatch(cursor):  # the decoder passes over what is no letter of its own
        raise Invalid("Not a cursor that this list gave out.", pointer="cursor")
    return UUID(bytes=base64.urlsafe_b64decode(cursor + "=="))


def moment_of(text: str | None, name: str) -> datetime | None:
    """An RFC 3339 time from a query."""
    if text is None:
        return None
    try:
        # A plus sign that was not escaped arrives as a space.
        moment = msgspec.convert(text.replace(" ", "+"), datetime)
        if moment.tzinfo is None:
            raise ValueError(text)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError, msgspec.ValidationError):
        raise Invalid("Must be an RFC 3339 time with a time zone.", pointer=name) from None


def raw(payload: bytes) -> Any:
    """A payload inside an answer: its bytes as they were sent."""
    return msgspec.Raw(payload)
