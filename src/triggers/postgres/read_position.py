"""From where the next read of a queue begins, for queues that are read in the order of due times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from triggers.postgres.time_bounds import REREAD_SECONDS, VISIBLE_SECONDS

Position = tuple[datetime, UUID]
"""Where a delivery stands in its queue: its due time, then its event's id."""

BEGINNING: Final[Position] = (datetime(2000, 1, 1, tzinfo=UTC), UUID(int=0))


def horizon(now: datetime) -> Position:
    """Up to where, at the time `now` of the database, everything that will ever be due is visible."""
    return now - timedelta(seconds=VISIBLE_SECONDS), UUID(int=0)


class ReadPosition:
    """A hint that saves reading what was settled already; never proof that nothing lies before it.

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
        """From where to read at `moment`, by the monotonic clock.

        Without time to `spare` it is the beginning only if it must be, after `start_over`.
        """
        if self._reread_at is None:
            self._position = BEGINNING  # also for the next read, if this one fails
        if self._reread_at is None or (spare and moment >= self._reread_at):
            self._reread_at = moment + REREAD_SECONDS
            return BEGINNING
        return self._position

    def note(self, seen: Position, now: datetime) -> None:
        """A read that was made at `now` needs not see again what lies before `seen`."""
        self._position = min(seen, horizon(now))

    def start_over(self) -> None:
        """Something may lie before the position: the next read begins at the beginning.

        That is kept apart from the position, which a read that is under way will move on.
        """
        self._reread_at = None
