"""Writes that wait for the end of a turn of the loop."""

from __future__ import annotations

import asyncio
from typing import Any, cast

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
