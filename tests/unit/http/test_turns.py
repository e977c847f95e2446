"""Whoever makes the loop work without end gets a little of it in each of its turns."""

from __future__ import annotations

import asyncio
from typing import Any

from harness import eventually
from serving import GET, give_back, running
from triggers.http.pipeline import MAX_AHEAD
from triggers.http.turns import AT_ONCE, LEFTOVERS_SECONDS, Turns


async def turns_of(turns: Turns, calls: int) -> list[int]:
    """How many calls were made in each turn of the loop."""
    made = 0

    def call() -> None:
        nonlocal made
        made += 1

    for _ in range(calls):
        turns.wait(call)
    found = []
    while sum(found) < calls:
        await asyncio.sleep(0)
        found.append(made - sum(found))
    return found


async def test_a_few_calls_are_made_in_a_turn() -> None:
    found = await turns_of(Turns(asyncio.get_running_loop(), at_once=3), 10)
    assert [number for number in found if number] == [3, 3, 3, 1]


async def test_calls_may_ask_for_the_next_turn_and_keep_their_order() -> None:
    turns, seen = Turns(asyncio.get_running_loop(), at_once=2), []

    def call(name: str, again: int) -> None:
        seen.append(name)
        if again:
            turns.wait(lambda: call(name, again - 1))

    for name in "abc":
        turns.wait(lambda name=name: call(name, 1))  # type: ignore[misc]
    await eventually(lambda: len(seen) == 6)
    assert "".join(seen) == "abcabc"


async def test_a_call_that_raises_takes_nothing_from_the_others() -> None:
    loop, seen, raised = asyncio.get_running_loop(), [], []
    loop.set_exception_handler(lambda _, context: raised.append(context["exception"]))
    turns = Turns(loop, at_once=3)
    turns.wait(lambda: 1 // 0)
    for number in range(4):
        turns.wait(lambda number=number: seen.append(number))  # type: ignore[misc]
    await eventually(lambda: len(seen) == 4)
    assert seen == [0, 1, 2, 3]
    assert [type(each) for each in raised] == [ZeroDivisionError]


async def test_between_turns_nothing_is_done_for_as_long_as_is_said() -> None:
    loop = asyncio.get_running_loop()
    turns, seen = Turns(loop, at_once=2, every_seconds=0.02), []
    began = loop.time()
    for _ in range(6):
        turns.wait(lambda: seen.append(loop.time() - began))
    await eventually(lambda: len(seen) == 6)
    assert seen[0] > 0.015
    assert seen[5] > 0.045


async def test_pipelined_requests_of_many_leave_turns_for_others() -> None:
    """Of all requests behind another one, few are begun in the same turn of the loop."""
    turn, begun = 0, []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.append((turn, scope["path"]))
        await give_back(scope, receive, send)

    def count() -> None:
        nonlocal turn
        turn += 1
        loop.call_soon(count)

    loop = asyncio.get_running_loop()
    connections, requests = 30, 10
    assert requests < MAX_AHEAD
    text = GET.replace(b" / ", b" /first ") + GET.replace(b" / ", b" /behind ") * requests
    async with running(app) as (_, address):
        loop.call_soon(count)
        pairs = [await asyncio.open_connection(*address) for _ in range(connections)]
        for _, writer in pairs:
            writer.write(text)
        await eventually(lambda: len(begun) == connections * (requests + 1), 10)
        for _, writer in pairs:
            writer.close()
    behind = [number for number, path in begun if path == "/behind"]
    assert len(behind) == connections * requests
    assert max(behind.count(number) for number in set(behind)) <= 2 * AT_ONCE, "two sorts of work take turns"


async def test_what_comes_after_the_last_answer_is_read_slowly() -> None:
    """So that those who send without end after a refusal do not take the loop from others."""
    async with running(give_back) as (serves, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"not a request\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 400 ")
        connection: Any = next(iter(serves.server_state.connections))
        assert connection.reader.is_closed
        reads = 0
        received = connection.data_received

        def noted(data: bytes) -> None:
            nonlocal reads
            reads += 1
            received(data)

        for _ in range(5):
            noted(b"x" * 65_536)
            assert connection.flow.read_paused, "nothing more is read for now"
            await eventually(lambda: not connection.flow.read_paused, LEFTOVERS_SECONDS * 200)
        writer.close()
        await eventually(lambda: not serves.server_state.connections)
    assert reads == 5


async def test_a_large_body_lets_others_have_their_turn_and_comes_whole() -> None:
    """Also after a wait for its turn an app that reads slowly is not sent more than it asked for."""
    body = bytes(range(256)) * 8_000
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    held = []

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        got, more = b"", True
        while more:
            await asyncio.sleep(0.01)
            connection: Any = next(iter(serves.server_state.connections))
            held.append(len(connection.pipeline.newest._body))
            message = await receive()
            got, more = got + message["body"], message["more_body"]
        answer = b"%d" % (got == body)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
        await send({"type": "http.response.body", "body": answer})

    async with running(slow) as (serves, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(head + body)
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        assert await reader.readexactly(1) == b"1"
        writer.close()
    assert max(held) < 600_000, "the rest waits in the socket"
