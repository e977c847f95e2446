"""Types that answers share, and the parameters that lists share."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, NamedTuple, Protocol
from uuid import UUID

import msgspec
from msgspec import Meta

from triggers.domain import PageRequest, parse_time, rfc3339
from triggers.errors import Invalid

_CURSOR = re.compile("[A-Za-z0-9_-]{22}")
Timestamp = Annotated[
    str, Meta(description="RFC 3339, UTC with milliseconds.", extra_json_schema={"format": "date-time"})
]
Limit = Annotated[int, Meta(ge=1, le=1000, description="Maximum number of items.")]
Cursor = (
    Annotated[
        str,
        Meta(
            description="`next_cursor` of the previous page.",
            max_length=100,
            extra_json_schema={"pattern": f"^{_CURSOR.pattern}$"},
        ),
    ]
    | None
)
Order = Annotated[str, Meta(description="`asc` is oldest first.", pattern="^(asc|desc)$")]


def optional_timestamp(moment: datetime | None) -> str | None:
    """A time that may be missing, in the format of answers."""
    return None if moment is None else rfc3339(moment)


def make_cursor(last: UUID | None) -> str | None:
    """The cursor of the page after `last`."""
    return None if last is None else base64.urlsafe_b64encode(last.bytes).decode().rstrip("=")


def read_cursor(cursor: str | None) -> UUID | None:
    """The id after which the page begins; None: it is the first page."""
    if cursor is None:
        return None
    if not _CURSOR.fullmatch(cursor):  # the decoder passes over what is no letter of its own
        raise Invalid("Not a cursor that this list gave out.", pointer="cursor")
    return UUID(bytes=base64.urlsafe_b64decode(cursor + "=="))


class Listed(Protocol):
    """An item of a list that is ordered by id."""

    @property
    def id(self) -> UUID:
        """Its place in the list."""


class PageQuery(NamedTuple):
    """The parameters of a list that say which part of it is wanted."""

    limit: Limit = 100
    cursor: Cursor = None


FIRST_PAGE: Final = PageQuery()


def page_request(asked: PageQuery) -> PageRequest:
    """The page that a query asks for. Raises Invalid if the cursor is not one that a list gave out."""
    return PageRequest(read_cursor(asked.cursor), asked.limit)


def next_cursor(found: Sequence[Listed], page: PageRequest) -> str | None:
    """The cursor of the page after this one; None if this one is not full, so that none follows."""
    return make_cursor(found[-1].id) if len(found) == page.limit else None


def moment_of(text: str | None, name: str) -> datetime | None:
    """An RFC 3339 time from a query."""
    if text is None:
        return None
    try:
        # A plus sign that was not escaped arrives as a space.
        moment = parse_time(text.replace(" ", "+"))
        if moment.tzinfo is None:
            raise ValueError(text)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Invalid("Must be an RFC 3339 time with a time zone.", pointer=name) from None


def raw(payload: bytes) -> Any:
    """A payload inside an answer: its bytes as they were sent."""
    return msgspec.Raw(payload)
