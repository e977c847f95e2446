"""A server that answers without doing anything, against which the generator measures itself.

python -m triggers.bench_client.noop prints its port, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

_LENGTH = re.compile(rb"Content-Length: *(\d+)", re.IGNORECASE)
_ANSWER = (
    b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 45\r\n\r\n"
    b'{"id":"00000000-0000-7000-8000-000000000000"}'
)


class NoOp(asyncio.Protocol):
    """Only the generator of this package calls it, so it knows where the requests end."""

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._buffer, 0, end)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < whole:
                return
            self._buffer = self._buffer[whole:]
            self._transport.write(_ANSWER)


async def main() -> None:
    """Serve until the standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(NoOp, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.buffer.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
