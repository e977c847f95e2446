"""JSON as in I-JSON (RFC 7493): what is accepted here reads the same everywhere.

Strict UTF-8 without a byte order mark, no duplicate names, no lone surrogates, no NaN, at most
MAX_DEPTH deep. Numbers of any size and precision pass: they are kept as they were sent.
"""

from __future__ import annotations

import json
import re
from array import array
from collections import Counter
from itertools import accumulate
from typing import Any, NoReturn

import msgspec

from triggers.errors import MalformedBody

MAX_DEPTH = 128

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
# A string without an end matches too: else each of its escaped quotes would be tried as a beginning.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_BRACKETS = re.compile(_STRING.pattern + rb"|[\[{]|[\]}]", re.DOTALL)
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # 1 and, as a signed byte, -1
_NO_BRACKET = bytes(set(range(256)).difference(b"[{]}"))
_NO_MARK = bytes(set(range(256)).difference(b":[{\\"))


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
    marks = text.translate(None, _NO_MARK)  # one walk through a long text, not four
    if (
        marks.count(b":") != _encode(value).count(b":")
        or (b"\\" in marks and b"\\u003" in text)
        or (marks.count(b"[") + marks.count(b"{") > MAX_DEPTH and _is_deep(text))
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


def _is_deep(text: bytes) -> bool:
    """Whether a text nests deeper than MAX_DEPTH: its brackets, strings left out, as steps up and down.

    No step of Python for each of them: a mebibyte of brackets must not be a second for everybody.
    """
    steps = _STRING.sub(b"", text).translate(_STEPS, _NO_BRACKET)
    return max(accumulate(array("b", steps)), default=0) > MAX_DEPTH


def _check_slowly(text: bytes) -> None:
    if _is_deep(text):  # first: the reader below goes as deep as the text does
        raise MalformedBody(f"Nested deeper than {MAX_DEPTH} levels.")
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
        raise MalformedBody(
            f"The name {twice!a} stands twice in one object.", logged="A name stands twice in one object."
        )
    return found


def _constant(name: str) -> NoReturn:
    raise MalformedBody(f"{name} is not JSON.")
