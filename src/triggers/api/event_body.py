"""Bodies of events: from bytes to a NewEvent, or to the error that the sender can mend."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from triggers import strict_json
from triggers.domain import (
    MAX_BATCH_EVENTS,
    MAX_EVENT_BYTES,
    EventId,
    NewEvent,
    OrgId,
    check_event_type,
    check_text,
)
from triggers.errors import Invalid, MalformedBody, RequestError, TooLarge
from triggers.judging import Pace


class EventBody(msgspec.Struct, forbid_unknown_fields=True):
    """What a producer sends. `data` is another name for `payload`; one of them is needed."""

    # What is said here is checked below, all of it, so that every fault has its pointer.
    type: Annotated[str, Meta(description="1 to 255 characters; `triggers.` begins the service's own types.")]
    payload: Annotated[msgspec.Raw, Meta(description="Any JSON value; kept byte for byte.")] | UnsetType = (
        UNSET
    )
    data: Annotated[msgspec.Raw, Meta(description="Another name for `payload`.")] | UnsetType = UNSET
    dedup_id: Annotated[
        str | None, Meta(description="1 to 255 characters. The same one within the window is the same event.")
    ] = None
    source: Annotated[str | None, Meta(description="1 to 2,048 characters.")] = None
    subject: Annotated[str | None, Meta(description="1 to 255 characters.")] = None
    ordering_key: Annotated[str | None, Meta(description="1 to 255 characters.")] = None
    occurred_at: Annotated[datetime | None, Meta(description="RFC 3339.")] = None


_decode = msgspec.json.Decoder(EventBody).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_lenient = json.JSONDecoder(parse_int=str, parse_float=str)
_ARRAY_BEGINS = re.compile(r"[ \t\r\n]*\[[ \t\r\n]*")
_ITEM_ENDS = re.compile(r"[ \t\r\n]*(?:,[ \t\r\n]*|(?P<last>\])[ \t\r\n]*\Z)")


def parse_event(text: bytes, org_id: OrgId, mint: Callable[[], UUID]) -> NewEvent:
    """Read one event.

    Raises:
        TooLarge, MalformedBody, Invalid: 413, 400 and 422, saying what is wrong and where.
    """
    if len(text) > MAX_EVENT_BYTES:
        raise TooLarge(f"An event may have {MAX_EVENT_BYTES:,} bytes; this one has {len(text):,}.")
    strict_json.check(text)
    try:
        body = _decode(text)
    except msgspec.ValidationError as error:
        raise _invalid(text, error) from None
    payload = body.data if body.payload is UNSET else body.payload
    if payload is UNSET:
        raise Invalid("An event needs a `payload`.", pointer="/payload")
    if body.payload is not UNSET and body.data is not UNSET:
        raise Invalid("`data` is another name for `payload`; send one of them.", pointer="/data")
    event_type = check_event_type(body.type)
    if body.dedup_id is not None:
        check_text(body.dedup_id, "/dedup_id", longest=255)
    if body.source is not None:
        check_text(body.source, "/source", longest=2048)
    if body.subject is not None:
        check_text(body.subject, "/subject", longest=255)
    if body.ordering_key is not None:
        check_text(body.ordering_key, "/ordering_key", longest=255)
    return NewEvent(
        org_id=org_id,
        id=EventId(mint()),
        type=event_type,
        payload=bytes(payload),
        dedup_id=body.dedup_id,
        source=body.source,
        subject=body.subject,
        ordering_key=body.ordering_key,
        occurred_at=None if body.occurred_at is None else _moment(body.occurred_at),
    )


def split_batch(text: bytes, *, ndjson: bool) -> list[bytes]:
    """The items of a batch as they were sent: the elements of an array, or the lines.

    Raises:
        MalformedBody: the array as such is broken.
        TooLarge: more items than a batch may have.
    """
    if ndjson:
        items = [line for line in text.split(b"\n") if line.strip()]
    else:
        try:
            items = [bytes(item) for item in _decode_items(text)]
        except msgspec.ValidationError as error:
            raise MalformedBody(f"Not a JSON array of events: {error}.") from None
        except (msgspec.DecodeError, RecursionError):
            items = _split_slowly(text)
    if len(items) > MAX_BATCH_EVENTS:
        raise TooLarge(f"A batch may have {MAX_BATCH_EVENTS:,} events; this one has {len(items):,}.")
    return items


def _split_slowly(text: bytes) -> list[bytes]:
    """Take an array apart that the fast reader gives up on, for half a surrogate in one of its items
    say: what is JSON by its grammar but not I-JSON, or nested too deep, is the fault of that item alone."""
    decoded = text.decode("latin-1")  # a character for each byte: outside of strings JSON is ASCII
    items: list[bytes] = []
    step = _ARRAY_BEGINS.match(decoded)
    while step is not None and len(items) <= MAX_BATCH_EVENTS:
        try:
            _, end = _lenient.raw_decode(decoded, step.end())
        except RecursionError:
            end = strict_json.end_of_nested(text, step.end())
        except json.JSONDecodeError as error:
            raise MalformedBody(f"Not a JSON array of events: {error}.") from None
        items.append(text[step.end() : end])
        step = _ITEM_ENDS.match(decoded, end)
        if step is not None and step["last"]:
            return items
    if step is None:
        raise MalformedBody("Not a JSON array of events.")
    return items


async def parse_batch(
    items: list[bytes], org_id: OrgId, mint: Callable[[], UUID]
) -> list[NewEvent | RequestError]:
    """Read each item; one that is wrong spoils only itself, and takes the time of nobody else."""
    pace = Pace()
    parsed: list[NewEvent | RequestError] = []
    for item in items:
        try:
            parsed.append(parse_event(item, org_id, mint))
        except RequestError as error:
            parsed.append(error)
        await pace.breathe()
    return parsed


def _moment(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise Invalid("Must carry a time zone, as RFC 3339 does.", pointer="/occurred_at")
    if not 1 < value.year < 9999:
        raise Invalid("Must lie between the years 2 and 9998.", pointer="/occurred_at")
    return value.astimezone(UTC)


def _invalid(text: bytes, error: msgspec.ValidationError) -> Invalid:
    """Name every unknown field; of the rest, what the decoder stumbled over."""
    value: Any = msgspec.json.decode(text, type=msgspec.Raw)
    try:
        names = list(msgspec.json.decode(value, type=dict[str, msgspec.Raw]))
    except msgspec.ValidationError:
        return Invalid("An event is a JSON object.")
    unknown = [name for name in names if name not in EventBody.__struct_fields__]
    if unknown:
        return Invalid(
            f"Unknown field{'s' if len(unknown) > 1 else ''} {', '.join(map(repr, unknown[:20]))}.",
            errors=[{"pointer": pointer_to(name), "detail": "Unknown field."} for name in unknown[:20]],
            logged="Unknown field.",
        )
    return invalid_field(error)


def invalid_field(error: msgspec.DecodeError) -> Invalid:
    """A decoder's complaint as ours: its JSONPath becomes a JSON Pointer."""
    detail, _, path = str(error).partition(" - at `$")
    if missing := re.search(r"missing required field `(.+)`", detail):
        return Invalid(
            f"The field `{missing[1]}` is missing.", pointer=_pointer(path) + pointer_to(missing[1])
        )
    if unknown := re.search(r"unknown field `(.+)`", detail):
        return Invalid(
            f"Unknown field `{unknown[1]}`.",
            pointer=_pointer(path) + pointer_to(unknown[1]),
            logged="Unknown field.",
        )
    return Invalid(f"{detail}.", pointer=_pointer(path), logged=re.sub(r"'.*'", "'…'", detail))


def pointer_to(name: str) -> str:
    """A name as a step of a JSON Pointer (RFC 6901)."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def _pointer(path: str) -> str:
    steps = re.findall(r"\.([^.\[\]`]+)|\[(\d+)\]", path)  # a name that is not ours stands there as `[...]`
    return "".join(pointer_to(name or index) for name, index in steps)
