"""Whatever valid requests come, and however they are cut, an app sees the bytes that were sent."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from harness import eventually
from raw_requests import cut, some_request
from serving import give_back, running

CASES = 10_000


async def answered(reader: asyncio.StreamReader) -> bytes:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert head.startswith(b"HTTP/1.1 200"), head + await reader.read(1000)
    length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
    return await asyncio.wait_for(reader.readexactly(length), 5)


async def test_every_request_reaches_the_app_as_it_was_sent() -> None:
    async with running(give_back) as (serves, address):
        connection: Any = None
        for seed in range(CASES):
            chance = random.Random(seed)
            if connection is None or seed % 100 == 0:
                reader, writer = await asyncio.open_connection(*address)
                connection = await eventually(lambda: next(iter(serves.server_state.connections), None))
            requests = [some_request(chance) for _ in range(chance.choice((1, 1, 2, 4)))]
            # Given to the connection as the loop would: on a socket, pieces could arrive as one.
            for piece in filter(None, cut(b"".join(text for text, _ in requests), chance)):
                connection.data_received(piece)
                if chance.random() < 0.3:
                    await asyncio.sleep(0)
            for _, body in requests:
                assert await answered(reader) == body, f"seed {seed}"
            if seed % 100 == 99:
                writer.close()
                await eventually(lambda: not serves.server_state.connections)
