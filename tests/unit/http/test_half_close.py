"""Callers that close only their sending side of the connection, as `nc -N` does."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Any

import pytest

from harness import eventually
from serving import GET, SIZED, answering, give_back, running
from triggers.http.pipeline import MAX_AHEAD

POST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello"
CUT_OFF = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\nhello"


async def slow(scope: Any, receive: Any, send: Any) -> None:
    """Answer well after the caller has closed its sending side."""
    for _ in range(20):
        await asyncio.sleep(0.005)
    await give_back(scope, receive, send)


async def answers(app: Any, *pieces: bytes) -> tuple[list[bytes], bytes]:
    """The statuses of all answers, and all their bytes, to a caller that half-closes after these pieces."""
    async with running(app) as (serves, address):
        reader, writer = await asyncio.open_connection(*address)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
        text = await asyncio.wait_for(reader.read(), 20)
        await eventually(lambda: not serves.server_state.connections)
        await eventually(lambda: not serves.server_state.tasks)
        writer.close()
    return re.findall(rb"HTTP/1.1 (\d+) ", text), text


@pytest.mark.parametrize("app", [slow, give_back], ids=["slow", "at once"])
@pytest.mark.parametrize("number", [1, 3, MAX_AHEAD * 3])
async def test_a_caller_that_half_closes_gets_its_answers(app: Any, number: int) -> None:
    app = give_back if number > 3 else app
    statuses, text = await answers(app, POST * number)
    assert statuses == [b"200"] * number
    assert text.count(b"\r\n\r\nhello") == number


async def test_what_waits_unparsed_when_the_caller_half_closes_is_answered_too() -> None:
    goes_on = asyncio.Event()

    async def held(scope: Any, receive: Any, send: Any) -> None:
        await goes_on.wait()
        await give_back(scope, receive, send)

    async with running(held) as (serves, address):
        reader, writer = await asyncio.open_connection(*address)
        number = MAX_AHEAD * 2
        writer.write(POST * number)
        connection: Any = await eventually(lambda: next(iter(serves.server_state.connections), None))
        await eventually(lambda: connection.reader.is_waiting)
        writer.write_eof()
        assert connection.eof_received(), "as the loop says it, which does not read while so much waits"
        goes_on.set()
        text = await asyncio.wait_for(reader.read(), 20)
        writer.close()
    assert text.count(b"HTTP/1.1 200") == text.count(b"\r\n\r\nhello") == number


async def test_an_answer_in_pieces_is_finished_for_a_caller_that_half_closes() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"12345", "more_body": True})
        connection: Any = next(iter(serves.server_state.connections))
        await eventually(lambda: connection.is_half_closed)
        await send({"type": "http.response.body", "body": b"678"})

    async with running(app) as (serves, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(GET)
        await reader.readuntil(b"12345\r\n")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 5) == b"3\r\n678\r\n0\r\n\r\n"
        writer.close()


@pytest.mark.parametrize("before", [0, 1, 3])
async def test_a_body_that_is_cut_off_is_told_so_after_earlier_answers(before: int) -> None:
    statuses, text = await answers(slow, POST * before + CUT_OFF)
    assert statuses == [b"200"] * before + [b"400"]
    assert b"/problems/malformed-request" in text
    assert b"ended before its body was complete" in text


async def test_a_body_that_is_cut_off_after_its_answer_changes_nothing() -> None:
    statuses, _ = await answers(answering(SIZED, b"12345", status=401), CUT_OFF)
    assert statuses == [b"401"]


@pytest.mark.parametrize("rest", [b"", b"\r\n", b"GET / HT", GET[:-2]], ids=["none", "line", "word", "head"])
@pytest.mark.parametrize("before", [0, 2])
async def test_a_head_that_is_cut_off_is_no_request(rest: bytes, before: int) -> None:
    statuses, _ = await answers(slow, POST * before + rest)
    assert statuses == [b"200"] * before


async def test_what_is_refused_is_told_so_although_the_caller_half_closed() -> None:
    statuses, _ = await answers(slow, POST + b"GARBAGE\r\n\r\n")
    assert statuses == [b"200", b"400"]


async def test_an_app_that_asks_for_more_hears_that_the_caller_finished_and_may_answer() -> None:
    heard = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] != "http.disconnect":
            heard.append(message)
        heard.append(message)
        assert (await receive())["type"] == "http.disconnect", "it hears so as often as it asks"
        await answering(SIZED, b"12345")(scope, receive, send)

    async with running(app) as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(POST)
        await eventually(lambda: heard)
        writer.write_eof()
        text = await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert text.startswith(b"HTTP/1.1 200")
    assert [message["type"] for message in heard] == ["http.request", "http.disconnect"]
    assert heard[0]["body"] == b"hello"


async def test_an_app_gets_the_whole_body_before_it_hears_that_the_caller_finished() -> None:
    body = b"x" * 200_000
    post = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    statuses, text = await answers(slow, post + body)
    assert (statuses, text.endswith(body)) == ([b"200"], True)


@pytest.mark.parametrize("begun", [b"", GET])
async def test_a_caller_that_leaves_altogether_is_let_go(begun: bytes) -> None:
    async with running(slow) as (serves, address):
        with socket.create_connection(address) as caller:
            caller.sendall(begun)
            await eventually(lambda: serves.server_state.connections)
        await eventually(lambda: not serves.server_state.connections)
        await eventually(lambda: not serves.server_state.tasks)
