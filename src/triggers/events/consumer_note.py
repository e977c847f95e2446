"""The note of a consumer that settles a message: a status, a duration and a text. It is stored as JSON."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from triggers.errors import Invalid
from triggers.http.views import Timestamp

MAX_TEXT_BYTES: Final = 1_024

StatusCode = Annotated[int, Meta(ge=100, le=599, description="Status of an HTTP answer.")]
DurationMs = Annotated[int, Meta(ge=0, le=86_400_000, description="Duration in milliseconds.")]


class NoteBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The note of a consumer on the messages that it settles. The service does not interpret it."""

    status_code: StatusCode | None = None
    duration_ms: DurationMs | None = None
    text: (
        Annotated[str, Meta(max_length=MAX_TEXT_BYTES, description="At most 1,024 bytes of UTF-8.")] | None
    ) = None


class ConsumerNote(msgspec.Struct, kw_only=True):
    """The report of a consumer when it acknowledged, released or rejected the message the last time."""

    status_code: int | None
    duration_ms: int | None
    text: str | None
    reported_at: Timestamp


Note = Annotated[
    ConsumerNote | None,
    Meta(description="Reported by the consumer of an inbox. Null if no consumer reported anything."),
]


def stored_note(note: NoteBody, reported_at: str) -> str:
    """Return a note as it is stored. JSON escapes what PostgreSQL refuses in a text, such as NUL.

    Raises:
        Invalid: the text is too long.
    """
    if note.text is not None and (size := len(note.text.encode())) > MAX_TEXT_BYTES:
        raise Invalid(
            f"Must have at most {MAX_TEXT_BYTES:,} bytes of UTF-8, but has {size:,}.", pointer="/note/text"
        )
    kept = ConsumerNote(**msgspec.structs.asdict(note), reported_at=reported_at)
    return msgspec.json.encode(kept).decode()


def shown_note(text: str | None) -> ConsumerNote | None:
    """Return a stored note as answers show it."""
    return None if text is None else msgspec.json.decode(text, type=ConsumerNote)
