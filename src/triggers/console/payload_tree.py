"""Draws a JSON payload as a tree from its bytes, so numbers keep their text and names keep their order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

import msgspec

from triggers.fairness.pace import Steps, at_once

_TOKEN: Final = re.compile(rb'[ \t\r\n]*("(?:[^"\\]|\\.)*"|[{}\[\],:]|[^ \t\r\n{}\[\],:"]+)', re.DOTALL)

_STEP_TOKENS: Final = 500

Kind = Literal["object", "array", "string", "number", "word"]


class TreeLine(NamedTuple):
    """One line of the tree. The `text` of a container is its bracket, and `size` is its number of members.

    `step`: "open" begins a container, and "close" ends it. Every other line, also that of an empty container,
    is a "leaf". `size` is None for a container that is not shown completely.
    """

    step: Literal["open", "close", "leaf"]
    kind: Kind
    depth: int
    name: str | None
    text: str
    size: int | None = None


class Tree(NamedTuple):
    """The first nodes of a payload. `whole`: whether these are all its nodes."""

    lines: list[TreeLine]
    whole: bool


def draw(payload: bytes, most: int) -> Tree:
    """Return the first `most` nodes of a payload, which is valid JSON. The rest of it is not read."""
    return at_once(draw_in_steps(payload, most))


def draw_in_steps(payload: bytes, most: int) -> Steps[Tree]:
    """`draw` in steps."""
    lines: list[TreeLine] = []
    open_at: list[int] = []  # the places where the open containers begin
    members: list[int] = []
    name: str | None = None
    tokens = _tokens(payload)
    drawn = 0
    for place, token in enumerate(tokens, start=1):
        if place % _STEP_TOKENS == 0:
            yield
        if token in b",:":
            continue
        if token in b"}]":
            _close(lines, open_at, members)
            continue
        if members and lines[open_at[-1]].kind == "object" and name is None:
            name = _string(token)
            continue
        if drawn == most:
            while open_at:
                lines.append(lines[open_at.pop()]._replace(step="close", name=None))
            return Tree(lines, whole=False)
        drawn += 1
        if members:
            members[-1] += 1
        if token in b"{[":
            open_at.append(len(lines))
            members.append(0)
            kind: Kind = "object" if token == b"{" else "array"
            lines.append(TreeLine("open", kind, len(open_at) - 1, name, token.decode()))
        else:
            lines.append(TreeLine("leaf", *_leaf(token, len(open_at), name)))
        name = None
    return Tree(lines, whole=True)


def _close(lines: list[TreeLine], open_at: list[int], members: list[int]) -> None:
    began, count = open_at.pop(), members.pop()
    if not count:
        both = "{}" if lines[began].kind == "object" else "[]"
        lines[began] = lines[began]._replace(step="leaf", text=both)
        return
    opened = lines[began] = lines[began]._replace(size=count)
    lines.append(opened._replace(step="close", name=None))


def _leaf(token: bytes, depth: int, name: str | None) -> tuple[Kind, int, str | None, str]:
    if token.startswith(b'"'):
        return "string", depth, name, _string(token)
    kind: Kind = "word" if token in (b"true", b"false", b"null") else "number"
    return kind, depth, name, token.decode()


def _string(token: bytes) -> str:
    try:
        return msgspec.json.decode(token, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return token[1:-1].decode("utf-8", "replace")


def _tokens(payload: bytes) -> Iterator[bytes]:
    return (match[1] for match in _TOKEN.finditer(payload))
