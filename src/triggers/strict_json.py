"""JSON as in I-JSON (RFC 7493): what is accepted here reads the same everywhere.

Strict UTF-8 without a byte order mark, no duplicate names, no lone surrogates, no NaN, at most
MAX_DEPTH deep. Numbers of any size and precision pass: they are kept as they were sent.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, NoReturn

import msgspec

from triggers.errors import MalformedBody

MAX_DEPTH = 128

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
# A string without an end matches too: else each of its escaped quotes would be tried as a beginning.
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)


def check(text: bytes) -> None:
    """Raise MalformedBody, saying what is wrong and where, unless the text is I-JSON.

    No C decoder tells duplicate names, but each drops all but one of them, and with each name
    goes a colon. So the text is decoded and written again: where the colons agree, no name was
    dropped. Where they do not, or an escaped colon may deceive, the slow reader decides.
    """
    try:
        value = _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        _check_slowly(text)
        return
    if (
        text.count(b":") != _encode(value).count(b":")
        or (b"\\" in text and b"\\u003" in text)
        or (text.count(b"[") + text.count(b"{") > MAX_DEPTH and _is_deep(value))
    ):
        _check_slowly(text)


def end_of_nested(text: bytes, start: int) -> int:
    """Where the array or object ends that begins at `start`, however deep; what is in it is not judged."""
    depth = 0
    for token in _BRACKETS.finditer(text, start):
        first = token[0][:1]
        if first in b"[{":
            depth += 1
        elif first in b"]}":
            depth -= 1
            if not depth:
                return token.end()
    raise MalformedBody("Not JSON: the text ends within an array or object.")


def _is_deep(value: Any) -> bool:
    """Whether a decoded value is nested too deep, level by level."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for each in level
            for child in (each.values() if type(each) is dict else each)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return False
    return True


def _check_depth(text: bytes) -> None:
    depth = 0
    for token in _BRACKETS.finditer(text):
        first = token[0][:1]
        if first in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise MalformedBody(f"Nested deeper than {MAX_DEPTH} levels at byte {token.start()}.")
        elif first in b"]}":
            depth -= 1


def _check_slowly(text: bytes) -> None:
    _check_depth(text)  # first: the reader below goes as deep as the text does
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        raise MalformedBody(f"Not UTF-8 at byte {error.start}.") from None
    try:
        value = json.loads(
            decoded,
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_int=str,  # the size of a number is the reader's business, not ours
            parse_float=str,
        )
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise MalformedBody(f"Not JSON: {error}.") from None
    except UnicodeEncodeError:
        raise MalformedBody("A string holds half of a surrogate pair.") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise MalformedBody(f"The name {twice!a} stands twice in one object.")
    return found


def _constant(name: str) -> NoReturn:
    raise MalformedBody(f"{name} is not JSON.")
