"""Ends exchanges that have reached their deadline."""

import asyncio

from triggers.outbound.connection import EndpointConnection


class Deadlines:
    """Belongs to one event loop. One timer for all costs less than one for each. States of an exchange:

        (none) ──begin──▶ under way ──end──▶ (none)
                              │ its deadline has passed at a tick
                              ▼
                           expired ──end──▶ (none)

    The timer runs from the first `begin` for as long as anything is under way.
    """

    def __init__(self, tick_seconds: float) -> None:
        """An exchange ends up to `tick_seconds` after its deadline."""
        self._loop = asyncio.get_running_loop()
        self._tick_seconds = tick_seconds
        self._under_way: dict[EndpointConnection, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def begin(self, connection: EndpointConnection, deadline: float) -> None:
        """Expire the connection's exchange at `deadline`, a time of the event loop."""
        self._under_way[connection] = deadline
        if self._timer is None and not self._closed:
            self._timer = self._loop.call_later(self._tick_seconds, self._tick)

    def end(self, connection: EndpointConnection) -> None:
        """The exchange is over, in whatever way."""
        self._under_way.pop(connection, None)

    def close(self) -> None:
        """Abort all that is under way, and start no timer again."""
        self._closed = True
        for connection in list(self._under_way):
            connection.abort()
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        for connection in [connection for connection, deadline in self._under_way.items() if deadline <= now]:
            connection.time_out()
        if self._under_way:
            self._timer = self._loop.call_later(self._tick_seconds, self._tick)
