"""Connections that are kept alive: bounded in number, closed when they have been idle for too long."""

import asyncio
from collections import OrderedDict
from typing import NamedTuple

from triggers.outbound.connection import EndpointConnection


class PoolKey(NamedTuple):
    """A kept-alive connection is used again only for requests with the same key."""

    scheme: str
    host: str
    port: int
    address: str


class KeptAlive(NamedTuple):
    """Maximum number of idle connections, and the time for which each is kept."""

    connections: int = 256
    seconds: float = 15.0


class Pool:
    """Belongs to one event loop. States of a connection:

    (elsewhere) ──keep──▶ idle ──take──▶ (elsewhere)
                            │ idle for too long, the oldest of too many, or `close`
                            ▼
                         aborted
    """

    def __init__(self, kept_alive: KeptAlive) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit, self._idle_seconds = kept_alive
        self._oldest_first: OrderedDict[EndpointConnection, PoolKey] = OrderedDict()
        self._of: dict[PoolKey, list[EndpointConnection]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._oldest_first)

    def take(self, key: PoolKey) -> EndpointConnection | None:
        connections = self._of.get(key)
        while connections:
            connection = connections.pop()  # the youngest: the others may then grow old and be closed
            if not connections:
                del self._of[key]
            del self._oldest_first[connection]
            if not connection.closed:
                return connection
        return None

    def keep(self, key: PoolKey, connection: EndpointConnection) -> None:
        connection.rest(self._loop.time())
        self._of.setdefault(key, []).append(connection)
        self._oldest_first[connection] = key
        self.make_room(self._limit)
        if self._timer is None:
            self._timer = self._loop.call_later(self._idle_seconds, self._close_old)

    def make_room(self, limit: int) -> None:
        """Closes the oldest until at most `limit` are left."""
        while len(self._oldest_first) > max(0, limit):
            self._drop_oldest()

    def close(self) -> None:
        self.make_room(0)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _drop_oldest(self) -> None:
        connection, key = self._oldest_first.popitem(last=False)
        connections = self._of[key]
        connections.remove(connection)
        if not connections:
            del self._of[key]
        connection.abort()

    def _close_old(self) -> None:
        self._timer = None
        too_old = self._loop.time() - self._idle_seconds
        while self._oldest_first:
            oldest = next(iter(self._oldest_first))
            if oldest.idle_since > too_old:
                wait = oldest.idle_since - too_old
                self._timer = self._loop.call_later(wait, self._close_old)
                return
            self._drop_oldest()
