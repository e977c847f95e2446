"""Hands settlements to the settler, and does what follows when they are written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from triggers import observability
from triggers.domain import AttemptOutcome
from triggers.postgres.clock import DatabaseClock
from triggers.push.attempt import seconds_put_off, unsent
from triggers.push.lane import Lane
from triggers.push.lanes import Lanes
from triggers.push.read_ahead import Key
from triggers.push.settler import Disabling, Ended, Settler
from triggers.push.store import Due, Settlement
from triggers.push.target import Target
from triggers.push.under_way import UnderWay

log = structlog.get_logger()

POSTPONED_SECONDS: Final = 1.0
SOON_SECONDS: Final = 60.0
"""A retry that is due within this time gets a timer. The finder finds later retries."""


class Settlements:
    """Ends the turn of every delivery that was under way. Nothing else does.

    taken from its lane ── settle() ──▶ written ──▶ forgotten: settled, or read again when it is due
                        │                  └─────▶ skipped: the database refused it, put off in its row, or
                        │                          held back in memory if the row cannot be changed either
                        └─ postpone(), take_back() ──▶ nothing was sent: read again in a moment
    """

    def __init__(
        self,
        *,
        clock: DatabaseClock,
        settler: Settler,
        under_way: UnderWay,
        lanes: Lanes,
        forget: Callable[[Lane, Key], None],
    ) -> None:
        """`forget` is called with each delivery that no longer is in the state in which it was read."""
        self._clock = clock
        self._settler = settler
        self._under_way = under_way
        self._lanes = lanes
        self._free = lanes.memory.free
        self._forget = forget

    def settle(
        self, lane: Lane, due: Due, settlement: Settlement, disabling: Disabling | None = None
    ) -> Ended:
        """Queue an attempt to be written. Its lane is updated after it is written."""
        ordered = lane.ordered

        # This function must not refer to `ended`, which refers to it: only the garbage collector could free
        # such a cycle.
        def settled(written: Settlement | None) -> None:
            self._under_way.end(lane.group)
            if written is None:
                self._hold_back(lane, due)
                return
            self._forget(lane, due.key)
            if disabling is not None and written.attempt_id is None:
                self._read_settings_again(lane)
            if ordered or lane.half_empty:
                self._lanes.hint(lane.id)
            if written.due_at is not None:
                wait = (written.due_at - self._clock.moment()).total_seconds()
                if wait < SOON_SECONDS:
                    asyncio.get_running_loop().call_later(max(0.0, wait) + 0.002, self._lanes.hint, lane.id)

        ended = Ended(settlement, due.type, settled, disabling)
        self._free(due)
        self._settler.put(ended, urgent=ordered)  # the next one of its key waits for it
        if settlement.outcome is not AttemptOutcome.DELIVERED:  # there are thousands of these a second
            _log(settlement)
        return ended

    def postpone(self, lane: Lane, due: Due) -> None:
        """Nothing was sent: let it be read again in a while."""
        self._under_way.end(lane.group)
        self._free(due)
        self._forget(lane, due.key)
        asyncio.get_running_loop().call_later(POSTPONED_SECONDS, self._read_again, lane)

    def take_back(self, lane: Lane, target: Target, due: Due) -> None:
        """An attempt that was (perhaps) counted is not made: undo the count, then read the row again."""
        settlement = unsent(target, due, self._clock.moment())
        self._settler.put(Ended(settlement, due.type, lambda _: self.postpone(lane, due)))

    def _hold_back(self, lane: Lane, due: Due) -> None:
        """Nothing is stored of an attempt, so its delivery is still due: do not send it again at once."""
        # It stays known for a while, so that no read returns it.
        self._read_settings_again(lane)
        key = due.key

        def let_go() -> None:
            self._forget(lane, key)
            self._read_again(lane)

        wait = seconds_put_off(self._clock.moment() - due.accepted_at)
        asyncio.get_running_loop().call_later(wait, let_go)

    def _read_settings_again(self, lane: Lane) -> None:
        """Read the settings again: an attempt that is not recorded may have disabled them in memory."""
        self._lanes.close(lane)
        self._lanes.hint(lane.id)

    def _read_again(self, lane: Lane) -> None:
        lane.ahead.position.start_over()
        self._lanes.hint(lane.id)


def _log(settlement: Settlement) -> None:
    if observability.lines is not None and settlement.attempt_id is not None:
        return  # the sender has printed the attempt
    log.info(
        "attempt",
        org_id=str(settlement.org_id),
        subscription_id=str(settlement.subscription_id),
        event_id=str(settlement.event_id),
        attempt=settlement.attempts,
        outcome=settlement.outcome,
        reason=settlement.reason,
        status_code=settlement.status_code,
        duration_ms=settlement.duration_ms,
    )
