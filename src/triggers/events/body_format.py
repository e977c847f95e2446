"""The request bodies of deliveries, in each format. Pure functions.

Every body contains the payload's bytes exactly as they were sent. They are neither parsed nor changed.

standard     {"id", "type", "timestamp", "data"}, as Standard Webhooks defines it; data is the payload
raw          the payload and nothing else
cloudevents  CloudEvents 1.0 in structured JSON; data is the payload. An event that came as a CloudEvent keeps
             its `dataschema` and its extension attributes.

`timestamp` and `time` are the event's `occurred_at`, or the time when it was accepted if it has none.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final, Protocol, assert_never
from uuid import UUID

import msgspec

from triggers.domain import Format, minted_at, rfc3339

_encode = msgspec.json.Encoder().encode
# Characters that a URI reference cannot contain. It contains a percent sign only before two hex digits.
_NOT_IN_URI: Final = re.compile(r"[^A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]|%(?![0-9A-Fa-f]{2})")


class EventContent(Protocol):
    """The fields of an event that a body can contain."""

    @property
    def org_id(self) -> UUID: ...
    @property
    def id(self) -> UUID: ...
    @property
    def type(self) -> str: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def source(self) -> str | None: ...
    @property
    def subject(self) -> str | None: ...
    @property
    def occurred_at(self) -> datetime | None: ...
    @property
    def attributes(self) -> bytes | None: ...


def render(body_format: Format, event: EventContent) -> tuple[str, bytes]:
    """The content type and the body of a delivery of `event`."""
    match body_format:
        case "standard":
            return "application/json", _standard(event)
        case "raw":
            return "application/json", event.payload
        case "cloudevents":
            return "application/cloudevents+json", _cloudevents(event)
        case _:
            assert_never(body_format)


def notice(inbox_id: UUID, messages: int, *, redelivery: bool) -> tuple[str, bytes]:
    """The content type and the body of a notice that an inbox has received messages, without payloads."""
    body = {"inbox_id": str(inbox_id), "received_message_count": messages, "redelivery": redelivery}
    return "application/json", _encode(body)


def _standard(event: EventContent) -> bytes:
    return b'{"id":"%b","type":%b,"timestamp":"%b","data":%b}' % (
        str(event.id).encode(),
        _encode(event.type),
        _happened(event),
        event.payload,
    )


def _cloudevents(event: EventContent) -> bytes:
    return (
        b'{"specversion":"1.0","id":"%b","source":%b,"type":%b,%b"time":"%b"'
        b',"datacontenttype":"application/json",%b"data":%b}'
    ) % (
        str(event.id).encode(),
        _encode(_uri_reference(event.source) if event.source else f"/orgs/{event.org_id}"),
        _encode(event.type),
        b'"subject":%b,' % _encode(event.subject) if event.subject else b"",
        _happened(event),
        event.attributes[1:-1] + b"," if event.attributes else b"",
        event.payload,
    )


def _happened(event: EventContent) -> bytes:
    return (minted_at(event.id) if event.occurred_at is None else rfc3339(event.occurred_at)).encode()


def _uri_reference(source: str) -> str:
    """The source as a URI reference: characters that a URI reference cannot contain are percent-encoded."""
    return _NOT_IN_URI.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), source)
