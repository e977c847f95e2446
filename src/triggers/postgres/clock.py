"""The database's time as this process knows it, and the ids minted on it."""

from __future__ import annotations

import math
import random
import struct
import time
from datetime import UTC, datetime
from uuid import UUID

# The driver's UUID is a subclass of the standard one, and several times quicker to make and to print.
from asyncpg.pgproto import pgproto

_pack = struct.Struct(">QQ").pack
_chance = random.getrandbits  # an id is no secret: nothing is guarded by its being hard to guess


class DatabaseClock:
    """Learns the database's time from answers, and mints UUIDv7 ids on it.

    Ids rise strictly within a process, so that the order of ids is the order of arrival. They
    rest on the monotonic clock: a node whose wall clock is an hour off, or is put right while
    it runs, still writes into the right partition.

    Before the first `learn` there is no time, and `mint` and `moment` raise ValueError. One id of a wrong
    time would be enough: all later ids of the process are above it.
    """

    def __init__(self) -> None:
        self._offset = math.nan
        self._last = 0

    def learn(self, database_now: datetime, asked_at: float) -> None:
        """Take in that the database said `database_now` to a question asked at monotonic `asked_at`.

        The database said it between the question and this call, so the answer bounds its time on both sides.
        What is known stays while it is within these bounds: a slow answer must not replace a quick one, or
        ids would run ahead by its delay, and stand still afterwards. Otherwise the database's time is taken
        for the latest that the answer allows.
        """
        said_at = database_now.timestamp()
        if not said_at - time.monotonic() <= self._offset <= said_at - asked_at:
            self._offset = said_at - asked_at

    def now(self) -> float:
        """The database's time, seconds since the epoch."""
        return time.monotonic() + self._offset

    def moment(self) -> datetime:
        """The database's time, in UTC."""
        return datetime.fromtimestamp(time.monotonic() + self._offset, UTC)

    def mint(self) -> UUID:
        """A new UUIDv7: 48 bits of milliseconds, 12 of their fraction, 62 of chance (RFC 9562, 6.2)."""
        ticks = max(int((time.monotonic() + self._offset) * 4_096_000), self._last + 1)
        self._last = ticks
        high, low = ticks >> 12 << 16 | 0x7000 | ticks & 0xFFF, 0x2 << 62 | _chance(62)
        minted: UUID = pgproto.UUID(_pack(high, low))
        return minted
