"""Parses the body of an event into a NewEvent, or into an error that tells the sender what to correct."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeAlias, TypeVar
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from triggers import strict_json
from triggers.domain import (
    MAX_EVENT_BYTES,
    EventId,
    NewEvent,
    OrgId,
    check_event_type,
    check_text,
    parse_time,
)
from triggers.errors import Invalid, RequestError, TooLarge
from triggers.fairness.pace import Steps, do
from triggers.http.exchange import unquoted
from triggers.http.field_errors import invalid_field, pointer_to

Parse: TypeAlias = Callable[[bytes, OrgId, Callable[[], UUID]], Steps[NewEvent]]
"""Reads one event of an organisation from its bytes. The last argument makes its id."""


def text_of(longest: int, description: str | None = None) -> Meta:
    """Describe a text with 1 to `longest` characters. The limit is only in the schema: it is checked where
    the error can have a pointer."""
    return Meta(description=description, extra_json_schema={"minLength": 1, "maxLength": longest})


class EventBody(msgspec.Struct, forbid_unknown_fields=True):
    """An event to accept. `data` is another name for `payload`. One of them is required."""

    type: Annotated[str, text_of(255, "The prefix `triggers.` is reserved.")]
    payload: Annotated[msgspec.Raw, Meta(description="Any JSON value, stored byte for byte.")] | UnsetType = (
        UNSET
    )
    data: Annotated[msgspec.Raw, Meta(description="Another name for `payload`.")] | UnsetType = UNSET
    dedup_id: Annotated[str | None, text_of(255, "Events with the same id are deduplicated.")] = None
    source: Annotated[str | None, text_of(2_048)] = None
    subject: Annotated[str | None, text_of(255)] = None
    ordering_key: Annotated[str | None, text_of(255)] = None
    occurred_at: Annotated[datetime | None, Meta(description="RFC 3339 time when the event occurred.")] = None


T = TypeVar("T")

_KEY: Final = "Idempotency-Key"


class _EventBodyAsWritten(EventBody, forbid_unknown_fields=True):
    """The same as EventBody, but the time stays a string."""

    occurred_at: str | None = None  # type: ignore[assignment]


_decode = msgspec.json.Decoder(EventBody).decode
_decode_as_written: Callable[[bytes], EventBody] = msgspec.json.Decoder(_EventBodyAsWritten).decode


def parse_event(text: bytes, org_id: OrgId, mint: Callable[[], UUID]) -> NewEvent:
    """Read one event.

    Raises:
        TooLarge, MalformedBody, Invalid: 413, 400 and 422, saying what is wrong and where.
    """
    if len(text) > MAX_EVENT_BYTES:
        raise _too_large(text)
    strict_json.check(text)
    return _event(text, org_id, mint)


def parse_event_in_steps(text: bytes, org_id: OrgId, mint: Callable[[], UUID]) -> Steps[NewEvent]:
    """`parse_event` in steps."""
    yield from check_in_steps(text)
    return _event(text, org_id, mint)


def check_in_steps(text: bytes) -> Steps[None]:
    """Check what holds for every event: its size, and that it is I-JSON.

    Raises:
        TooLarge, MalformedBody: 413 and 400.
    """
    if len(text) > MAX_EVENT_BYTES:
        raise _too_large(text)
    yield from strict_json.check_in_steps(text)
    if len(text) > strict_json.AT_ONCE_BYTES:
        yield


async def parse_batch(
    items: list[bytes], parse: Parse, org_id: OrgId, mint: Callable[[], UUID]
) -> list[NewEvent | RequestError]:
    """Read each item in steps. An invalid item becomes an error and does not affect the others."""
    return await do(_parse_items(items, parse, org_id, mint), org_id)


def from_idempotency_key(header: bytes, suffix: str = "") -> str:
    """The dedup_id of an event that has none of its own, from the value of the header `Idempotency-Key`.

    Raises:
        Invalid: the value cannot be a dedup_id.
    """
    try:
        key = unquoted(header).decode()
    except UnicodeDecodeError:
        raise Invalid("Must be valid UTF-8.", pointer=_KEY) from None
    check_text(key, _KEY, longest=255)
    return check_text(key + suffix, _KEY, longest=255)


def name_by_key(events: list[NewEvent | RequestError], header: bytes) -> None:
    """Give event N of a batch the dedup_id `<key>/N` if it has none.

    If that id is not valid, an error replaces the event.
    """
    for index, event in enumerate(events):
        if isinstance(event, NewEvent) and event.dedup_id is None:
            try:
                event.dedup_id = from_idempotency_key(header, f"/{index}")
            except Invalid as error:
                events[index] = error.with_traceback(None)


def _parse_items(
    items: list[bytes], parse: Parse, org_id: OrgId, mint: Callable[[], UUID]
) -> Steps[list[NewEvent | RequestError]]:
    parsed: list[NewEvent | RequestError] = []
    for item in items:
        try:
            parsed.append((yield from parse(item, org_id, mint)))
        except RequestError as error:
            error.__context__ = None  # frames of a thousand errors hold texts, and take long to let go
            parsed.append(error.with_traceback(None))
        yield
    return parsed


def _too_large(text: bytes) -> TooLarge:
    return TooLarge(f"An event must have at most {MAX_EVENT_BYTES:,} bytes, but has {len(text):,}.")


def _event(text: bytes, org_id: OrgId, mint: Callable[[], UUID]) -> NewEvent:
    """Read an event from text that is known to be I-JSON."""
    try:
        body = _decoded(text)
    except msgspec.ValidationError as error:
        raise _invalid(text, error) from None
    payload = body.data if body.payload is UNSET else body.payload
    if payload is UNSET:
        raise Invalid("An event needs a `payload`.", pointer="/payload")
    if body.payload is not UNSET and body.data is not UNSET:
        raise Invalid("`data` is another name for `payload`. Send only one of them.", pointer="/data")
    return checked(
        NewEvent(
            org_id=org_id,
            id=EventId(mint()),
            type=body.type,
            payload=bytes(payload),
            dedup_id=body.dedup_id,
            source=body.source,
            subject=body.subject,
            ordering_key=body.ordering_key,
            occurred_at=body.occurred_at,
        )
    )


def checked(
    event: NewEvent, *, ordering_key: str = "/ordering_key", occurred_at: str = "/occurred_at"
) -> NewEvent:
    """Return the event with its time in UTC, if the fields that all formats have are valid.

    Some fields have other names in other formats. The other arguments are the pointers to these.

    Raises:
        Invalid: 422, which names the wrong field.
    """
    event.type = check_event_type(event.type)
    if event.dedup_id is not None:
        check_text(event.dedup_id, "/dedup_id", longest=255)
    if event.source is not None:
        check_text(event.source, "/source", longest=2048)
    if event.subject is not None:
        check_text(event.subject, "/subject", longest=255)
    if event.ordering_key is not None:
        check_text(event.ordering_key, ordering_key, longest=255)
    if event.occurred_at is not None:
        event.occurred_at = in_utc(event.occurred_at, occurred_at)
    return event


def _decoded(text: bytes) -> EventBody:
    try:
        return _decode(text)
    except msgspec.ValidationError as error:
        if not str(error).endswith("`$.occurred_at`"):
            raise
        return with_leap_second(text, _decode_as_written, "occurred_at", error)


def with_leap_second(
    text: bytes, decode: Callable[[bytes], T], member: str, refusal: msgspec.ValidationError
) -> T:
    """Decode a text whose time the usual decoder refused, because that decoder knows no leap seconds.

    `decode` reads the time, which is in `member`, as a string.

    Raises:
        msgspec.ValidationError: something else is wrong. It is `refusal` if `member` is not a time.
    """
    value = decode(text)
    try:
        setattr(value, member, parse_time(str(getattr(value, member))))
    except ValueError:
        raise refusal from None
    return value


def in_utc(value: datetime, pointer: str) -> datetime:
    """The same time in UTC, or Invalid if PostgreSQL cannot store it."""
    if value.tzinfo is None:
        raise Invalid("Must have a time zone, as in RFC 3339.", pointer=pointer)
    if not 1 < value.year < 9999:
        raise Invalid("Must be between the years 2 and 9998.", pointer=pointer)
    return value.astimezone(UTC)


def _invalid(text: bytes, error: msgspec.ValidationError) -> Invalid:
    """Name the unknown fields (up to 20). If there are none, report the decoder's error.

    For a long text, report only the decoder's error, because it may have tens of thousands of names.
    """
    if len(text) > strict_json.AT_ONCE_BYTES:
        return invalid_field(error)
    value: Any = msgspec.json.decode(text, type=msgspec.Raw)
    try:
        names = list(msgspec.json.decode(value, type=dict[str, msgspec.Raw]))
    except msgspec.ValidationError:
        return Invalid("An event must be a JSON object.")
    unknown = [name for name in names if name not in EventBody.__struct_fields__]
    if unknown:
        return Invalid(
            f"Unknown field{'s' if len(unknown) > 1 else ''} {', '.join(map(repr, unknown[:20]))}.",
            errors=[{"pointer": pointer_to(name), "detail": "Unknown field."} for name in unknown[:20]],
            logged="Unknown field.",
        )
    return invalid_field(error)
