"""Look-ups of host names: in threads of their own, shared fairly, kept for a few seconds.

A look-up cannot be interrupted: a thread whose name server is silent stays busy long after its caller
has given up. So organisations share two resources. A look-up holds a *place* until it ends or its limit has
passed, so each place becomes free within that limit. A look-up holds a *thread* until the thread has really
come back. There are THREADS_A_PLACE threads for each place. A look-up that nobody waits for any more is
never begun.
"""

import asyncio
import contextlib
import socket
from collections import OrderedDict
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from triggers.fairness.room import Line, Room
from triggers.outbound.result import NoConnection, Reason

Resolver: TypeAlias = Callable[[str], tuple[str, ...]]
"""Blocking: the addresses of a name, best first. Raises OSError when there are none."""
Found: TypeAlias = tuple[str, ...] | Reason
"""The addresses that may be used, or why there are none."""

THREADS_A_PLACE: Final = 8
"""With so many, there is always a thread for a free place, as long as look-ups take less than 40 seconds."""
_FAILURE_KEEP_SECONDS: Final = 1.0


def system_resolver(host: str) -> tuple[str, ...]:
    """The system's resolver, in the system's order of preference."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


class LookUps(NamedTuple):
    """The resolver of names, and the number of seconds for which their addresses are kept."""

    resolver: Resolver = system_resolver
    keep_seconds: float = 5.0


class _Lookup:
    __slots__ = ("found", "host", "limit", "org", "waiters")

    def __init__(self, host: str, org: UUID, found: asyncio.Future[Found]) -> None:
        self.host = host
        self.org = org
        self.found = found
        self.limit: asyncio.TimerHandle | None = None
        self.waiters = 0


class Names:
    """Belongs to one event loop. States of a look-up:

    wanted ──a place and a thread are free──▶ begun ──came back──▶ told, and kept for some seconds
       │ nobody waits any more                  │ 5 s have passed
       ▼                                        ▼
    forgotten                                told that there is no address; its place is free,
                                             and the thread counts as held until it comes back

    Organisations wait in turns, and share places and threads as `Room` says.
    """

    def __init__(
        self,
        resolve: Callable[[str], Found],
        *,
        places: int = 32,
        limit_seconds: float = 5.0,
        keep_seconds: float = 5.0,
        capacity: int = 10_000,
    ) -> None:
        self._resolve = resolve
        self._limit_seconds = limit_seconds
        self._keep_seconds = keep_seconds
        self._capacity = capacity
        self._kept: OrderedDict[str, tuple[float, Found]] = OrderedDict()
        self._places = Room(places)
        self._threads_held = Room(places * THREADS_A_PLACE)
        self._wanted: dict[tuple[UUID, str], _Lookup] = {}
        self._waiting: Line[_Lookup] = Line()
        self._work: SimpleQueue[_Lookup | None] = SimpleQueue()
        self._idle_threads = 0
        self._threads: list[Thread] = []

    def kept(self, host: str, now: float) -> Found | None:
        """The kept result for a name, if there is one. `now` is the loop's time."""
        entry = self._kept.get(host)
        return entry[1] if entry is not None and now < entry[0] else None

    async def addresses(self, host: str, org: UUID, deadline: float) -> tuple[str, ...]:
        """The name's addresses. `deadline` is a time of the event loop; `org` is charged for the thread.

        Raises:
            NoConnection: it has none that may be used, or no thread was free in time (busy).
        """
        try:
            async with asyncio.timeout_at(deadline):
                found = await self.find(host, org)
        except TimeoutError:
            raise NoConnection(Reason.BUSY, "The look-up of the host waited too long for its turn.") from None
        if isinstance(found, Reason):
            raise NoConnection(found)
        return found

    async def find(self, host: str, org: UUID) -> Found:
        """The name's addresses, or why there are none. `org` is charged for the thread."""
        loop = asyncio.get_running_loop()
        found = self.kept(host, loop.time())
        if found is not None:
            return found
        # Joined within an organisation only: behind another's queue nobody has to wait.
        lookup = self._wanted.get((org, host))
        if lookup is None:
            lookup = _Lookup(host, org, loop.create_future())
            self._wanted[org, host] = lookup
            self._waiting.add(org, lookup)
            self._begin()
        lookup.waiters += 1
        try:
            return await asyncio.shield(lookup.found)
        finally:
            lookup.waiters -= 1
            if lookup.waiters == 0:
                self._forget_unbegun(lookup)

    def close(self) -> None:
        """Lets the threads go; one that is stuck in a look-up ends with the process."""
        self._waiting.clear()
        for _ in self._threads:
            self._work.put(None)
        self._threads.clear()

    def _begin(self) -> None:
        """Begins waiting look-ups, as long as there are places and threads."""
        while (found := self._waiting.next(self._may_begin)) is not None:
            org, lookup = found
            self._places.take(org)
            self._threads_held.take(org)
            loop = lookup.found.get_loop()
            lookup.limit = loop.call_later(self._limit_seconds, self._give_up, lookup)
            self._hand_over(lookup)

    def _may_begin(self, org: UUID) -> bool:
        return self._places.has_room(org) and self._threads_held.has_room(org)

    def _give_up(self, lookup: _Lookup) -> None:
        """Its limit has passed: it has failed, and its place is free for the next one."""
        lookup.limit = None
        self._leave(lookup.org)
        self._settle(lookup, Reason.DNS)
        self._begin()

    def _hand_over(self, lookup: _Lookup) -> None:
        if self._idle_threads:
            self._idle_threads -= 1
        else:
            # A daemon, because the interpreter would otherwise wait for a silent name server at exit.
            thread = Thread(target=self._run, name=f"dns-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._work.put(lookup)

    def _run(self) -> None:
        while (lookup := self._work.get()) is not None:
            found: Found
            try:
                found = self._resolve(lookup.host) or Reason.DNS
            except (OSError, UnicodeError):
                found = Reason.DNS
            # The loop may be closed by now; then nobody waits.
            with contextlib.suppress(RuntimeError):
                lookup.found.get_loop().call_soon_threadsafe(self._came_back, lookup, found)

    def _leave(self, org: UUID) -> None:
        self._places.give_back(org)
        self._waiting.postpone(org)

    def _came_back(self, lookup: _Lookup, found: Found) -> None:
        self._idle_threads += 1
        self._threads_held.give_back(lookup.org)
        if lookup.limit is not None:
            lookup.limit.cancel()
            self._leave(lookup.org)
        self._settle(lookup, found)
        self._begin()

    def _settle(self, lookup: _Lookup, found: Found) -> None:
        """Tells those who wait and keeps the answer, also one that came after its limit."""
        if not lookup.found.done():
            lookup.found.set_result(found)
            del self._wanted[lookup.org, lookup.host]
        keep = (
            self._keep_seconds if isinstance(found, tuple) else min(_FAILURE_KEEP_SECONDS, self._keep_seconds)
        )
        self._kept[lookup.host] = (lookup.found.get_loop().time() + keep, found)
        self._kept.move_to_end(lookup.host)
        if len(self._kept) > self._capacity:
            self._kept.popitem(last=False)

    def _forget_unbegun(self, lookup: _Lookup) -> None:
        if self._waiting.remove(lookup.org, lookup):
            del self._wanted[lookup.org, lookup.host]
