"""Offers lanes to the dispatcher: at once, or when a rate limit or a breaker lets them go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from triggers.domain import LaneId
from triggers.push.dispatcher import Dispatcher
from triggers.push.lane import Lane
from triggers.push.store import Due


class Pacing:
    """Keeps a timer for each lane that must wait, so that the lane is offered again when it may send."""

    def __init__(self, dispatcher: Dispatcher, now: Callable[[], datetime]) -> None:
        self._dispatcher = dispatcher
        self._now = now
        self._timers: dict[LaneId, asyncio.TimerHandle] = {}
        self.next = dispatcher.next
        """The next delivery to send; waits until there is one."""
        self.stopped = False
        """True after `stop`: nothing more is sent."""

    def done(self, lane: Lane) -> None:
        """A delivery that `next` gave is no longer in flight."""
        self._dispatcher.done(lane)
        self.hold(lane)

    def give_back(self, lane: Lane, due: Due) -> None:
        """A delivery that `next` gave was not sent."""
        self._dispatcher.give_back(lane, due)

    def offer(self, lane: Lane) -> None:
        """Offer a lane to the dispatcher: now, or when its rate limit or breaker allows it."""
        if not self.stopped:
            self._dispatcher.offer(lane)
            self.hold(lane)

    def hold(self, lane: Lane) -> None:
        """If a rate limit or the breaker holds a lane back, offer the lane again when it may send."""
        if lane.in_line or not lane.ahead.waiting or not lane.paced or self.stopped:
            return
        wait = lane.wait_seconds(self._now())
        if wait is None:  # it may have let go since the lane was asked, a moment ago
            self._dispatcher.offer(lane)
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + wait + 0.001
        if (timer := self._timers.get(lane.id)) is not None:
            if timer.when() <= at:
                return
            timer.cancel()
        self._timers[lane.id] = loop.call_at(at, self._let_go, lane)

    def stop(self) -> None:
        """Offer nothing more."""
        self.stopped = True
        for timer in self._timers.values():
            timer.cancel()

    def _let_go(self, lane: Lane) -> None:
        # Held again if it is too early still: the database's clock, learned anew, may have stepped back.
        del self._timers[lane.id]
        self.offer(lane)
