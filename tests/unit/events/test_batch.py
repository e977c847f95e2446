"""Batches come apart as a plain reader takes them apart, in steps that are short whatever they hold."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepping import MOST_SECONDS, longest_step
from triggers.domain import MAX_BATCH_BYTES, MAX_BATCH_EVENTS
from triggers.errors import MalformedBody, TooLarge
from triggers.events import batch
from triggers.fairness.pace import at_once

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

# ---- the plain reader, which takes as long as a batch likes ---------------------------------------

_plain_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_lenient = json.JSONDecoder(parse_int=str, parse_float=str)
_ARRAY_BEGINS = re.compile(r"[ \t\r\n]*\[[ \t\r\n]*")
_ITEM_ENDS = re.compile(r"[ \t\r\n]*(?:,[ \t\r\n]*|(?P<last>\])[ \t\r\n]*\Z)")


def plainly(text: bytes) -> list[bytes]:
    try:
        return [bytes(item) for item in _plain_items(text)]
    except msgspec.ValidationError as error:
        raise MalformedBody(f"Not a JSON array of events: {error}.") from None
    except msgspec.DecodeError:
        pass
    decoded = text.decode("latin-1")
    items: list[bytes] = []
    step = _ARRAY_BEGINS.match(decoded)
    while step is not None:
        try:
            _, end = _lenient.raw_decode(decoded, step.end())
        except json.JSONDecodeError as error:
            raise MalformedBody(f"Not a JSON array of events: {error}.") from None
        items.append(text[step.end() : end])
        step = _ITEM_ENDS.match(decoded, end)
        if step is not None and step["last"]:
            return items
    raise MalformedBody("Not a JSON array of events.")


def outcome(read: Any, text: bytes) -> list[bytes] | str:
    try:
        found: list[bytes] = read(text)
    except (MalformedBody, TooLarge) as error:
        return error.message
    return found if len(found) <= MAX_BATCH_EVENTS else "too many"


def in_steps(text: bytes) -> list[bytes]:
    return at_once(batch.split_array(text))


blanks = st.sampled_from([b"", b"", b" ", b"\n", b"\r\n\t "])
scalars = st.sampled_from(
    [
        b"1",
        b"-0.5e3",
        b"true",
        b"null",
        b"NaN",
        b"-Infinity",
        b'""',
        b'"\\""',
        b'"], [{"',
        b'"\\ud800"',
        b'"\xff"',
    ]
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda parts: b"[" + b", ".join(parts) + b"]")
        | st.lists(inner, max_size=4).map(
            lambda parts: b"{" + b",".join(b'"{":' + each for each in parts) + b"}"
        )
    ),
    max_leaves=10,
)
# Long ones are not read at once, and take other ways through the code.
padding = st.sampled_from([b"", b"", b" " * 40_000, b"\t" * 300_000])
long_values = values | st.sampled_from(
    [
        b'"%b"' % (b"\\\\" * 20_000),
        b"[%b1]" % (b"[{}]," * 9_000),
        b"1" * 20_000,
        b'[{"a":"%b"}]' % (b"]" * 20_000),
    ]
)


@st.composite
def arrays(draw: st.DrawFn) -> bytes:
    items = draw(st.lists(st.tuples(blanks, long_values, blanks), max_size=5))
    return (
        draw(blanks)
        + b"["
        + b",".join(b"".join(each) for each in items)
        + draw(padding)
        + b"]"
        + draw(blanks)
    )


@settings(max_examples=300, deadline=None)
@given(arrays())
def test_an_array_comes_apart_as_a_plain_reader_has_it(text: bytes) -> None:
    assert outcome(in_steps, text) == outcome(plainly, text)


@settings(max_examples=500, deadline=None)
@given(
    arrays(),
    st.floats(0, 1),
    st.sampled_from([b"", *(bytes([each]) for each in b'[]{},:"\\1a \n\xff')]),
    st.booleans(),
)
def test_a_broken_array_has_the_problem_that_a_plain_reader_finds(
    text: bytes, where: float, put: bytes, replace: bool
) -> None:
    at = int(len(text) * where)
    broken = text[:at] + put + text[at + replace :]
    found, expected = outcome(in_steps, broken), outcome(plainly, broken)
    # Of what is broken in two ways each may name another one; a long text is read in another order.
    if len(broken) > 10_000 or re.match(rb"[ \t\r\n]*(\[[ \t\r\n]*\]|[^\[])", broken):
        assert type(found) is type(expected)
    else:
        assert found == expected


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"", b" ", b"\r", b"\x0b", b"1", b' {"a": 1}\r', b'"\xff"', b"[", b" " * 300_000])
    )
)
def test_lines_are_those_that_are_not_blank(lines: list[bytes]) -> None:
    text = b"\n".join(lines)
    assert at_once(batch.split_lines(text)) == [line for line in lines if line.strip()]


# ---- how long it takes ----------------------------------------------------------------------------


@pytest.mark.parametrize("begin", [b"", b"[", b"[[", b'["', b'[["', b'{"'])
@pytest.mark.parametrize(
    "unit",
    [
        b"[",
        b"]",
        b"1,",
        b"1",
        b'"",',
        b'"',
        b"\\",
        b'"\\',
        b" ",
        b"\n",
        b'{"a":',
        b"[],",
        b"[[[]]],",
        b'"\\ud800",',
    ],
)
def test_every_step_is_short_whatever_the_batch(begin: bytes, unit: bytes) -> None:
    text = (begin + unit * (MAX_BATCH_BYTES // len(unit)))[:MAX_BATCH_BYTES]
    assert longest_step(lambda: batch.split_array(text)) < MOST_SECONDS
    assert longest_step(lambda: batch.split_lines(text)) < MOST_SECONDS


@pytest.mark.parametrize("item", [b"1", b"[]", b'"\\ud800"', b'{"":{}}'])
def test_items_are_counted_as_they_are_found(item: bytes) -> None:
    """What stands behind the first item too many is not looked at."""
    most = b"[" + b",".join([item] * MAX_BATCH_EVENTS)
    assert len(in_steps(most + b"]")) == MAX_BATCH_EVENTS
    for rest in (b"," + item + b"]", b",broken"):
        with pytest.raises(TooLarge, match="at most 1,000 events"):
            in_steps(most + rest)
    lines = b"\n".join([item] * MAX_BATCH_EVENTS)
    with pytest.raises(TooLarge, match="at most 1,000 events"):
        at_once(batch.split_lines(lines + b"\n1"))
