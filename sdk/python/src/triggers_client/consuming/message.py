"""A message as its handler sees it, and what becomes of it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from triggers_client.fields import Note
from triggers_client.models import LeasedMessage

_LONGEST_REASON = 255


@dataclass
class Message:
    """An event in an inbox, leased by this consumer."""

    id: str
    """The id of the event."""
    type: str | None
    payload: Any = field(repr=False)
    created_at: datetime
    lease_count: int
    """How often it was leased, this time included. Leases of consumers that only stopped do not count."""
    lease_id: str
    inbox: str
    note: Note | None = field(default=None, repr=False)
    """The note to send with the acknowledgement. A note that the service refuses is left out."""
    lease_lost: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set when another consumer may get the message. Stop then, and have no more effects."""
    rejection: str | None = field(default=None, repr=False)

    def reject(self, reason: str) -> None:
        """Put the message into quarantine when the handler ends, instead of acknowledging it."""
        self.rejection = as_reason(reason)


@dataclass(frozen=True)
class Ack:
    """The handler returned."""


@dataclass(frozen=True)
class Release:
    """The handler raised, or had to stop. The message is leased again after so many seconds.

    `counted`: whether this lease counts for `max_attempts`. It does not if the handler only had to stop.
    """

    delay_seconds: float = 0
    counted: bool = True


@dataclass(frozen=True)
class Reject:
    """The message goes into quarantine."""

    reason: str


Settlement = Ack | Release | Reject


def message_of(leased: LeasedMessage, lease_id: str, inbox: str) -> Message:
    """The message of a lease."""
    return Message(
        id=leased.id,
        type=leased.message_attributes.event_type,
        payload=leased.payload,
        created_at=leased.created_at,
        lease_count=leased.message_attributes.lease_count,
        lease_id=lease_id,
        inbox=inbox,
    )


def text_of(error: BaseException) -> str:
    """The kind of an error and what it says, if it can say anything."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - the handler's own classes may do anything
        return type(error).__name__


def as_reason(text: str) -> str:
    """A text that the service takes as a reason: 1 to 255 characters, without control characters."""
    printable = "".join(each if each.isprintable() else " " for each in text[: 2 * _LONGEST_REASON])
    return " ".join(printable.split())[:_LONGEST_REASON] or "no reason given"
