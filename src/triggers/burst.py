"""Collects the writes of one turn of the event loop, and makes them one after the other at its end.

A write wakes a waiting process on this machine: the peer, or a process that forwards the bytes. If other work
is done between two writes, that process sleeps again, and each write takes the time to wake it. Often this
even gives up the processor. In a burst, only the first write has this cost.
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
