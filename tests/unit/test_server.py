"""The transport under uvicorn: head and body of an answer leave together, and nothing stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, cast

from triggers.api.server import OneWrite


class Wire:
    """A transport that remembers each system call it would make."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.calls.append(data)

    def writelines(self, pieces: Iterable[bytes]) -> None:
        self.calls.append(b"".join(pieces))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def get_extra_info(self, name: str) -> str:
        return name


def _joined(wire: Wire) -> Any:
    return OneWrite(cast("asyncio.Transport", wire), asyncio.get_running_loop())


async def test_head_and_body_are_one_call() -> None:
    wire = Wire()
    transport = _joined(wire)
    transport.write(b"head")
    transport.write(b"body")
    assert wire.calls == [b"headbody"]
    await asyncio.sleep(0)
    assert wire.calls == [b"headbody"]


async def test_a_head_alone_leaves_when_the_turn_ends() -> None:
    wire = Wire()
    transport = _joined(wire)
    transport.write(b"head")
    await asyncio.sleep(0)
    assert wire.calls == [b"head"]
    transport.write(b"first")
    await asyncio.sleep(0)
    assert wire.calls == [b"head", b"first"]


async def test_order_is_kept_over_many_pieces() -> None:
    wire = Wire()
    transport = _joined(wire)
    for piece in (b"1", b"2", b"3", b"4", b"5"):
        transport.write(piece)
    await asyncio.sleep(0)
    assert b"".join(wire.calls) == b"12345"


async def test_closing_writes_what_is_held_first() -> None:
    wire = Wire()
    transport = _joined(wire)
    transport.write(b"last")
    transport.close()
    assert wire.calls == [b"last"]
    assert wire.closed


async def test_nothing_is_written_on_a_connection_that_has_gone() -> None:
    wire = Wire()
    transport = _joined(wire)
    transport.write(b"head")
    wire.closed = True
    await asyncio.sleep(0)
    assert wire.calls == []


async def test_the_rest_is_the_transport_itself() -> None:
    assert _joined(Wire()).get_extra_info("peername") == "peername"
