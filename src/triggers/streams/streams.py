"""All open streams of a process: opens, bounds and ends them. Reads only for organisations that have one."""

from __future__ import annotations

import asyncio
import time
from typing import Final, NamedTuple
from uuid import UUID

from triggers.background import Duty
from triggers.domain import Caller, OrgId
from triggers.errors import DatabaseUnavailable, TooManyStreams, Unavailable
from triggers.fairness.room import Places, Room
from triggers.keys import organisations
from triggers.keys import store as api_keys
from triggers.observability import streams_open
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.sessions import store as sessions
from triggers.streams.frames import StreamKind
from triggers.streams.looks import AvailableLook, Look, look_of
from triggers.streams.reader import LogReader
from triggers.streams.stream import Holder, Output, Stream, Wanted
from triggers.wakeups.wakeup import Wakeup

CHECK_SECONDS: Final = 0.25
TRUST_SECONDS: Final = 1.0
"""After so long without a check of the keys, no frame is shown. A stream ends within it after its key."""
BEGIN_SECONDS: Final = 5.0
"""Maximum time until the first look of a stream that begins."""
LOOKS_AT_ONCE: Final = 4
"""Maximum number of looks under way at once, which organisations share as `Places` says."""
RETRY_AFTER_SECONDS: Final = 10

Source = tuple[OrgId, StreamKind | UUID]
"""A part of the log: a kind of frames of an organisation, or the messages of one of its inboxes."""


class StreamBounds(NamedTuple):
    """Maximum numbers of open streams, and of frames that a stream shows in a second."""

    an_organisation: int = 20
    a_process: int = 500
    frames_a_second: int = 50


class Streams:
    """The open streams, by the readers that give them frames.

    A source is read from its first stream until its last one ends. Streams of the same source share a reader.
    """

    def __init__(
        self, database: Database, clock: DatabaseClock, wakeup: Wakeup, bounds: StreamBounds | None = None
    ) -> None:
        self._database = database
        self._clock = clock
        self._wakeup = wakeup
        self._bounds = bounds or StreamBounds()
        self._room = Room(self._bounds.a_process)
        self._places = Places(LOOKS_AT_ONCE)
        self._streams: dict[Stream, list[Source]] = {}
        self._readers: dict[Source, LogReader] = {}
        self._checked_at = float("-inf")
        self._stopping = False

    def duty(self) -> Duty:
        """Ending the streams of keys and sessions that are not valid any more."""
        return Duty("streams of revoked keys", CHECK_SECONDS, self._check_holders)

    async def open(
        self, caller: Caller, wanted: Wanted, output: Output, session_id: UUID | None = None
    ) -> Stream:
        """Show what becomes visible from the return of this call until `close`.

        `output.end` is called if the key is revoked or expires, if the session ends, if the inbox or the
        organisation is deleted, or when the service stops. Then nothing more comes. `close` must be called in
        any case.

        Raises:
            TooManyStreams: the organisation, or all of them together, have as many as they may.
            Unavailable: the service is stopping, or the database does not answer.
        """
        org_id = caller.own_org_id or caller.org_id
        if self._stopping:
            raise Unavailable("The service is stopping. Connect again, to another node.")
        if self._room.held(org_id) >= self._bounds.an_organisation or not self._room.take(org_id):
            raise TooManyStreams(retry_after=RETRY_AFTER_SECONDS)
        holder = Holder(org_id, caller.key_id, caller.org_id, session_id)
        stream = Stream(holder, wanted, output, self._bounds.frames_a_second)
        self._streams[stream] = sources = _sources(caller.org_id, wanted)
        streams_open.inc()
        try:
            async with asyncio.timeout(BEGIN_SECONDS):
                await self._join(stream, sources)
        except BaseException as error:
            self.close(stream)
            if isinstance(error, TimeoutError):
                raise DatabaseUnavailable(retry_after=2) from None
            raise
        return stream

    def close(self, stream: Stream) -> None:
        """Show nothing more. The last stream of a source ends the reading of it."""
        stream.close()
        streams_open.dec()
        self._room.give_back(stream.holder.org_id)
        for source in self._streams.pop(stream):
            reader = self._readers.get(source)
            if reader is not None:
                reader.listeners.discard(stream)
                if not reader.listeners:
                    reader.stop()
                    del self._readers[source]

    def end_all(self) -> None:
        """End all streams, and open no more, because the service stops."""
        self._stopping = True
        for stream in list(self._streams):
            stream.end()

    def stop(self) -> None:
        """End all streams and their readers."""
        self.end_all()
        for reader in self._readers.values():
            reader.stop()
        self._readers.clear()

    async def _join(self, stream: Stream, sources: list[Source]) -> None:
        """Begin to show these sources. What is visible now is old, except for messages of an inbox."""
        readers = [self._reader_of(source) for source in sources]
        for reader in readers:
            reader.listeners.add(stream)
        for reader in readers:
            await reader.begun.wait()
            if isinstance(reader.look, AvailableLook):
                for frame in await reader.look.all():
                    stream.offer(frame)

    def _reader_of(self, source: Source) -> LogReader:
        reader = self._readers.get(source)
        if reader is None or reader.is_over:
            reader = self._readers[source] = self._begin(source)
        return reader

    def _begin(self, source: Source) -> LogReader:
        org_id, what = source
        now = self._clock.moment()
        look: Look
        if isinstance(what, StreamKind):
            look = look_of(what)(self._database, org_id, now)
        else:
            look = AvailableLook(self._database, org_id, now, what)
        return LogReader(look, org_id, self._wakeup, self._places, self._trusted)

    async def _trusted(self) -> None:
        """Return at once if the keys were checked within the last second. If not, check them first."""
        while time.monotonic() - self._checked_at >= TRUST_SECONDS:
            try:
                await self._check_holders()
            except DatabaseUnavailable:
                await asyncio.sleep(CHECK_SECONDS)

    async def _check_holders(self) -> None:
        began = time.monotonic()
        if self._streams:
            checked = {stream: stream.holder for stream in self._streams}
            keys = await api_keys.still_valid(self._database, {each.key_id for each in checked.values()})
            signed_in = {(each.org_id, each.session_id) for each in checked.values() if each.session_id}
            open_sessions = await sessions.still_open(self._database, signed_in) if signed_in else set()
            # A key is valid only if its own organisation exists.
            others = {each.shown_org_id for each in checked.values() if each.shown_org_id != each.org_id}
            ended = others - await organisations.existing(self._database, others) if others else set()
            for stream, holder in checked.items():
                is_open = holder.session_id is None or holder.session_id in open_sessions
                if holder.key_id not in keys or not is_open or holder.shown_org_id in ended:
                    stream.end()
        self._checked_at = began


def _sources(org_id: OrgId, wanted: Wanted) -> list[Source]:
    if wanted.inbox_id is not None:
        return [(org_id, wanted.inbox_id)]
    return [(org_id, kind) for kind in sorted(wanted.kinds)]
