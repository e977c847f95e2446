"""Writes of one turn of the event loop, made one right after the other when the turn is over.

A write to a peer on this machine, or on the way to one, wakes whoever sleeps there. With some work of
ours between two writes the peer has gone back to sleep by the second, and each of them pays for
waking it, often by giving up the processor; in a burst only the first does.
"""

import asyncio


class Burst:
    """Belongs to one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[tuple[asyncio.Transport, bytes]] = []

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write soon. Before other code writes to or closes the transport, it calls `flush`."""
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append((transport, data))

    def flush(self) -> None:
        """Write what waits, now."""
        waiting, self._waiting = self._waiting, []
        for transport, data in waiting:
            if not transport.is_closing():
                # A transport that was ended raises; the others belong to other callers.
                try:  # noqa: SIM105 - `suppress` takes three calls for each request and each answer
                    transport.write(data)
                except RuntimeError:
                    pass
