"""Reads CloudEvents 1.0 whose data is JSON, as their HTTP binding and their JSON format define them.

structured  `application/cloudevents+json`: the body is an object with the attributes and `data`
binary      the attributes are headers with the prefix `ce-`, and the body is the data
batched     `application/cloudevents-batch+json`: the body is an array of structured events

`source` and `id` together are the `dedup_id`, because both together identify a CloudEvent. The data becomes
the payload, with the bytes that it has in the body.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Final, TypeAlias
from urllib.parse import unquote_to_bytes
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from triggers.domain import EventId, NewEvent, OrgId, check_text, without_leap_second
from triggers.errors import Invalid, UnsupportedMediaType
from triggers.events.body import check_in_steps, checked, text_of, with_leap_second
from triggers.fairness.pace import Steps
from triggers.http.exchange import unquoted
from triggers.http.field_errors import invalid_field, pointer_to

STRUCTURED: Final = b"application/cloudevents+json"
BATCHED: Final = b"application/cloudevents-batch+json"
BINARY_MARK: Final = b"ce-specversion"
"""The header that shows that a request is a CloudEvent in binary mode."""

MAX_ATTRIBUTES_BYTES: Final = 8 * 1024
"""Maximum size of the stored attributes, as JSON."""
MAX_MEMBERS: Final = 2_000
"""Maximum number of members of a structured event. So many attributes never fit into MAX_ATTRIBUTES_BYTES."""
MAX_REST_BYTES: Final = 64 * 1024
"""Maximum size of a structured event without its data. More could hold so many names that counting them takes
long."""

_NAME: Final = re.compile("[a-z0-9]+")
_HEADER_PREFIX: Final = b"ce-"
_NO_ATTRIBUTES: Final = ("data", "data_base64", "datacontenttype")
"""Attributes that are not sent as `ce-` headers: the body is the data, and Content-Type describes it."""

Attribute: TypeAlias = str | bool | int
_Attribute: TypeAlias = str | bool | Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | None


class CloudEventBody(msgspec.Struct, kw_only=True):
    """A CloudEvent. Other members are extension attributes: strings, booleans or integers of 32 bits, whose
    names have lower-case letters and digits. An attribute that is null is absent."""

    specversion: Annotated[str, Meta(description="`1.0`.")]
    id: Annotated[str, text_of(2_048)]
    source: Annotated[str, text_of(2_048, "Without spaces.")]
    type: Annotated[str, text_of(255, "The prefix `triggers.` is reserved.")]
    data: Annotated[msgspec.Raw, Meta(description="Any JSON value. Null if it is absent.")] | UnsetType = (
        UNSET
    )
    data_base64: (
        Annotated[msgspec.Raw, Meta(description="Not supported, because data must be JSON.")] | UnsetType
    ) = UNSET
    datacontenttype: Annotated[
        str | None, Meta(description="A media type whose subtype is `json` or ends with `+json`.")
    ] = None
    dataschema: Annotated[str | None, text_of(2_048)] = None
    subject: Annotated[str | None, text_of(255)] = None
    time: Annotated[datetime | None, Meta(description="RFC 3339 time when the event occurred.")] = None
    partitionkey: Annotated[str | None, text_of(255, "The `ordering_key` of the event.")] = None


class _CloudEventBodyAsWritten(CloudEventBody):
    """The same as CloudEventBody, but the time stays a string."""

    time: str | None = None  # type: ignore[assignment]


_MEMBERS: Final = frozenset(CloudEventBody.__struct_fields__)
_decode = msgspec.json.Decoder(CloudEventBody).decode
_decode_as_written: Callable[[bytes], CloudEventBody] = msgspec.json.Decoder(_CloudEventBodyAsWritten).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_attribute = msgspec.json.Decoder(_Attribute).decode
_encode = msgspec.json.Encoder().encode


def parse_structured_in_steps(text: bytes, org_id: OrgId, mint: Callable[[], UUID]) -> Steps[NewEvent]:
    """Read an event in structured mode.

    Raises:
        TooLarge, MalformedBody, UnsupportedMediaType, Invalid: 413, 400, 415 and 422, with the reason.
    """
    yield from check_in_steps(text)
    try:
        event = _decoded(text)
    except msgspec.ValidationError as error:
        raise invalid_field(error) from None
    _check_version(event)
    if event.data_base64 is not UNSET and bytes(event.data_base64) != b"null":
        raise UnsupportedMediaType("The data must be JSON. `data_base64` is not supported.")
    payload = None if event.data is UNSET else bytes(event.data)
    if payload is not None and event.datacontenttype is not None:
        _check_json(event.datacontenttype)
    if len(text) - len(payload or b"") > MAX_REST_BYTES:
        raise Invalid(f"A CloudEvent without its data must have at most {MAX_REST_BYTES:,} bytes.")
    if len(text) > MAX_REST_BYTES:
        yield
    members = _decode_members(text)
    if len(members) > MAX_MEMBERS:
        raise Invalid(f"A CloudEvent must have at most {MAX_MEMBERS:,} members.")
    extensions = {
        name: value
        for name, encoded in members.items()
        if name not in _MEMBERS and (value := _attribute(name, encoded)) is not None
    }
    return _event(event, extensions, payload, org_id, mint)


def _decoded(text: bytes) -> CloudEventBody:
    try:
        return _decode(text)
    except msgspec.ValidationError as error:
        if not str(error).endswith("`$.time`"):
            raise
        return with_leap_second(text, _decode_as_written, "time", error)


def parse_binary_in_steps(
    fields: Mapping[bytes, bytes], body: bytes, org_id: OrgId, mint: Callable[[], UUID]
) -> Steps[NewEvent]:
    """Read an event in binary mode from the headers of a request and its body.

    Raises:
        TooLarge, MalformedBody, UnsupportedMediaType, Invalid: 413, 400, 415 and 422, with the reason.
    """
    if body:
        if media_type := fields.get(b"content-type"):
            _check_json(media_type.decode("latin-1"))
        yield from check_in_steps(body)
    try:
        attributes = _from_headers(fields)
        if "time" in attributes:
            attributes["time"] = without_leap_second(attributes["time"])
        try:
            event = msgspec.convert(attributes, CloudEventBody)
        except msgspec.ValidationError as error:
            raise invalid_field(error) from None
        _check_version(event)
        extensions = {name: value for name, value in attributes.items() if name not in _MEMBERS}
        return _event(event, extensions, body or None, org_id, mint)
    except Invalid as error:
        raise _of_headers(error) from None


def _from_headers(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for field, value in fields.items():
        if field.startswith(_HEADER_PREFIX):
            name = field.removeprefix(_HEADER_PREFIX).decode("latin-1")
            if name in _NO_ATTRIBUTES:
                raise Invalid(
                    "In binary mode the body is the data, and `Content-Type` describes it.",
                    pointer=pointer_to(name),
                )
            try:
                attributes[name] = unquote_to_bytes(unquoted(value)).decode()
            except UnicodeDecodeError:
                raise Invalid("Must be valid UTF-8, percent-encoded.", pointer=pointer_to(name)) from None
    return attributes


def _of_headers(error: Invalid) -> Invalid:
    """The same error, with the names of headers instead of places in a body."""
    wrong = [{**each, "pointer": each["pointer"].replace("/", "ce-", 1)} for each in error.facts["errors"]]
    return Invalid(error.message, errors=wrong, logged=error.logged)


def _check_version(event: CloudEventBody) -> None:
    if event.specversion != "1.0":
        raise Invalid("Must be 1.0, the only supported version of CloudEvents.", pointer="/specversion")


def _attribute(name: str, encoded: msgspec.Raw) -> Attribute | None:
    try:
        value: Attribute | None = _decode_attribute(encoded)
    except msgspec.ValidationError:
        raise Invalid(
            "An extension attribute must be a string, a boolean or an integer of 32 bits.",
            pointer=pointer_to(name),
        ) from None
    return value


def _event(
    event: CloudEventBody,
    extensions: Mapping[str, Attribute],
    payload: bytes | None,
    org_id: OrgId,
    mint: Callable[[], UUID],
) -> NewEvent:
    """`payload` is None if the event has no data."""
    check_text(event.id, "/id", longest=2048)
    check_text(event.source, "/source", longest=2048)
    if " " in event.source:
        raise Invalid("Must be a URI reference, which contains no spaces.", pointer="/source")
    return checked(
        NewEvent(
            org_id=org_id,
            id=EventId(mint()),
            type=event.type,
            payload=b"null" if payload is None else payload,
            dedup_id=dedup_id_of(event.source, event.id),
            source=event.source,
            subject=event.subject,
            ordering_key=event.partitionkey,
            occurred_at=event.time,
            attributes=_encoded(event.dataschema, extensions),
        ),
        ordering_key="/partitionkey",
        occurred_at="/time",
    )


def dedup_id_of(source: str, event_id: str) -> str:
    """The `dedup_id` made of both. No source contains a space, so two different pairs never have the same."""
    together = f"{source} {event_id}"
    if len(together) <= 255:
        return together
    return "sha256:" + hashlib.sha256(together.encode()).hexdigest()


def _encoded(dataschema: str | None, extensions: Mapping[str, Attribute]) -> bytes | None:
    """The attributes that are stored besides those that every event has, as JSON. None if there are none."""
    attributes: dict[str, Attribute] = {}
    if dataschema is not None:
        attributes["dataschema"] = check_text(dataschema, "/dataschema", longest=2048)
    for name, value in extensions.items():
        if not _NAME.fullmatch(name):
            raise Invalid(
                "The name of an attribute has only lower-case letters and digits.", pointer=pointer_to(name)
            )
        attributes[name] = value
    if not attributes:
        return None
    encoded = _encode(attributes)
    if len(encoded) > MAX_ATTRIBUTES_BYTES:
        raise Invalid(
            f"`dataschema` and the extension attributes must have at most {MAX_ATTRIBUTES_BYTES:,} bytes"
            f" as JSON, but have {len(encoded):,}."
        )
    for name, value in extensions.items():
        if isinstance(value, str) and value:
            check_text(value, pointer_to(name), longest=MAX_ATTRIBUTES_BYTES)
    return encoded


def _check_json(media_type: str) -> None:
    """Refuse a media type of data other than JSON."""
    subtype = media_type.partition(";")[0].strip().lower().partition("/")[2]
    if subtype != "json" and not subtype.endswith("+json"):
        raise UnsupportedMediaType("The data of a CloudEvent must be JSON, but has another media type.")
