"""Event bodies: every limit at both edges, and every fault with its pointer."""

from __future__ import annotations

import hashlib
import itertools
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggers.domain import MAX_BATCH_EVENTS, MAX_EVENT_BYTES, NewEvent, OrgId
from triggers.errors import Invalid, MalformedBody, RequestError, TooLarge
from triggers.events import batch
from triggers.events import body as event_body
from triggers.fairness.pace import at_once

ORG = OrgId(UUID(int=1))


def parse(text: bytes) -> NewEvent:
    numbers = itertools.count(1)
    return event_body.parse_event(text, ORG, lambda: UUID(int=next(numbers)))


def parse_json(**members: Any) -> NewEvent:
    return parse(json.dumps({"type": "a", "payload": 1} | members, ensure_ascii=False).encode())


def pointers(text: bytes | dict[str, Any]) -> list[str]:
    with pytest.raises(Invalid) as raised:
        parse(text) if isinstance(text, bytes) else parse_json(**text)
    return [error["pointer"] for error in raised.value.facts["errors"]]


@pytest.mark.parametrize(
    ("name", "longest"),
    [("type", 255), ("dedup_id", 255), ("subject", 255), ("ordering_key", 255), ("source", 2048)],
)
def test_lengths_are_counted_in_characters(name: str, longest: int) -> None:
    for fits in ("x", "x" * longest, "😀" * longest, "ÿ\u00a0\u2028"):
        assert getattr(parse_json(**{name: fits}), name) == fits
    for wrong in ("", "x" * (longest + 1), "\x00", "a\nb", "\x1f", "\x7f", "\x85", "\x9f"):
        assert pointers({name: wrong}) == [f"/{name}"], repr(wrong[:9])
    for other in (1, True, [], {}):
        assert pointers({name: other}) == [f"/{name}"]


def test_what_may_be_left_out() -> None:
    event = parse(b'{"type":"a","payload":1}')
    assert (event.dedup_id, event.source, event.subject, event.ordering_key, event.occurred_at) == (None,) * 5
    for name in ("dedup_id", "source", "subject", "ordering_key", "occurred_at"):
        assert getattr(parse_json(**{name: None}), name) is None
    assert pointers(b'{"payload":1}') == ["/type"]
    assert pointers(b'{"type":null,"payload":1}') == ["/type"]
    assert pointers(b'{"type":"a"}') == ["/payload"]
    assert parse(b'{"type":"a","payload":null}').payload == b"null"


def test_types_of_our_own_are_reserved() -> None:
    assert pointers({"type": "triggers.x"}) == ["/type"]
    assert parse_json(type="triggers").type == "triggers"
    assert parse_json(type="my.triggers.x").type == "my.triggers.x"


def test_data_is_another_name_for_payload() -> None:
    assert parse(b'{"type":"a","data": [1] }').payload == b"[1]"
    assert pointers(b'{"type":"a","data":1,"payload":1}') == ["/data"]


def test_unknown_fields_are_all_named() -> None:
    assert pointers(b'{"type":"a","payload":1,"x":1,"y/z":2,"~":3}') == ["/x", "/y~1z", "/~0"]
    assert pointers(b'{"x":1}') == ["/x"], "before what is missing"
    assert pointers(b'{"type":1,"Type":2,"payload":1}') == ["/Type"]
    many = b'{"type":"a","payload":1,%b}' % b",".join(b'"x%d":1' % n for n in range(500))
    with pytest.raises(Invalid) as raised:
        parse(many)
    assert len(raised.value.message) < 500


@pytest.mark.parametrize("text", [b"1", b"null", b"[]", b'"x"', b"[1,2]"])
def test_an_event_is_an_object(text: bytes) -> None:
    assert pointers(text) == [""]


def test_payloads_are_kept_to_the_byte() -> None:
    for payload in (b'{ "b":1.0,"a" : [1e400 ] }', b'"\\u0000\\/"', '"\ufffe😀"'.encode(), b"1" * 400):
        assert parse(b'{"type":"a" , "payload" : \n%b\t}' % payload).payload == payload


def test_a_fingerprint_is_of_type_and_payload_alone() -> None:
    def print_of(**members: Any) -> bytes:
        return parse_json(**members).fingerprint

    assert print_of() == hashlib.sha256(b"a\x001").digest()
    assert print_of(dedup_id="d", source="s", subject="x") == print_of()
    assert len({print_of(), print_of(type="b"), print_of(payload=2), print_of(payload="1")}) == 4


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-02-29T12:00:00Z", datetime(2024, 2, 29, 12, tzinfo=UTC)),
        ("2024-02-29t12:00:00.5+02:00", datetime(2024, 2, 29, 10, 0, 0, 500_000, tzinfo=UTC)),
        ("1970-01-01T00:00:00-00:00", datetime(1970, 1, 1, tzinfo=UTC)),
        ("2024-01-01T00:00:00.123456789Z", datetime(2024, 1, 1, 0, 0, 0, 123_457, tzinfo=UTC)),
        (f"2024-01-01T00:00:00.{'1' * 5_000}Z", datetime(2024, 1, 1, 0, 0, 0, 111_111, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2016, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        ("2017-01-01T00:59:60.123456789+01:00", datetime(2016, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        ("0002-01-01T00:00:00+23:59", datetime(1, 12, 31, 0, 1, tzinfo=UTC)),
        ("9998-12-31T23:59:59-23:59", datetime(9999, 1, 1, 23, 58, 59, tzinfo=UTC)),
    ],
)
def test_when_it_occurred(text: str, moment: datetime) -> None:
    assert parse_json(occurred_at=text).occurred_at == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2024-02-30T00:00:00Z",
        "2024-01-01",
        "2024-01-01T00:00:00",
        1704067200,
        "0001-01-01T00:00:00Z",
        "9999-01-01T00:00:00Z",
        "2016-12-31T23:59:61Z",
        "2016-12-31T23:59:600Z",
        "2016-12-31T23:59:60",
        "2016-12-31T23:60:60Z",
    ],
)
def test_when_it_cannot_have_occurred(text: Any) -> None:
    assert pointers({"occurred_at": text}) == ["/occurred_at"]


def test_a_leap_second_changes_no_other_error() -> None:
    leap = {"occurred_at": "2016-12-31T23:59:60Z"}
    assert pointers(leap | {"unknown": 1}) == ["/unknown"]
    assert pointers(leap | {"source": 1}) == ["/source"]


def test_an_event_has_a_size() -> None:
    frame = len(b'{"type":"a","payload":""}')
    fits = b'{"type":"a","payload":"%b"}' % (b"x" * (MAX_EVENT_BYTES - frame))
    assert len(parse(fits).payload) == MAX_EVENT_BYTES - frame + 2
    with pytest.raises(TooLarge):
        parse(fits + b" ")


# ---- batches --------------------------------------------------------------------------------------

ITEM = b'{"type":"a","payload":1}'


def split_batch(text: bytes, *, ndjson: bool) -> list[bytes]:
    return at_once(batch.split_lines(text) if ndjson else batch.split_array(text))


def test_lines_and_elements_are_the_same_items() -> None:
    items = [b'{"a" :1}', b"null", b'"x"', b"[1,2]", b'"\\ud800"', b"1e400", b'{"a":1,"a":2}']
    assert split_batch(b"[" + b" , ".join(items) + b"]", ndjson=False) == items
    for ending in (b"\n", b"\n\n", b"\n \t\n"):
        assert split_batch(ending.join(items) + ending, ndjson=True) == items
    with_returns = split_batch(b"\r\n".join(items) + b"\r\n", ndjson=True)
    assert [item.strip() for item in with_returns] == items


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"{}",
        b"null",
        b"[",
        b"[1",
        b"[1,",
        b"[1,]",
        b"[,1]",
        b"[1]]",
        b"[1] [2]",
        b"[1 2]",
        b"[tru]",
        b'["\\ud800"',
        b'["\\ud800",]',
        b'["\\ud800"]x',
        b"\xef\xbb\xbf[]",
        b"[" * 50_000,
        b"[" * 50_000 + b"]" * 49_999,
        b"[" * 50_000 + b"]" * 50_001,
        b"[1," + b"[" * 50_000 + b"]" * 50_000 + b" 2]",
    ],
    ids=lambda text: repr(text)[:20],
)
def test_a_broken_array_is_wrong_as_a_whole(text: bytes) -> None:
    with pytest.raises(MalformedBody):
        split_batch(text, ndjson=False)


@pytest.mark.parametrize("odd", [b'"\\ud800"', b"1"])
def test_a_batch_has_a_bound(odd: bytes) -> None:
    most = [odd, *[b"1"] * (MAX_BATCH_EVENTS - 1)]
    for join, ndjson in ((lambda items: b"[" + b",".join(items) + b"]", False), (b"\n".join, True)):
        assert len(split_batch(join(most), ndjson=ndjson)) == MAX_BATCH_EVENTS
        with pytest.raises(TooLarge):
            split_batch(join([*most, b"1"]), ndjson=ndjson)


@given(
    st.lists(
        st.sampled_from([ITEM, b"1", b"[[]]", b'"\\udfff"', b'{"a":[{}]}', b'"\xff"', b'", ]"', b"NaN"]),
        max_size=9,
    )
)
def test_every_array_of_items_comes_apart_where_it_was_joined(items: list[bytes]) -> None:
    assert split_batch(b" [ " + b" ,\n".join(items) + b" ] ", ndjson=False) == items


@pytest.mark.parametrize("levels", [129, 990, 1_000, 50_000])
@pytest.mark.parametrize(("begin", "end"), [(b"[", b"]"), (b'{"]":', b"}"), (b'[["\\"]",', b"]]")])
async def test_a_deep_item_spoils_only_itself(levels: int, begin: bytes, end: bytes) -> None:
    deep = b'{"type":"a","payload":' + begin * levels + b'"\xc3\xa9]"' + end * levels + b"}"
    items = [ITEM, deep, ITEM, b'"\\ud800"', deep, ITEM]
    assert split_batch(b"[" + b" ,\n".join(items) + b" ]", ndjson=False) == items
    parsed = await event_body.parse_batch(items, event_body.parse_event_in_steps, ORG, lambda: UUID(int=7))
    refused = TooLarge if len(deep) > MAX_EVENT_BYTES else MalformedBody
    assert [type(each) for each in parsed] == [NewEvent, refused, NewEvent, MalformedBody, refused, NewEvent]


async def test_a_bad_item_spoils_only_itself() -> None:
    parsed = await event_body.parse_batch(
        [ITEM, b"{", b"1", ITEM], event_body.parse_event_in_steps, ORG, lambda: UUID(int=7)
    )
    assert [type(each) for each in parsed] == [NewEvent, MalformedBody, Invalid, NewEvent]
    assert isinstance(parsed[1], RequestError)
