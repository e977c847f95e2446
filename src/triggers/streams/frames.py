"""The frames of streams: what they say, and how they are written."""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from typing import Final, Literal, TypeAlias
from uuid import UUID

import msgspec

from triggers.domain import AttemptOutcome

RETRY_MILLISECONDS: Final = 1_000
"""After so long, a browser connects again."""


class StreamKind(StrEnum):
    """The kinds of frames that a stream of an organisation can show."""

    ACCEPTED = "accepted"
    ATTEMPT = "attempt"
    DEAD = "dead"


class EventStored(msgspec.Struct, frozen=True):
    """An event was accepted."""

    event_id: UUID
    type: str


class AttemptEnded(msgspec.Struct, frozen=True):
    """An attempt ended. `type` is the type of the event, None if the event was deleted meanwhile."""

    event_id: UUID
    type: str | None
    subscription_id: UUID
    generation: int
    attempt: int
    outcome: AttemptOutcome


class DeliveryDied(msgspec.Struct, frozen=True):
    """A delivery is a dead letter, or a message is in quarantine. `type` is as for an attempt."""

    event_id: UUID
    type: str | None
    subscription_id: UUID
    generation: int


class MessagesAvailable(msgspec.Struct, frozen=True):
    """So many messages of an inbox have become available."""

    inbox_id: UUID
    count: int


class LeftOut(msgspec.Struct, frozen=True):
    """So many frames of the last second were left out."""

    left_out: int


class Missing(msgspec.Struct, frozen=True):
    """Frames may be missing here, and it is not known how many."""

    reason: Literal["reconnected", "too_many"]


About: TypeAlias = EventStored | AttemptEnded | DeliveryDied | MessagesAvailable | LeftOut | Missing


class Frame:
    """One frame. It is written when the first stream shows it, and has the same text for all of them."""

    def __init__(self, name: str | None, about: About, frame_id: UUID | None = None) -> None:
        """Without a name, browsers take it for a `message`."""
        self.name = name
        self.about = about
        self.id = frame_id

    @property
    def event_id(self) -> UUID | None:
        """The id of the event that the frame is about, None if it is about no event."""
        match self.about:
            case EventStored(event_id=found) | AttemptEnded(event_id=found) | DeliveryDied(event_id=found):
                return found
            case _:
                return None

    @property
    def event_type(self) -> str | None:
        """The type of the event that the frame is about, None if it is about no event or an unknown one."""
        match self.about:
            case EventStored(type=found) | AttemptEnded(type=found) | DeliveryDied(type=found):
                return found
            case _:
                return None

    @cached_property
    def text(self) -> bytes:
        """The frame as it is sent. JSON has no line breaks, so the data is always one line."""
        lines = [
            *([] if self.id is None else [b"id: %b" % str(self.id).encode()]),
            *([] if self.name is None else [b"event: %b" % self.name.encode()]),
            b"data: %b" % msgspec.json.encode(self.about),
        ]
        return b"\n".join(lines) + b"\n\n"


def opening(frame_id: UUID | None = None) -> bytes:
    """The beginning of a stream. With an id, a browser that connects again sends `Last-Event-ID`."""
    text = b"retry: %d\n" % RETRY_MILLISECONDS
    return text + (b"" if frame_id is None else b"id: %b\n" % str(frame_id).encode()) + b"\n"


def gap(reason: Literal["reconnected", "too_many"]) -> Frame:
    """The frame that says that others may be missing."""
    return Frame("gap", Missing(reason))


def sampled(left_out: int) -> Frame:
    """The frame that says how many others were left out."""
    return Frame("sampled", LeftOut(left_out))
