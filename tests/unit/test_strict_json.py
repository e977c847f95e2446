"""The two readers of I-JSON: that they agree, and every trap that other readers fall into."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from triggers import strict_json
from triggers.errors import MalformedBody
from triggers.fairness.pace import at_once


def judge(check: Any, text: bytes) -> bool:
    try:
        check(text)
    except MalformedBody:
        return False
    return True


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


GOOD = [
    b"null",
    b" \t\r\n1 ",
    b"123456789012345678901234567890",
    b"9" * 5_000,
    b"0.10000000000000000555",
    b"1e400",
    b"-1E+400",
    b"1e-999999",
    b"-0",
    b'"\\u0000"',
    b'"\\ud83d\\ude00"',
    '"\ufffe\uffff\U0001fffe"'.encode(),
    '"\x7f\x80\u2028"'.encode(),
    b'{"":{"":{}}}',
    b'{"a":1,"b":1,"\\u0063":1}',
    b'{"a:":":","b\\u003a":"\\u003A"}',
    b'{"a":"\\\\u003a"}',
    b'[{"a":1},{"a":1}]',
    b'{"a":{"a":1}}',
    b'"[[[{{{"',
    b'"' + b"[" * 1_000 + b'"',
    b'"\\"' + b"[" * 1_000 + b'"',
    nested(128),
    b'{"a":' * 128 + b"1" + b"}" * 128,
    b"[" + nested(127) + b"," + nested(127) + b"]",
    b"[" + b"[]," * 1_000 + b"1]",
]

BAD = [
    b"",
    b" ",
    b"{",
    b"[1,]",
    b'{"a":1,}',
    b"{a:1}",
    b"'a'",
    b"01",
    b"1.",
    b".5",
    b"+1",
    b"1e",
    b"NaN",
    b"[Infinity]",
    b'{"a":-Infinity}',
    b"nul",
    b"1 2",
    b'"a\nb"',
    b'"\\x41"',
    b'"\x00"',
    b'{"a":1,"a":1}',
    b'{"a":1,"\\u0061":1}',
    b'{"a":{"b":1,"c":2,"b":3}}',
    b'[{"x":":"},{"a:":1,"a\\u003a":2}]',
    b'{"a":":","a":1}',
    b'{"a":"\\u003a","a":"\\u003a"}',
    b'{"a":":","a":"\\u003a"}',
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'{"\\ud800":1}',
    b'"\xff"',
    b'"\xc0\x80"',
    b'"\xed\xa0\x80"',
    b'"\xf4\x90\x80\x80"',
    b"\xef\xbb\xbf1",
    "1".encode("utf-16"),
    nested(129),
    b'{"a":' * 129 + b"1" + b"}" * 129,
    nested(100_000),
    b"[" * 100_000,
    b'"' + b"[" * 1_000,
    b'["' + b'\\"' * 500_000,  # hours, were each quote tried as a beginning
    b"{" + b",".join(b'"%d":1' % name for name in range(100_000)) + b',"99999":1}',
]


@pytest.mark.parametrize("text", GOOD, ids=lambda text: repr(text)[:40])
def test_what_is_json_everywhere(text: bytes) -> None:
    strict_json.check(text)
    at_once(strict_json._check_long(text))


@pytest.mark.parametrize("text", BAD, ids=lambda text: repr(text)[:40])
def test_what_is_not(text: bytes) -> None:
    with pytest.raises(MalformedBody) as raised:
        strict_json.check(text)
    assert raised.value.message.endswith(".")
    assert len(raised.value.message) < 300


names = st.sampled_from(["a", "b", "a:", ":", "\\", '"', "é", "\x00", "{", "u003a"]) | st.text(max_size=3)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | names,
    lambda inner: st.lists(inner, max_size=4) | st.lists(st.tuples(names, inner), max_size=4).map(tuple),
    max_leaves=12,
)


def write(value: Any, escaped: bool) -> str:
    """JSON of a value in which tuples of pairs are objects, duplicate names and all."""
    if isinstance(value, tuple):
        return (
            "{" + ", ".join(f"{write(name, escaped)} : {write(each, escaped)}" for name, each in value) + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join(write(each, escaped) for each in value) + "]"
    text = json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and escaped:
        return '"' + "".join(f"\\u{ord(c):04x}" if c in 'ab:{\\"' or ord(c) < 32 else c for c in value) + '"'
    return text


def has_duplicates(value: Any) -> bool:
    if isinstance(value, tuple):
        members = [name for name, _ in value]
        return len(set(members)) < len(members) or any(has_duplicates(each) for _, each in value)
    return isinstance(value, list) and any(map(has_duplicates, value))


@settings(max_examples=200, deadline=None)
@given(values, st.booleans())
def test_duplicate_names_are_always_found(value: Any, escaped: bool) -> None:
    text = write(value, escaped).encode(errors="surrogatepass")
    assert judge(strict_json.check, text) is not has_duplicates(value)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='{}[]:,"\\ua0d8ce1. -', max_size=14).map(str.encode) | st.binary(max_size=8))
@example(b'"\\u003a"')
@example(b"\xf0\x9f\x98")
def test_the_fast_reader_and_the_slow_one_agree(text: bytes) -> None:
    assert judge(strict_json.check, text) is judge(lambda text: at_once(strict_json._check_long(text)), text)


@given(st.integers(1, 300), st.sampled_from([b"[]", b'"]["', b'{"a":1}']))
def test_depth_is_counted_outside_strings(levels: int, core: bytes) -> None:
    deepest = levels + (core[:1] in b"[{")
    text = b"[" * levels + core + b"]" * levels
    assert judge(strict_json.check, text) is (deepest <= strict_json.MAX_DEPTH)


def test_the_place_is_named() -> None:
    for text, place in (
        (b'{"a":1,"a":2}', r"'a' occurs twice"),
        (b'"ab\xff"', "byte 3"),
        (nested(129), "128 levels"),
    ):
        with pytest.raises(MalformedBody) as raised:
            strict_json.check(text)
        assert re.search(place, raised.value.message)
