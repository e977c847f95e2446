"""Carries out what callers have in mind: opens connections, writes, and looks at what is answered."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from typing import NamedTuple

from fuzz.callers import Caller, Known, Talk

CONNECTIONS = 24
"""Callers at the same moment."""
LONGEST_TALK_SECONDS = 12.0
ANSWER_SECONDS = 3.0
"""How long a caller waits for more of an answer."""
HOLD_SECONDS = 2.0
MOST_READ_BYTES = 8 * 2**20
DOCUMENTED_5XX = frozenset({503, 505})
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]{0,60}\r\n")


class Fault(NamedTuple):
    """An answer that the service must not give, and the talk that got it."""

    status: int
    talk: str
    sent: bytes


class Attack:
    """Callers that go on until they are cancelled. The n-th talk of caller c follows from seed, c and n."""

    def __init__(self, port: int, known: Known, seed: str) -> None:
        self._port = port
        self._known = known
        self._seed = seed
        self.talks: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.faults: list[Fault] = []
        self.refused = 0
        """Connections that were not accepted."""

    async def run(self) -> None:
        """Attack until cancelled."""
        async with asyncio.TaskGroup() as callers:
            for number in range(CONNECTIONS):
                callers.create_task(self._call(number))

    async def _call(self, caller: int) -> None:
        number = 0
        while True:
            number += 1
            name = f"{self._seed}/caller/{caller}/{number}"
            talk = Caller(random.Random(name), self._known).talk()
            self.talks[talk.kind] += 1
            try:
                async with asyncio.timeout(LONGEST_TALK_SECONDS):
                    await self._hold(talk, name)
            except ConnectionRefusedError:
                self.refused += 1
                await asyncio.sleep(0.2)
            except (OSError, TimeoutError):
                self.talks["cut"] += 1

    async def _hold(self, talk: Talk, name: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        reading = asyncio.create_task(self._read(reader, talk, name)) if talk.reads else None
        try:
            for piece in talk.pieces:
                if piece.pause_seconds:
                    await asyncio.sleep(piece.pause_seconds)
                writer.write(piece.data)
                await writer.drain()
            if talk.end == "abort":
                return
            if talk.end == "half-close":
                writer.write_eof()
            elif talk.end == "hold":
                await asyncio.sleep(HOLD_SECONDS)
            if reading is not None:
                await reading
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
            writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader, talk: Talk, name: str) -> None:
        """Note every status that comes, until nothing more does."""
        read = answers = 0
        rest = b""
        while read < MOST_READ_BYTES and (talk.answers is None or answers < talk.answers):
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    data = await reader.read(65_536)
            except (TimeoutError, OSError):
                return
            if not data:
                return
            read += len(data)
            data = rest + data
            end = 0
            for found in _STATUS.finditer(data):
                end = found.end()
                answers += 1
                self._note(int(found[1]), talk, name)
            rest = data[max(end, len(data) - 80) :]

    def _note(self, status: int, talk: Talk, name: str) -> None:
        self.statuses[status] += 1
        if status >= 500 and status not in DOCUMENTED_5XX and len(self.faults) < 50:
            sent = b"".join(piece.data for piece in talk.pieces)[:2_000]
            self.faults.append(Fault(status, f"{talk.kind} ({name})", sent))
