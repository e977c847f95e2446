"""Writes that wait for the end of a turn of the loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest
import uvloop

from triggers.burst import Burst


class Wire:
    """A transport that keeps what it is given, beside what all of them were."""

    def __init__(self, name: str, log: list[tuple[str, bytes]]) -> None:
        self.name = name
        self.log = log
        self.closing = False
        self.ended = False

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        if self.ended:
            raise RuntimeError("Cannot call write() after write_eof()")
        self.log.append((self.name, data))


def wires(*names: str) -> tuple[list[tuple[str, bytes]], list[Any]]:
    log: list[tuple[str, bytes]] = []
    return log, [cast("asyncio.Transport", Wire(name, log)) for name in names]


async def test_all_of_a_turn_at_its_end_and_in_order() -> None:
    burst = Burst(asyncio.get_running_loop())
    log, (a, b) = wires("a", "b")
    burst.write(a, b"1")
    burst.write(b, b"2")
    burst.write(a, b"3")
    assert log == []
    await asyncio.sleep(0)
    assert log == [("a", b"1"), ("b", b"2"), ("a", b"3")]
    burst.write(b, b"4")
    await asyncio.sleep(0)
    assert log[3:] == [("b", b"4")]


async def test_at_once_when_asked_and_never_twice() -> None:
    burst = Burst(asyncio.get_running_loop())
    log, (a,) = wires("a")
    burst.write(a, b"1")
    burst.flush()
    assert log == [("a", b"1")]
    burst.write(a, b"2")
    await asyncio.sleep(0)
    assert log == [("a", b"1"), ("a", b"2")]


async def test_who_has_gone_costs_the_others_nothing() -> None:
    burst = Burst(asyncio.get_running_loop())
    log, (a, b) = wires("a", "b")
    burst.write(a, b"1")
    burst.write(b, b"2")
    a.closing = True
    await asyncio.sleep(0)
    assert log == [("b", b"2")]


async def test_a_connection_that_was_ended_takes_no_answer_from_the_others() -> None:
    burst = Burst(asyncio.get_running_loop())
    log, (a, b) = wires("a", "b")
    burst.write(a, b"1")
    burst.write(b, b"2")
    a.ended = True
    await asyncio.sleep(0)
    assert log == [("b", b"2")]


# --- what the gain depends on in uvloop: docs/adr/0006-burst-writes.md


@contextlib.contextmanager
def pairs(count: int) -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    made = [socket.socketpair() for _ in range(count)]
    try:
        for pair in made:
            for end in pair:
                end.setblocking(False)
        yield made
    finally:
        for pair in made:
            for end in pair:
                end.close()


def arrived(end: socket.socket) -> bytes:
    try:
        return end.recv(100, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


async def transport_of(end: socket.socket) -> asyncio.Transport:
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=end)
    return transport


def test_uvloop_keeps_no_write_until_the_turn_is_over() -> None:
    async def write_and_look() -> bytes:
        with pairs(1) as [(ours, theirs)]:
            transport = await transport_of(ours)
            transport.write(b"request")
            found = arrived(theirs)
            transport.abort()
            return found

    if uvloop.run(write_and_look()) != b"request":
        pytest.fail(
            "uvloop no longer sends when `write` is called but keeps what is written until the turn of the "
            "loop is over. Then it makes bursts by itself: measure again without Burst, as ADR 6 did, and "
            "remove Burst if less than 5 % is lost."
        )


def test_what_is_ready_in_a_turn_is_in_one_burst_on_uvloop() -> None:
    """Two requests, made by callbacks that are ready in the same turn, as answers of endpoints make them."""
    at_the_second: list[bytes] = []

    async def two_in_a_turn() -> list[bytes]:
        loop = asyncio.get_running_loop()
        burst = Burst(loop)
        with pairs(2) as made:
            transports = [await transport_of(ours) for ours, _ in made]

            def second() -> None:
                at_the_second.append(arrived(made[0][1]))
                burst.write(transports[1], b"second")

            loop.call_soon(burst.write, transports[0], b"first")
            loop.call_soon(second)
            async with asyncio.timeout(5):
                while not all(found := [arrived(theirs) for _, theirs in made]):  # noqa: ASYNC110 - a socket
                    await asyncio.sleep(0)
            for transport in transports:
                transport.abort()
            return found

    assert uvloop.run(two_in_a_turn()) == [b"first", b"second"]
    if at_the_second != [b""]:
        pytest.fail(
            "The first request was sent while another callback of the same turn was still waiting: uvloop "
            "no longer runs what `call_soon` registers after all that is ready. Then each request is "
            "written alone, and wakes its receiver: Burst needs another way to find the end of a turn "
            "(ADR 6)."
        )
