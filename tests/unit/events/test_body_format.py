"""What is sent: the payload to the byte, and bodies that foreign code reads."""

import json
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cloudevents.core.formats.json import JSONFormat
from hypothesis import given
from hypothesis import strategies as st

from triggers.domain import EventId, NewEvent, OrgId
from triggers.events.body_format import render

ORG = OrgId(UUID("0192a3b4-0000-7000-8000-000000000001"))
EVENT = EventId(UUID("0192a3b4-c5d6-7e8f-9a0b-1c2d3e4f5a6b"))
# Bytes that a decoder and an encoder between would not give back.
PAYLOAD = b'{ "b": 1.0e2, "a": 12345678901234567890123, "\xc3\xa9": "\\u00e9", "n": null }'


def event(**fields: object) -> NewEvent:
    given = {"type": "order.created", "payload": PAYLOAD} | fields
    return NewEvent(org_id=ORG, id=EVENT, **given)  # type: ignore[arg-type]


def test_standard_holds_the_payload_to_the_byte() -> None:
    content_type, body = render("standard", event())
    assert content_type == "application/json"
    prefix = b'{"id":"%b","type":"order.created","timestamp":"2024-10-19T07:36:26.326Z","data":'
    assert body == prefix % str(EVENT).encode() + PAYLOAD + b"}"


def test_raw_is_the_payload() -> None:
    assert render("raw", event()) == ("application/json", PAYLOAD)


@pytest.mark.parametrize("body_format", ["standard", "cloudevents"])
def test_time_is_when_it_happened_in_utc(body_format: str) -> None:
    happened = datetime(2026, 3, 1, 1, 2, 3, 456_789, tzinfo=timezone(timedelta(hours=2)))
    body = json.loads(render(body_format, event(occurred_at=happened))[1])  # type: ignore[arg-type]
    assert (body.get("timestamp") or body.get("time")) == "2026-02-28T23:02:03.456Z"


@given(
    event_type=st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1),
    payload=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
)
def test_any_type_and_payload_read_back(event_type: str, payload: object) -> None:
    sent = json.dumps(payload).encode()
    read = json.loads(render("standard", event(type=event_type, payload=sent))[1])
    assert (read["type"], read["data"]) == (event_type, payload)


def test_cloudevents_are_read_by_their_own_package() -> None:
    happened = datetime(2026, 3, 1, 1, 2, 3, 456_000, tzinfo=UTC)
    content_type, body = render(
        "cloudevents", event(source="https://shop.example/x?y#z", subject='a "b" ü', occurred_at=happened)
    )
    read = from_http_event(HTTPMessage({"content-type": content_type}, body), JSONFormat())
    assert read.get_specversion() == "1.0"
    assert read.get_id() == str(EVENT)
    assert read.get_source() == "https://shop.example/x?y#z"
    assert read.get_type() == "order.created"
    assert read.get_subject() == 'a "b" ü'
    assert read.get_time() == happened
    assert read.get_datacontenttype() == "application/json"
    assert read.get_data() == json.loads(PAYLOAD)
    assert PAYLOAD in body


def test_cloudevents_without_the_optional_members() -> None:
    body = json.loads(render("cloudevents", event(payload=b"null"))[1])
    assert body == {
        "specversion": "1.0",
        "id": str(EVENT),
        "source": f"/orgs/{ORG}",
        "type": "order.created",
        "time": "2024-10-19T07:36:26.326Z",
        "datacontenttype": "application/json",
        "data": None,
    }


def test_cloudevents_hold_the_attributes_that_were_kept() -> None:
    body = render("cloudevents", event(attributes=b'{"dataschema":"urn:x","n":-1,"ok":true}'))[1]
    members = json.loads(body)
    assert (members["dataschema"], members["n"], members["ok"]) == ("urn:x", -1, True)
    assert members["data"] == json.loads(PAYLOAD)
    assert PAYLOAD in body


@pytest.mark.parametrize(
    ("source", "reference"),
    [
        ("urn:shop:7", "urn:shop:7"),
        ("/a%20b", "/a%20b"),
        ("my shop", "my%20shop"),
        ("50% off", "50%25%20off"),
        ('<"ü">', "%3C%22%C3%BC%22%3E"),
    ],
)
def test_cloudevents_source_is_a_uri_reference(source: str, reference: str) -> None:
    assert json.loads(render("cloudevents", event(source=source))[1])["source"] == reference
