"""Bodies as they come in: in pieces, inflated, and never more of them than the limit."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggers.api import exchange
from triggers.errors import TooLarge, UnsupportedMediaType


async def read(pieces: Iterable[bytes], limit: int = 100, coding: bytes = b"gzip") -> bytes:
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": piece, "more_body": True} for piece in pieces
    ]
    waiting = iter([*messages, {"type": "http.request"}])

    async def receive() -> dict[str, Any]:
        return next(waiting)

    return await exchange.read_body(receive, limit, coding)


def cut(text: bytes, size: int) -> list[bytes]:
    return [text[begin : begin + size] for begin in range(0, len(text), size)]


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=3), st.integers(1, 200))
async def test_members_are_one_body_however_they_are_cut(members: list[bytes], size: int) -> None:
    sent = b"".join(map(gzip.compress, members))
    assert await read(cut(sent, size), 1_000) == b"".join(members)
    with pytest.raises(UnsupportedMediaType):
        await read(cut(sent[:-1], size), 1_000)
    with pytest.raises(UnsupportedMediaType):
        await read(cut(sent + b"x" * 9, size), 1_000)


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_the_limit_is_that_of_all_members(size: int) -> None:
    fits = gzip.compress(b"x" * 60) + gzip.compress(b"y" * 40)
    assert len(await read(cut(fits, size))) == 100
    for more in (b"z", b"z" * 50_000):
        with pytest.raises(TooLarge):
            await read(cut(fits + gzip.compress(more), size))


async def test_members_have_a_bound() -> None:
    empty = gzip.compress(b"")
    most = empty * exchange.MAX_GZIP_MEMBERS
    assert await read([most], 100_000) == b""
    with pytest.raises(UnsupportedMediaType):
        await read([most, empty], 100_000)
