"""JSON Pointers into payloads and the keys they make; hints as they travel."""

from __future__ import annotations

import hashlib
import time
from uuid import UUID

import pytest

from triggers.judging import MAX_KEY, Pointed, parse_pointer
from triggers.storage.redis_link import pack_hint, unpack_hint

RFC_6901 = (
    b'{"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\\\j": 5, "k\\"l": 6,'
    b' " ": 7, "m~n": 8, "~1": 9}'
)


@pytest.mark.parametrize(
    ("pointer", "found"),
    [
        ("/foo", '["bar","baz"]'),
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
    assert Pointed(payload).key(()) == payload.strip().strip(b'"').decode()


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
        (b"null", "null"),
        (b'{"b": 1.0, "a": [1 , "x"]}', '{"b":1.0,"a":[1,"x"]}'),
        (b"[123456789012345678901234567890]", "[123456789012345678901234567890]"),
        (b'"%b"' % (b"x" * MAX_KEY), "x" * MAX_KEY),
        (b'"%b"' % (b"x" * (MAX_KEY + 1)), hashlib.sha256(b"x" * (MAX_KEY + 1)).hexdigest()),
        (b"9" * 300, hashlib.sha256(b"9" * 300).hexdigest()),
        (b"9" * 5000, hashlib.sha256(b"9" * 5000).hexdigest()),
        (b'"a\\u0000b"', hashlib.sha256(b"a\0b").hexdigest()),
    ],
)
def test_keys(text: bytes, key: str) -> None:
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
    began = time.perf_counter()
    pointed = Pointed(payload)
    assert [pointed.key(pointer) for pointer in pointers] == ["1", *[None] * depth]
    assert time.perf_counter() - began < 0.25


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
