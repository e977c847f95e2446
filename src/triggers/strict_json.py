"""Checks that a text is I-JSON (RFC 7493), which all parsers read in the same way.

I-JSON is strict UTF-8 without a byte order mark, duplicate names, unpaired surrogates and NaN. Here it also
nests at most MAX_DEPTH deep. Numbers of any size and precision are valid, and are kept as they were sent.

Strangers send the texts, and they are read on the event loop. So every text is read in steps of at most a
few milliseconds (`triggers.fairness.pace`).
"""

from __future__ import annotations

import json
import re
from array import array
from itertools import accumulate
from json.decoder import scanstring  # type: ignore[attr-defined]  # typeshed leaves it out
from typing import Any, NoReturn

import msgspec

from triggers.errors import MalformedBody
from triggers.fairness.pace import Steps, at_once

MAX_DEPTH = 128

AT_ONCE_BYTES = 32 * 1024
"""A text up to here is judged in one step."""

_STEP_BYTES = 4 * 1024
"""So much of a text is read in one step by what is written in Python."""

# Limits on texts that are decoded and encoded again, which is one step that cannot be divided.
_MAX_MARKS = 20_000
_LONG_NUMBER = b"0" * 400  # the time for an integer grows with the square of its digits
_DIGITS_AS_ZEROS = bytes.maketrans(b"123456789", b"000000000")

# Of a float its length will do: some take a hundred times as long to read as others.
_decode = msgspec.json.Decoder(float_hook=len).decode
_encode = msgspec.json.Encoder().encode
_skip = msgspec.json.Decoder(msgspec.Raw).decode  # checks grammar and surrogates, and builds nothing
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # 1 and, as a signed byte, -1
_NO_BRACKET = bytes(set(range(256)).difference(b"[{]}"))
_NO_MARK = bytes(set(range(256)).difference(b":[{\\"))


def check(text: bytes) -> None:
    """Raise MalformedBody, saying what is wrong and where, unless the text is I-JSON."""
    if len(text) > AT_ONCE_BYTES or not _is_plain(text):
        at_once(_check_long(text))


def check_in_steps(text: bytes) -> Steps[None]:
    """`check` in steps."""
    if len(text) > AT_ONCE_BYTES or not _is_plain(text):
        yield
        yield from _check_long(text)


def is_grammatical(value: bytes) -> bool:
    """Whether a text is one JSON value by its grammar and without lone surrogates.

    Names, depth and UTF-8 are not checked. This takes a millisecond for 256 KiB.

    Raises:
        RecursionError: the text nests too deeply to be checked, and more deeply than MAX_DEPTH.
    """
    try:
        _skip(value)
    except msgspec.DecodeError:
        return False
    return True


def _is_plain(text: bytes) -> bool:
    """Whether a fast check shows that a text is I-JSON. False: a slower reader has to decide.

    No C decoder reports duplicate names. But it keeps only one member of each name, and a member has a colon.
    So the text is decoded and encoded again. If both texts have the same number of colons, no name was
    dropped. If the numbers differ, or if there may be escaped colons, the answer is False.
    """
    try:
        return _has_all_colons(text, _decode(text))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _has_all_colons(text: bytes, value: Any) -> bool:
    marks = text.translate(None, _NO_MARK)  # one walk through a long text, not four
    return (
        marks.count(b":") == _encode(value).count(b":")
        and not (b"\\" in marks and b"\\u003" in text)
        and (marks.count(b"[") + marks.count(b"{") <= MAX_DEPTH or not _is_deep(text))
    )


def _check_long(text: bytes) -> Steps[None]:
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        raise MalformedBody(f"Not valid UTF-8 at byte {error.start}.") from None
    try:
        grammatical = is_grammatical(text)
    except RecursionError:
        grammatical = False  # what is too deep is found where it becomes so
    yield
    if not grammatical:
        yield from _explain(decoded)
    elif _is_quick(text):
        yield
        value = _decode(text)
        yield
        if _has_all_colons(text, value):
            return
        del value
        yield
    yield from _check_names(text)


def _is_quick(text: bytes) -> bool:
    """Whether a text that is JSON takes little time to decode."""
    marks = text.count(b"[") + text.count(b"{") + text.count(b":")
    return marks <= _MAX_MARKS and _LONG_NUMBER not in text.translate(_DIGITS_AS_ZEROS)


def _is_deep(text: bytes) -> bool:
    """Whether a text that is JSON nests deeper than MAX_DEPTH: its brackets as steps up and down.

    Without its escapes, every other part between quotes is outside of strings.
    """
    parts = text.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
    steps = b"".join(parts[::2]).translate(_STEPS, _NO_BRACKET)
    return max(accumulate(array("b", steps)), default=0) > MAX_DEPTH


# ---- a text that is JSON by its grammar ----------------------------------------------------------

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_BLANKS = rb"[ \t\r\n]*+"
# A name, or a bracket; strings that are values are passed over, but not without end.
_NAME_OR_BRACKET = re.compile(
    rb'(?:[^"\[\]{}]++|%b%b(?!:)){0,1000}+(?:(%b)%b:|([\[{])|([\]}]))?'
    % (_STRING, _BLANKS, _STRING, _BLANKS),
    re.DOTALL,
)


def _check_names(text: bytes) -> Steps[None]:
    """Refuse a name that stands twice in one object, and what nests too deep."""
    names: list[set[bytes]] = []
    pause_at = _STEP_BYTES
    for match in _NAME_OR_BRACKET.finditer(text):
        kind = match.lastindex
        if kind == 1:
            name = match[1] if b"\\" not in match[1] else _encode(_decode(match[1]))
            if name in names[-1]:
                _refuse_name(name)
            names[-1].add(name)
        elif kind == 2:
            if len(names) == MAX_DEPTH:
                _refuse_depth()
            names.append(set())
        elif kind == 3:
            names.pop()
        if match.end() > pause_at:
            pause_at = match.end() + _STEP_BYTES
            yield


def _refuse_name(quoted: bytes) -> NoReturn:
    raise MalformedBody(
        f"The name {_decode(quoted)!a} occurs twice in one object.",
        logged="A name occurs twice in one object.",
    )


def _refuse_depth() -> NoReturn:
    raise MalformedBody(f"Nested more than {MAX_DEPTH} levels deep.")


# ---- a text that is not --------------------------------------------------------------------------

_BLANK = re.compile(r"[ \t\n\r]*+")
_SCALAR = re.compile(
    r"true|false|null|(NaN|-?Infinity)|-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][-+]?[0-9]++)?+"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_CLOSING = {"[": "]", "{": "}"}


def _explain(text: str) -> Steps[None]:
    """Raise MalformedBody with the first thing that makes a text no JSON."""
    if text.startswith("\ufeff"):
        raise MalformedBody("Not JSON: the text begins with a byte order mark.")
    try:
        end = yield from end_of_value(text, _after_blanks(text, 0))
        if (end := _after_blanks(text, end)) != len(text):
            raise json.JSONDecodeError("Extra data", text, end)
    except json.JSONDecodeError as error:
        raise MalformedBody(f"Not JSON: {error}.") from None


def end_of_value(text: str, start: int, *, lenient: bool = False) -> Steps[int]:
    """Where the JSON value ends that begins at `start`.

    The errors are those of Python's own reader, word for word; that one cannot be interrupted.
    `lenient`: what is JSON by its grammar but not I-JSON passes, and so do NaN and Infinity.

    Raises:
        json.JSONDecodeError: it does not end, or is not JSON.
        MalformedBody: it nests deeper than MAX_DEPTH; half of a surrogate pair, or NaN.
    """
    at, pause_at = start, start + _STEP_BYTES
    opened: list[str] = []
    while True:
        if at > pause_at:
            pause_at = at + _STEP_BYTES
            yield
        mark = text[at : at + 1]
        if closing := _CLOSING.get(mark):
            if len(opened) == MAX_DEPTH:
                _refuse_depth()
            at = _after_blanks(text, at + 1)
            if text[at : at + 1] != closing:
                opened.append(mark)
                at = at if mark == "[" else _after_name(text, at, lenient)
                continue
            at += 1
        else:
            at = _after_scalar(text, at, lenient)
        while opened:  # a value has ended: what follows belongs to what it is in
            at = _after_blanks(text, at)
            mark = text[at : at + 1]
            if mark == ",":
                at = _after_blanks(text, at + 1)
                at = at if opened[-1] == "[" else _after_name(text, at, lenient)
                break
            if mark != _CLOSING[opened[-1]]:
                raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
            opened.pop()
            at += 1
        else:
            return at


def _after_blanks(text: str, at: int) -> int:
    blanks = _BLANK.match(text, at)
    assert blanks is not None  # it matches nothing, too
    return blanks.end()


def _after_name(text: str, at: int, lenient: bool) -> int:
    """Where the value of a member begins."""
    if text[at : at + 1] != '"':
        raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text, at)
    at = _after_blanks(text, _after_string(text, at, lenient))
    if text[at : at + 1] != ":":
        raise json.JSONDecodeError("Expecting ':' delimiter", text, at)
    return _after_blanks(text, at + 1)


def _after_scalar(text: str, at: int, lenient: bool) -> int:
    if text[at : at + 1] == '"':
        return _after_string(text, at, lenient)
    found = _SCALAR.match(text, at)
    if found is None:
        raise json.JSONDecodeError("Expecting value", text, at)
    if found[1] and not lenient:
        raise MalformedBody(f"{found[1]} is not valid in JSON.")
    return found.end()


def _after_string(text: str, at: int, lenient: bool) -> int:
    value: str
    end: int
    value, end = scanstring(text, at + 1, True)
    if not lenient and _SURROGATE.search(value):
        raise MalformedBody("A string contains half of a surrogate pair.")
    return end
