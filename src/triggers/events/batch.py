"""Splits the body of a batch into its items, whose bytes stay as they were sent.

This is done in steps, so that other requests do not wait for it. Items are counted as they are found, so
splitting ends with an error at item 1,001.
"""

from __future__ import annotations

import json
import re
from array import array
from itertools import accumulate
from typing import NoReturn

import msgspec

from triggers import strict_json
from triggers.domain import MAX_BATCH_EVENTS, MAX_EVENT_BYTES
from triggers.errors import MalformedBody, TooLarge
from triggers.fairness.pace import Steps

_AT_ONCE_BYTES = 32 * 1024
_STEP_BYTES = 4 * 1024
_WINDOW_BYTES = 16 * 1024  # of items up to here, Python's own reader finds the end at once
_LONG_STEP_BYTES = 256 * 1024  # of what a pattern passes over without stopping

_NOT_AN_ARRAY = "Not a JSON array of events"
_BLANKS = re.compile(rb"[ \t\r\n]*+")
_WHITESPACE = re.compile(rb"\s*+")
_SCALAR = re.compile(rb'[^\s,:"\[\]{}]*+')
_REST_OF_STRING = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'
_TO_BRACKET = re.compile(rb'[^"\[\]{}]*+(?:"%b"[^"\[\]{}]*+)*+([\[\]{}])?' % _REST_OF_STRING, re.DOTALL)
_TO_QUOTE = re.compile(_REST_OF_STRING + rb'("?)', re.DOTALL)
_STRING = re.compile(rb'"%b"' % _REST_OF_STRING, re.DOTALL)
_WHOLE_STRINGS = re.compile(rb'[^"]*+(?:"%b"[^"]*+)*+' % _REST_OF_STRING, re.DOTALL)
_DEEPER = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # 1 and, as a signed byte, -1
_NO_BRACKET = bytes(set(range(256)).difference(b"[{]}"))
# Lenient, and nothing is made of numbers.
_read = json.JSONDecoder(parse_int=len, parse_float=len).raw_decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


def split_lines(text: bytes) -> Steps[list[bytes]]:
    """The lines of NDJSON that are not empty.

    Raises:
        TooLarge: more items than a batch may have.
    """
    items: list[bytes] = []
    at = 0
    while True:
        begins = yield from _pass(_WHITESPACE, text, at)
        if begins == len(text):
            return items
        _check_room(items)
        line = text.rfind(b"\n", at, begins)
        end = text.find(b"\n", begins)
        end = len(text) if end < 0 else end
        items.append(text[at if line < 0 else line + 1 : end])
        yield
        at = end


def split_array(text: bytes) -> Steps[list[bytes]]:
    """The elements of a JSON array.

    An item that is grammatical JSON but not I-JSON does not affect the other items. Neither does an item that
    is too large or nested too deeply; only the end of such an item is searched.

    Raises:
        MalformedBody: the array as such is broken.
        TooLarge: more items than a batch may have.
    """
    if len(text) <= _AT_ONCE_BYTES and (found := _split_at_once(text)) is not None:
        return found
    at = yield from _pass(_BLANKS, text, 0)
    if text[at : at + 1] != b"[":
        _refuse_other(text[at : at + 100])
    at = yield from _pass(_BLANKS, text, at + 1)
    items: list[bytes] = []
    mark = text[at : at + 1]
    while mark != b"]" or items:
        _check_room(items)
        end = yield from _end_of_item(text, at)
        items.append(text[at:end])
        yield
        at = yield from _pass(_BLANKS, text, end)
        mark = text[at : at + 1]
        if mark == b"]":
            break
        if mark != b",":
            raise MalformedBody(f"{_NOT_AN_ARRAY}.")
        at = yield from _pass(_BLANKS, text, at + 1)
    at = yield from _pass(_BLANKS, text, at + 1)
    if at != len(text):
        raise MalformedBody(f"{_NOT_AN_ARRAY}.")
    return items


def _split_at_once(text: bytes) -> list[bytes] | None:
    """The elements of a valid array that is not too long; None for any other text."""
    try:
        items = _decode_items(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    return [bytes(item) for item in items] if len(items) <= MAX_BATCH_EVENTS else None


def _check_room(items: list[bytes]) -> None:
    if len(items) == MAX_BATCH_EVENTS:
        raise TooLarge(f"A batch must have at most {MAX_BATCH_EVENTS:,} events.")


def _refuse_other(beginning: bytes) -> NoReturn:
    try:
        _decode_items(beginning)
    except msgspec.ValidationError as error:
        raise MalformedBody(f"{_NOT_AN_ARRAY}: {error}.") from None
    except (msgspec.DecodeError, RecursionError):
        pass
    raise MalformedBody(f"{_NOT_AN_ARRAY}.")


def _end_of_item(text: bytes, start: int) -> Steps[int]:
    window = text[start : start + _WINDOW_BYTES]
    try:
        _, length = _read(window.decode("latin-1"))  # outside of strings JSON is ASCII
    except (ValueError, RecursionError):
        length = len(window)  # it ends beyond, is deep, or is none
    if length < len(window):
        return start + length
    yield
    end, depth = yield from _extent(text, start)
    if depth > strict_json.MAX_DEPTH or (end or len(text)) - start > MAX_EVENT_BYTES:
        if end is None:
            raise MalformedBody("Not JSON: the text ends inside an array or object.")
        return end
    item = text[start:end]
    if end is not None and strict_json.is_grammatical(item):
        return end
    yield
    try:
        length = yield from strict_json.end_of_value(item.decode("latin-1"), 0, lenient=True)
    except json.JSONDecodeError as error:
        place = json.JSONDecodeError(error.msg, text.decode("latin-1"), start + error.pos)
        raise MalformedBody(f"{_NOT_AN_ARRAY}: {place}.") from None
    if length != len(item):
        raise MalformedBody(f"{_NOT_AN_ARRAY}.")
    return start + length


def _extent(text: bytes, start: int) -> Steps[tuple[int | None, int]]:
    """The end of the value that begins at `start` (None if it has no end), and its depth."""
    match text[start : start + 1]:
        case b"[" | b"{":
            return (yield from _extent_of_nested(text, start))
        case b'"':
            return (yield from _end_of_string(text, start)), 0
        case _:
            return (yield from _pass(_SCALAR, text, start)), 0


def _extent_of_nested(text: bytes, start: int) -> Steps[tuple[int | None, int]]:
    at, depth, deepest = start, 0, 0
    while at < len(text):
        if at - start > _AT_ONCE_BYTES:  # it is long: most steps pass over what it does not end in
            at, depth, deepest = yield from _pass_over(text, at, depth, deepest)
        for match in _TO_BRACKET.finditer(text, at, at + _STEP_BYTES):
            if mark := match[1]:
                depth += _DEEPER[mark]
                if depth > deepest:
                    deepest = depth
                elif not depth:
                    return match.end(), deepest
                at = match.end()
            elif (at := match.end()) < len(text) and text[at : at + 1] == b'"':
                end = yield from _end_of_string(text, at)  # one that is longer than a step, or has no end
                at = len(text) if end is None else end
                break
        yield
    return None, deepest


def _pass_over(text: bytes, at: int, depth: int, deepest: int) -> Steps[tuple[int, int, int]]:
    """Skip text within a nested value. Return the position, its depth and the greatest depth on the way."""
    while True:
        whole = _WHOLE_STRINGS.match(text, at, at + _STEP_BYTES)
        assert whole is not None  # it matches nothing, too
        steps = _STRING.sub(b"", whole[0]).translate(_STEPS, _NO_BRACKET)
        depths = list(accumulate(array("b", steps), initial=depth))
        if whole.end() == at or min(depths) <= 0:
            return at, depth, deepest
        at, depth, deepest = whole.end(), depths[-1], max(deepest, *depths)
        yield


def _end_of_string(text: bytes, start: int) -> Steps[int | None]:
    at = start + 1
    while True:
        match = _TO_QUOTE.match(text, at, at + _STEP_BYTES)
        assert match is not None  # it matches nothing, too
        if match[1]:
            return match.end()
        if match.end() == at:
            return None
        at = match.end()
        yield


def _pass(pattern: re.Pattern[bytes], text: bytes, at: int) -> Steps[int]:
    """The end of the text that `pattern` matches from `at` on."""
    while True:
        match = pattern.match(text, at, at + _LONG_STEP_BYTES)
        assert match is not None  # it matches nothing, too
        if match.end() < at + _LONG_STEP_BYTES:
            return match.end()
        at = match.end()
        yield
