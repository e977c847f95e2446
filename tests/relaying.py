"""A way to a server that a test can cut, as a network does."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Relay:
    """Passes connections on to a port. While `passes` is not set they stay open, and nothing arrives."""

    def __init__(self, port: int) -> None:
        self.passes = asyncio.Event()
        self.passes.set()
        self.url = ""
        self._port = port
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, to_upstream = await asyncio.open_connection("127.0.0.1", self._port)
        for source, target in ((reader, to_upstream), (upstream, writer)):
            self._tasks.append(asyncio.create_task(self._pass(source, target)))

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                await self.passes.wait()
                target.write(data)
                await target.drain()
        except OSError:
            pass  # one side is gone, so the other one is closed too
        finally:
            target.close()
            with suppress(OSError):
                await target.wait_closed()
