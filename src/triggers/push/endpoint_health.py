"""Updates breakers after attempts, and decides which subscriptions to disable."""

from __future__ import annotations

from datetime import timedelta

import structlog

from triggers.errors import TriggersError
from triggers.outbound.result import Failed, Reason
from triggers.postgres.database import Database
from triggers.push import store as lane_store
from triggers.push.attempt import Attempted
from triggers.push.lane import Lane
from triggers.push.lanes import Lanes
from triggers.push.settler import FAILING_TOO_LONG, Disabling
from triggers.push.store import LaneHealth
from triggers.push.target import Target

log = structlog.get_logger()


class EndpointHealth:
    """Updates the health of a lane's endpoint after each attempt, and stores the changes."""

    def __init__(self, database: Database, lanes: Lanes, disable_after: timedelta) -> None:
        """`disable_after`: how long an endpoint may fail before its subscription is disabled."""
        self._database = database
        self._lanes = lanes
        self._disable_after = disable_after

    def learn(self, lane: Lane, target: Target, attempted: Attempted) -> Disabling | None:
        """Take in the result of an attempt at `target`. Return why to disable the subscription, or None.

        The attempt is ignored if the lane has another URL by now, or if its connection was stale.
        """
        if lane.target.endpoint.target_url != target.endpoint.target_url:
            return None
        breaker, at = lane.breaker, attempted.at
        was_open = breaker.open
        if attempted.reason is Reason.DELIVERED:
            breaker.succeeded(at)
        elif isinstance(attempted.result, Failed) and attempted.result.stale_connection:
            return None
        else:
            breaker.failed(at, attempted.reason)
        if breaker.open is not was_open:
            if breaker.open:
                self._lanes.empty(lane)  # probes need one at a time: the rest would only fill the memory
            self._lanes.hint(lane.id)
        if attempted.disable is not None:
            return self._disable(lane, str(attempted.disable))
        since = breaker.failing_since
        if since is not None and at - since >= self._disable_after:
            return self._disable(lane, FAILING_TOO_LONG)
        return None

    def _disable(self, lane: Lane, reason: str) -> Disabling:
        """Send nothing more to the endpoint. The settlement disables the subscription."""
        self._lanes.empty(lane)
        lane.disable()
        return Disabling(reason, lane.target.endpoint.target_url)

    async def store(self) -> None:
        """Store what changed since the last time."""
        changed = [lane for lane in self._lanes if lane.breaker.changed]
        if not changed:
            return
        for lane in changed:
            lane.breaker.changed = False
        try:
            await lane_store.note_health(self._database, [_health(lane) for lane in changed])
        except TriggersError as error:
            log.warning("health_unrecorded", error=error.message)
            for lane in changed:
                lane.breaker.changed = True


def _health(lane: Lane) -> LaneHealth:
    breaker = lane.breaker
    org_id, subscription_id = lane.id
    return LaneHealth(
        org_id,
        subscription_id,
        breaker.last_success_at,
        breaker.failing_since,
        breaker.probe_at,
        breaker.probe_delay if breaker.open else None,
    )
