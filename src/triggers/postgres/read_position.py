"""The position where the next read of a queue begins, for queues that are read in order of due times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from triggers.postgres.time_bounds import REREAD_SECONDS, VISIBLE_SECONDS

Position = tuple[datetime, UUID]
"""Where a delivery stands in its queue: its due time, then its event's id."""

BEGINNING: Final[Position] = (datetime(2000, 1, 1, tzinfo=UTC), UUID(int=0))


def horizon(now: datetime) -> Position:
    """The position before which all rows are visible at `now`, a time of the database."""
    return now - timedelta(seconds=VISIBLE_SECONDS), UUID(int=0)


class ReadPosition:
    """A hint that saves reading settled rows again. It does not prove that no unsettled row lies before it.

    BEGINNING ── note() ──▶ where a read came to, at most the horizon
        ▲                          │
        └── after REREAD_SECONDS, ─┘
            or start_over()
    """

    __slots__ = ("_position", "_reread_at")

    def __init__(self) -> None:
        self._position = BEGINNING
        self._reread_at: float | None = None  # None: the next read must begin at the beginning

    def start(self, moment: float, *, spare: bool = True) -> Position:
        """The position from which to read at `moment`, by the monotonic clock.

        Without time to `spare`, the read begins at the beginning only after `start_over`.
        """
        if self._reread_at is None:
            self._position = BEGINNING  # also for the next read, if this one fails
        if self._reread_at is None or (spare and moment >= self._reread_at):
            self._reread_at = moment + REREAD_SECONDS
            return BEGINNING
        return self._position

    def note(self, seen: Position, now: datetime) -> None:
        """Note that a read at `now` has seen everything before `seen`."""
        self._position = min(seen, horizon(now))

    def start_over(self) -> None:
        """Begin the next read at the beginning, because there may be rows before the position.

        This is a field of its own, because a read that is under way will overwrite the position.
        """
        self._reread_at = None
