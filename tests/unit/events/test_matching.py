"""JSON Pointers into payloads and the keys they make; hints as they travel."""

from __future__ import annotations

import hashlib
import itertools
import time
from typing import Any
from uuid import UUID

import pytest

from stepping import MOST_SECONDS, longest_step
from triggers.domain import EventId, NewEvent, OrgId
from triggers.events import matching as judging
from triggers.events.matching import (
    MAX_KEY,
    Judging,
    Pointed,
    parse_pointer,
)
from triggers.events.matching_store import StoredRule
from triggers.subscriptions.payload_filter import Budget
from triggers.wakeups.redis_link import pack_hint, unpack_hint

RFC_6901 = (
    b'{"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\\\j": 5, "k\\"l": 6,'
    b' " ": 7, "m~n": 8, "~1": 9}'
)


@pytest.mark.parametrize(
    ("pointer", "found"),
    [
        ("/foo", None),
        ("/foo/0", "bar"),
        ("/", "0"),
        ("/a~1b", "1"),
        ("/c%d", "2"),
        ("/e^f", "3"),
        ("/g|h", "4"),
        ("/i\\j", "5"),
        ('/k"l', "6"),
        ("/ ", "7"),
        ("/m~0n", "8"),
        ("/~01", "9"),
        ("/foo/1", "baz"),
        ("/foo/2", None),
        ("/foo/01", None),
        ("/foo/-", None),
        ("/foo/-1", None),
        ("/foo/", None),
        ("/foo/²", None),
        ("/foo/99999999999999999999999", None),
        ("/foo/0/0", None),
        ("/bar", None),
        ("/bar/baz", None),
        ("//0", None),
    ],
)
def test_pointers_of_the_rfc(pointer: str, found: str | None) -> None:
    assert Pointed(RFC_6901).key(parse_pointer(pointer)) == found


@pytest.mark.parametrize("payload", [b"1", b' "text" ', b"null", b"true"])
def test_a_scalar_payload_has_no_parts(payload: bytes) -> None:
    assert Pointed(payload).key(parse_pointer("/a")) is None
    key = payload.strip().strip(b'"').decode()
    assert Pointed(payload).key(()) == (None if key == "null" else key)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (b'"customer 1"', "customer 1"),
        (b'"caf\\u00e9 \xf0\x9f\x98\x80"', "café 😀"),
        (b'""', ""),
        (b"17", "17"),
        (b"1.0", "1.0"),
        (b"1.50", "1.50"),
        (b"1e2", "1e2"),
        (b"-1E+999999", "-1E+999999"),
        (b"123456789012345678901234567890", "123456789012345678901234567890"),
        (b"true", "true"),
        (b"null", None),
        (b'{"b": 1.0, "a": [1 , "x"]}', None),
        (b"[123456789012345678901234567890]", None),
        (b"{}", None),
        (b'"%b"' % (b"x" * MAX_KEY), "x" * MAX_KEY),
        (b'"%b"' % (b"x" * (MAX_KEY + 1)), hashlib.sha256(b"x" * (MAX_KEY + 1)).hexdigest()),
        (b"9" * 300, hashlib.sha256(b"9" * 300).hexdigest()),
        (b"9" * 5000, hashlib.sha256(b"9" * 5000).hexdigest()),
        (b'"a\\u0000b"', hashlib.sha256(b"a\0b").hexdigest()),
    ],
)
def test_keys(text: bytes, key: str | None) -> None:
    assert Pointed(text).key(()) == key
    assert Pointed(b' {"a":\n[%b]} ' % text).key(("a", "0")) == key


def test_a_number_of_thousands_of_digits_spoils_no_other_key() -> None:
    pointed = Pointed(b'{"n": %b, "m": -0.10, "k": 7}' % (b"9" * 5000))
    assert [pointed.key((name,)) for name in "nmk"] == [
        hashlib.sha256(b"9" * 5000).hexdigest(),
        "-0.10",
        "7",
    ]


def test_deep_payloads_and_many_pointers_cost_one_reading() -> None:
    depth = 120
    payload = b'{"a":' * depth + b"[%b1]" % (b"1," * 125_000) + b"}" * depth
    pointers = [parse_pointer("/a" * depth + "/7"), *(parse_pointer("/a" * n + "/b") for n in range(depth))]
    pointed = Pointed(payload)
    steps = [[*pointed.key_in_steps(pointer)] for pointer in pointers]
    assert len(steps[0]) == depth + 1, "each level is opened"
    assert not any(steps[1:]), "once"
    assert [pointed.key(pointer) for pointer in pointers] == ["1", *[None] * depth]


def test_a_hint_comes_out_as_it_went_in() -> None:
    orgs = {UUID(int=1), UUID(int=2)}
    lanes = [(UUID(int=1), UUID(int=3)), (UUID(int=2), UUID(int=4))]
    assert unpack_hint(pack_hint(orgs, lanes)) == (orgs, lanes)
    assert unpack_hint(pack_hint(orgs, [])) == (orgs, [])
    assert unpack_hint(pack_hint([], lanes)) == (set(), lanes)


@pytest.mark.parametrize("message", [b"", b"x", b"\xff" * 4, b"\xff" * 33, pack_hint({UUID(int=1)}, [])[:-1]])
def test_a_message_that_is_none_does_no_harm(message: bytes) -> None:
    org_ids, lanes = unpack_hint(message)
    assert len(org_ids) + len(lanes) <= 2


def test_a_value_is_made_a_key_once_however_many_pointers_lead_there(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(judging, "_key_of", lambda value: made.append(value) or "key")
    pointed = Pointed(b'{"k": "%b", "a": [1]}' % (b"x" * 255_000))
    assert [pointed.key(("k",)) for _ in range(999)] == ["key"] * 999
    assert pointed.key(("a", "0")) == "key"
    assert [len(each) for each in made] == [255_002, 1]


def test_keys_cost_one_pass_over_the_payload_however_many_there_are() -> None:
    """999 pointers to objects, each of which holds all the others."""
    depth = 120
    payload = b'{"a":' * depth + b'"%b"' % (b"x" * 250_000) + b"}" * depth
    pointed = Pointed(payload)
    began = time.thread_time()
    for _ in range(8):
        assert [pointed.key(("a",) * n) for n in range(depth)] == [None] * depth
    assert pointed.key(("a",) * depth) == hashlib.sha256(b"x" * 250_000).hexdigest()
    assert time.thread_time() - began < 1


@pytest.mark.parametrize("number", [b"1.7976931348623157e-300", b"1e1", b"1" * 4_000])
def test_numbers_beside_a_key_are_not_read(number: bytes) -> None:
    payload = b'{"a":[%b],"k":%b}' % (b",".join([number] * (250_000 // len(number))), number)
    pointed = Pointed(payload)
    key = number.decode()
    assert pointed.key(("k",)) == (key if len(key) <= MAX_KEY else hashlib.sha256(number).hexdigest())


def rules_of(*made: tuple[str | None, str | None]) -> judging.Rules:
    """Rules that want every type, by filter and pointer."""
    return judging.Rules(
        1,
        tuple(
            judging._ready(StoredRule(UUID(int=number), [], [], True, expression, pointer), {})
            for number, (expression, pointer) in enumerate(made)
        ),
    )


@pytest.mark.parametrize(
    "rules",
    [
        [(None, "/k")] * 999,
        [(None, f"/a/{number}/x") for number in range(999)],
        [(None, "/b" * 120)],
        [('payload.k.contains("xxxxxxxxxxxxxxxxxxxxxxxxxxxxy")', None)] * 200,
        [("payload.a.exists(x, x == payload.k)", None)] * 200,
        [("has(payload.a) && payload == payload", "/k")] * 200,
    ],
    ids=["one pointer", "many pointers", "a deep pointer", "searching", "looping", "comparing"],
)
@pytest.mark.parametrize(
    "payload",
    [
        b'{"k":"%b","a":[]}' % (b"x" * 255_000),
        b'{"k":1,"a":[%b0]}' % (b'{"x":1.7976931348623157e-300},' * 7_000),
        b'{"k":1,"a":[%b0]}' % (b"[]," * 80_000),
        b'{"k":1,"a":[%b0]}' % (b"{}," * 3_000),
        b'{"b":' * 120 + b"[%b0]" % (b"1," * 120_000) + b"}" * 120,
    ],
    ids=["a long text", "hard floats", "empty arrays", "objects", "deep"],
)
def test_judging_is_done_in_short_steps(
    rules: list[tuple[str | None, str | None]], payload: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By a clock that counts its readings, the time for filters is always used up after the same one.
    monkeypatch.setattr(judging, "Budget", lambda: Budget(20, itertools.count().__next__))
    of_all = rules_of(*rules)
    event = NewEvent(org_id=OrgId(UUID(int=1)), id=EventId(UUID(int=2)), type="a", payload=payload)
    database: Any = None  # nothing is stored
    assert longest_step(lambda: Judging(database)._findings(of_all, event)) < MOST_SECONDS
