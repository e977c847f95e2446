"""Bodies as they come in: in pieces, inflated, and never more of them than the limit."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggers.errors import Overloaded, TooLarge, UnsupportedMediaType
from triggers.fairness.room import Room
from triggers.http import exchange
from triggers.http.exchange import Held


async def read(
    pieces: Iterable[bytes], limit: int = 100, coding: bytes = b"gzip", held: Held | None = None
) -> bytes:
    messages = ({"type": "http.request", "body": piece, "more_body": True} for piece in pieces)
    waiting = itertools.chain(messages, [{"type": "http.request"}])

    async def receive() -> dict[str, Any]:
        return next(waiting)

    return await exchange.read_body(receive, limit, coding, held)


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


A, B = UUID(int=1), UUID(int=2)
ZEROS = b"0" * 5_000_000


async def test_gzip_is_counted_as_it_came_until_it_is_whole() -> None:
    """Of what is only announced, or held back, nobody's room is taken."""
    room = Room(20_000_000)
    held = Held(room, A)
    sent = gzip.compress(ZEROS)
    counted = []

    def arriving() -> Iterable[bytes]:
        for piece in cut(sent, 1_000):
            yield piece
            counted.append(room.taken)

    assert await read(arriving(), len(ZEROS), held=held) == ZEROS
    assert counted[-1] == len(sent) < 10_000
    assert room.taken == len(ZEROS), "and what came as gzip is given back"
    held.release()
    assert (room.taken, room._held) == (0, {})


async def test_what_is_inflated_finds_room_piece_by_piece() -> None:
    room = Room(3_000_000)
    held = Held(room, A)
    with pytest.raises(Overloaded):
        await read([gzip.compress(ZEROS)], len(ZEROS), held=held)
    assert room.taken <= 1_600_000, "a half"
    other = Held(room, B)
    assert len(await read([gzip.compress(b"0" * 500_000)], len(ZEROS), held=other)) == 500_000
    held.release()
    other.release()
    assert room.taken == 0


async def test_a_piece_ends_where_the_body_does() -> None:
    for size in (65_535, 65_536, 65_537, 131_072):
        assert len(await read(cut(gzip.compress(b"x" * size), 7), 200_000)) == size
