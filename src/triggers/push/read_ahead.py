"""The deliveries that a lane has read ahead, and the position up to which it has read."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from triggers.postgres.read_position import Position, ReadPosition, horizon
from triggers.push.store import Due

Key = tuple[UUID, int]
"""The ids of the event and the generation, which identify a delivery within its lane."""


class ReadAhead:
    """The deliveries of one lane in memory.

        may have more ── begin_read() ──▶ being read ── end_read() ──┐
            ▲   ▲                                                    │
            │   └────────── what was due did not all fit ────────────┤
            └── hint(), empty() ── drained ◀── all that was due ─────┘

    `known` holds each delivery from the time when it is read until no read can return it again: those that
    wait, those in flight, and those that were settled while the current read was under way.
    """

    __slots__ = ("_read_until", "after_key", "drained", "handed_over", "known", "position", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Due] = deque()
        self.known: dict[Key, datetime] = {}
        """The due time of each, as it was read."""
        self.position = ReadPosition()
        self.after_key: str | None = None
        """For an ordered lane: the key after which the next read begins, None for the first key."""
        self.drained = False
        """Whether the last read returned everything that was due, and no hint has come since."""
        self.handed_over = False
        """Whether deliveries were handed over since the last read began."""
        self._read_until = math.inf  # monotonic: when the last read ended, if none is under way

    # ---- reading ---------------------------------------------------------------------------------

    def hint(self) -> None:
        """There may be more to read."""
        self.drained = False

    def begin_read(self) -> None:
        """A read of this lane is on its way."""
        self._read_until = math.inf
        self.handed_over = False

    def end_read(self, moment: float) -> None:
        """No read of this lane is under way since `moment`, by the monotonic clock."""
        self._read_until = moment

    def read_to(self, last: Position, now: datetime) -> None:
        """A read at `now` came to `last`; there may be more."""
        self.drained = False
        self.position.note(last, now)

    def read_all(self, now: datetime | None) -> None:
        """A read at `now` returned everything that was due. None: it returned no rows."""
        self.drained = True
        if now is not None:
            self.position.note(horizon(now), now)

    def read_keys(self, after_key: str | None, *, all_due: bool) -> None:
        """A read of an ordered lane came to `after_key`; None: it has read all keys."""
        self.after_key = after_key
        self.drained = after_key is None and all_due

    def add(self, dues: Sequence[Due], *, handed_over: bool = False) -> None:
        """Take in what a read found, or what was handed over by the process that stored it."""
        self.handed_over |= handed_over
        for due in dues:
            self.known[due.key] = due.due_at
            self.waiting.append(due)

    def was_read_before(self, asked_at: float) -> bool | None:
        """Whether the last read ended before `asked_at`, by the monotonic clock. None: one is under way."""
        return None if self._read_until == math.inf else self._read_until < asked_at

    # ---- sending ---------------------------------------------------------------------------------

    def take_all(self) -> list[Due]:
        """All that waits."""
        waiting = list(self.waiting)
        self.waiting.clear()
        return waiting

    def counted(self, due: Due, due_again_at: datetime, now: datetime) -> None:
        """An attempt of this delivery was counted in its row, which is due again at `due_again_at`."""
        due.attempts += 1
        due.first_attempt_at = due.first_attempt_at or now
        self.known[due.key] = due_again_at

    def forget(self, key: Key) -> None:
        """Forget a delivery, because no read can return it in its old state any more."""
        self.known.pop(key, None)

    def known_from(self, start: Position) -> int:
        """The number of known deliveries that a read from `start` may return again."""
        return sum((due_at, event_id) >= start for (event_id, _), due_at in self.known.items())

    def empty(self) -> list[Due]:
        """Drop and return the waiting deliveries, which must be read again. Those in flight stay known."""
        dropped = self.take_all()
        for due in dropped:
            self.known.pop(due.key, None)
        self.position.start_over()
        self.after_key = None
        return dropped
