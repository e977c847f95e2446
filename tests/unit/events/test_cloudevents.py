"""CloudEvents: each mode byte for byte, and every error with its pointer."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from triggers.domain import MAX_EVENT_BYTES, NewEvent, OrgId
from triggers.errors import Invalid, MalformedBody, RequestError, TooLarge, UnsupportedMediaType
from triggers.events import cloudevents
from triggers.events.reading import parser_of, readers_of_batch
from triggers.fairness.pace import at_once

ORG = OrgId(UUID(int=1))
LEAST = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.paid"}
# Decoding and encoding these bytes would change them.
DATA = b'{ "b": 1.0e2, "a": 12345678901234567890123, "\xc3\xa9": "\\u00e9", "n": null }'


def structured(text: bytes) -> NewEvent:
    return at_once(cloudevents.parse_structured_in_steps(text, ORG, lambda: UUID(int=2)))


def structured_json(**members: Any) -> NewEvent:
    return structured(json.dumps(LEAST | members).encode())


def binary(body: bytes = b"", media_type: bytes | None = b"application/json", **headers: bytes) -> NewEvent:
    fields = {f"ce-{name}".encode(): str(value).encode() for name, value in LEAST.items()}
    fields |= {f"ce-{name}".encode(): value for name, value in headers.items()}
    if media_type is not None:
        fields[b"content-type"] = media_type
    return at_once(parser_of(fields)(body, ORG, lambda: UUID(int=2)))


def attributes(event: NewEvent) -> Any:
    return None if event.attributes is None else json.loads(event.attributes)


def pointers(refused: pytest.ExceptionInfo[Invalid]) -> list[str]:
    return [error["pointer"] for error in refused.value.facts["errors"]]


def test_a_structured_event_in_full() -> None:
    event = structured(
        b'{"specversion":"1.0","id":"A-1","source":"https://shop.example/x?y#z","type":"order.paid",'
        b'"subject":"a \\"b\\" \\u00fc","time":"2026-03-01T01:02:03.456+02:00",'
        b'"datacontenttype":"application/json",'
        b'"dataschema":"urn:schema:1","partitionkey":"customer 7","traceparent":"00-ab-cd-01","sequence":-5,'
        b'"sampled":true,"empty":"","gone":null,"data" : %b }' % DATA
    )
    assert event == NewEvent(
        org_id=ORG,
        id=UUID(int=2),  # type: ignore[arg-type]
        type="order.paid",
        payload=DATA,
        dedup_id="https://shop.example/x?y#z A-1",
        source="https://shop.example/x?y#z",
        subject='a "b" ü',
        ordering_key="customer 7",
        occurred_at=datetime(2026, 2, 28, 23, 2, 3, 456_000, tzinfo=UTC),
        attributes=b'{"dataschema":"urn:schema:1","traceparent":"00-ab-cd-01","sequence":-5,"sampled":true,"empty":""}',
    )


def test_a_leap_second_is_the_end_of_the_second_before() -> None:
    expected = datetime(2016, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    assert structured_json(time="2016-12-31T23:59:60Z").occurred_at == expected
    assert binary(time=b"2016-12-31T23:59:60.5Z").occurred_at == expected
    with pytest.raises(Invalid) as refused:
        structured_json(time="2016-12-31T23:59:61Z")
    assert pointers(refused) == ["/time"]


def test_a_binary_event_in_full() -> None:
    event = binary(
        DATA,
        subject=b"Euro%20%E2%82%AC%20%22%25",
        time=b"2026-03-01T01:02:03Z",
        dataschema=b"urn:schema:1",
        partitionkey=b'"customer \\"7\\""',
        traceparent=b"00-ab-cd-01",
        sequence=b"5",
    )
    assert event.payload == DATA
    assert (event.dedup_id, event.source, event.type) == ("/shop 1", "/shop", "order.paid")
    assert (event.subject, event.ordering_key) == ('Euro € "%', 'customer "7"')
    assert event.occurred_at == datetime(2026, 3, 1, 1, 2, 3, tzinfo=UTC)
    assert attributes(event) == {
        "dataschema": "urn:schema:1",
        "traceparent": "00-ab-cd-01",
        "sequence": "5",
    }


@pytest.mark.parametrize(
    "data", [b"1e400", b'"\\u003a"', b"-0.0", b"[ 1 ,2]", b"null", b'{"data":{"data":1}}']
)
def test_data_is_kept_to_the_byte(data: bytes) -> None:
    least = json.dumps(LEAST).encode()
    assert structured(least[:-1] + b',"data": %b }' % data).payload == data
    assert binary(b" %b\n" % data).payload == b" %b\n" % data


def test_without_data_the_payload_is_null() -> None:
    assert structured_json().payload == b"null"
    assert structured_json(datacontenttype="text/plain").payload == b"null"
    assert structured_json(data_base64=None).payload == b"null"
    for media_type in (None, b"application/json", b"text/plain"):
        assert binary(b"", media_type).payload == b"null"
    assert structured_json().attributes is None


@pytest.mark.parametrize(
    ("media_type", "is_json"),
    [
        ("application/json", True),
        ("application/json; charset=utf-8", True),
        ("Application/Vnd.Shop+JSON", True),
        ("text/json", True),
        ("text/plain", False),
        ("application/xml", False),
        ("json", False),
        ("application/jsonl", False),
    ],
)
def test_data_has_to_be_json(media_type: str, is_json: bool) -> None:
    if is_json:
        assert structured_json(data="x", datacontenttype=media_type).payload == b'"x"'
        assert binary(b'"x"', media_type.encode()).payload == b'"x"'
        return
    with pytest.raises(UnsupportedMediaType):
        structured_json(data="x", datacontenttype=media_type)
    with pytest.raises(UnsupportedMediaType):
        binary(b"x", media_type.encode())


def test_base64_is_not_supported() -> None:
    with pytest.raises(UnsupportedMediaType):
        structured_json(data_base64="AAAA")


@pytest.mark.parametrize(
    ("source", "event_id", "dedup_id"),
    [
        ("/s", "1 2", "/s 1 2"),
        ("/s", "x" * 252, "/s " + "x" * 252),
        ("/s", "x" * 253, "sha256:" + hashlib.sha256(b"/s " + b"x" * 253).hexdigest()),
        ("/ü", "😀" * 300, "sha256:" + hashlib.sha256("/ü ".encode() + "😀".encode() * 300).hexdigest()),
    ],
)
def test_source_and_id_together_are_the_dedup_id(source: str, event_id: str, dedup_id: str) -> None:
    assert structured_json(source=source, id=event_id).dedup_id == dedup_id


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"specversion": "0.3"}, "/specversion"),
        ({"specversion": "1.0.2"}, "/specversion"),
        ({"specversion": None}, "/specversion"),
        ({"id": ""}, "/id"),
        ({"id": 1}, "/id"),
        ({"id": "x" * 2049}, "/id"),
        ({"id": "a\nb"}, "/id"),
        ({"source": ""}, "/source"),
        ({"source": "my shop"}, "/source"),
        ({"type": ""}, "/type"),
        ({"type": "triggers.mine"}, "/type"),
        ({"subject": ""}, "/subject"),
        ({"subject": "x" * 256}, "/subject"),
        ({"partitionkey": ""}, "/partitionkey"),
        ({"time": "yesterday"}, "/time"),
        ({"time": "2026-01-01T00:00:00"}, "/time"),
        ({"dataschema": ""}, "/dataschema"),
        ({"Upper": "x"}, "/Upper"),
        ({"under_score": "x"}, "/under_score"),
        ({"": "x"}, "/"),
        ({"a": 1.5}, "/a"),
        ({"a": 2**31}, "/a"),
        ({"a": -(2**31) - 1}, "/a"),
        ({"a": ["x"]}, "/a"),
        ({"a": {"x": 1}}, "/a"),
        ({"a": "\x00"}, "/a"),
        ({"a": "x" * 8192}, ""),
        ({f"a{n}": None for n in range(2_000)}, ""),
        ({"a": "x" * 65_536}, ""),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(members: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Invalid) as refused:
        structured_json(**members)
    assert pointers(refused) == [pointer]


def test_attributes_up_to_their_limits() -> None:
    fits = "x" * (8192 - len('{"a":""}'))
    assert len(structured_json(a=fits).attributes or b"") == 8192
    with pytest.raises(Invalid):
        structured_json(a=fits + "x")
    assert attributes(structured_json(a=2**31 - 1, b=-(2**31), c=False)) == {
        "a": 2**31 - 1,
        "b": -(2**31),
        "c": False,
    }
    assert len(structured_json(data="x" * 200_000, a=fits).payload) == 200_002


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type"])
def test_the_four_are_required(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        structured(json.dumps({each: value for each, value in LEAST.items() if each != name}).encode())
    assert pointers(refused) == [f"/{name}"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"", MalformedBody),
        (b"[1", MalformedBody),
        (b'{"specversion":"1.0","id":"1","id":"2","source":"/s","type":"t"}', MalformedBody),
        (b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":"\xff"}', MalformedBody),
        (b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":1,"a":2}}', MalformedBody),
        (b"[]", Invalid),
        (b"null", Invalid),
        (b" " * (MAX_EVENT_BYTES + 1), TooLarge),
    ],
)
def test_what_is_no_event_is_refused(text: bytes, error: type[RequestError]) -> None:
    with pytest.raises(error):
        structured(text)


@pytest.mark.parametrize(
    ("headers", "pointer"),
    [
        ({"specversion": b"0.3"}, "ce-specversion"),
        ({"subject": b"%C0%A0"}, "ce-subject"),
        ({"subject": b"\xff"}, "ce-subject"),
        ({"subject": b"%00"}, "ce-subject"),
        ({"id": b""}, "ce-id"),
        ({"time": b"now"}, "ce-time"),
        ({"source": b"my%20shop"}, "ce-source"),
        ({"a-b": b"x"}, "ce-a-b"),
        ({"data": b"x"}, "ce-data"),
        ({"datacontenttype": b"application/json"}, "ce-datacontenttype"),
        ({"a": b"x" * 8192}, ""),
    ],
)
def test_wrong_headers_are_named(headers: dict[str, bytes], pointer: str) -> None:
    with pytest.raises(Invalid) as refused:
        binary(b"1", **headers)
    assert pointers(refused) == [pointer]


def test_binary_data_is_strict_json_within_the_limit_of_an_event() -> None:
    for broken in (b"x", b" ", b"1 2", b'{"a":1,"a":2}', b"\xef\xbb\xbf1", b"NaN"):
        with pytest.raises(MalformedBody):
            binary(broken)
    with pytest.raises(TooLarge):
        binary(b'"%b"' % (b"x" * MAX_EVENT_BYTES))


def test_the_media_type_decides_before_the_headers() -> None:
    marked = {b"ce-specversion": b"1.0"}
    for media_type in (b"application/cloudevents+json", b"Application/CloudEvents+JSON; charset=UTF-8"):
        assert parser_of(marked | {b"content-type": media_type}) is cloudevents.parse_structured_in_steps
    for media_type in (b"application/cloudevents+xml", b"application/cloudevents", b"text/plain"):
        with pytest.raises(UnsupportedMediaType):
            parser_of({b"content-type": media_type})
    with pytest.raises(UnsupportedMediaType):
        parser_of(marked | {b"content-type": b"application/cloudevents+xml"})
    with pytest.raises(UnsupportedMediaType):
        readers_of_batch(b"application/cloudevents+json")
