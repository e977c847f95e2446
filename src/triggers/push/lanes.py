"""The lanes of this worker in memory, and their settings as the database has them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from triggers.domain import LaneId
from triggers.errors import TriggersError
from triggers.postgres.database import Connection
from triggers.postgres.time_bounds import LONG_LOOK_SECONDS
from triggers.push import store as lane_store
from triggers.push.lane import Lane
from triggers.push.lanes_to_read import LanesToRead
from triggers.push.memory import PayloadMemory
from triggers.push.signature import Signer
from triggers.push.store import Endpoint
from triggers.push.target import Target
from triggers.secrets.key_ring import KeyRing
from triggers.secrets.signing_secrets import read_secret
from triggers.subscriptions.rules import living, open_headers, open_secrets

log = structlog.get_logger()

IDLE_LANE_SECONDS: Final = 60.0


class Lanes:
    """Lanes by id. A lane is loaded when it may have due deliveries, and removed when it is idle."""

    def __init__(
        self, key_ring: KeyRing, to_read: LanesToRead, memory: PayloadMemory, now: Callable[[], datetime]
    ) -> None:
        self._key_ring = key_ring
        self._to_read = to_read
        self.memory = memory
        self._now = now
        self._lanes: dict[LaneId, Lane] = {}
        self._noticed: dict[LaneId, datetime] = {}  # changes of those that are not in memory

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    def __len__(self) -> int:
        return len(self._lanes)

    def get(self, lane_id: LaneId) -> Lane | None:
        """A lane, if it is in memory."""
        return self._lanes.get(lane_id)

    def hint(self, lane_id: LaneId) -> None:
        """This lane may have something to read."""
        if (lane := self._lanes.get(lane_id)) is not None:
            if lane.wants_nothing:
                return
            lane.ahead.hint()
        self._to_read.add(lane_id)

    # ---- settings --------------------------------------------------------------------------------

    async def load(self, connection: Connection, lane_ids: list[LaneId]) -> None:
        """Load the lanes that are not in memory, and renew the settings of stale lanes."""
        missing = [each for each in lane_ids if (lane := self._lanes.get(each)) is None or lane.stale]
        if not missing:
            return
        for endpoint in await lane_store.endpoints(connection, missing):
            target = self._open(endpoint)
            lane = self._lanes.get((endpoint.org_id, endpoint.id))
            if target is None:
                continue
            if lane is None:
                self._lanes[endpoint.org_id, endpoint.id] = Lane(target)
            else:
                lane.renew(target)
            if target.ends_at is not None:
                wait = max(0.0, (target.ends_at - self._now()).total_seconds())
                asyncio.get_running_loop().call_later(wait, self._outlived, endpoint.org_id, target)

    def _outlived(self, org_id: UUID, target: Target) -> None:
        """A secret has ended: sign nothing more with it."""
        lane = self._lanes.get((org_id, target.endpoint.id))
        if lane is not None and lane.target is target:
            self.close(lane)
            self.hint(lane.id)

    def _open(self, endpoint: Endpoint) -> Target | None:
        """Decrypt an endpoint's secrets and headers. None after an error, which affects no other endpoint."""
        try:
            secrets = open_secrets(self._key_ring, endpoint.org_id, endpoint.id, endpoint.secrets)
            headers = open_headers(self._key_ring, endpoint.org_id, endpoint.id, endpoint.headers)
            signing = living(secrets, self._now())
            signer = Signer([read_secret(each.secret) for each in signing])
        except Exception as error:  # noqa: BLE001 - the worker serves every organisation
            # Of an error that is not ours only the name: its text may hold what was decrypted.
            reason = error.message if isinstance(error, TriggersError) else type(error).__name__
            log.error("subscription_unusable", subscription_id=str(endpoint.id), error=reason)
            return None
        ends_at = min((each.ends_at for each in signing if each.ends_at is not None), default=None)
        return Target.of(endpoint, signer, list(headers.items()), ends_at)

    def changed(self, changed: dict[LaneId, datetime]) -> None:
        """Subscriptions were changed: empty their lanes and read their settings again.

        A change is compared with the settings of the lane, not with an earlier change, because the settings
        may have been read just before a change and stored in the lane after its report.
        """
        for lane_id, changed_at in changed.items():
            lane = self._lanes.get(lane_id)
            if lane is None:
                if self._noticed.get(lane_id) != changed_at:
                    self.hint(lane_id)
            elif not lane.stale and lane.target.endpoint.changed_at != changed_at:
                self.close(lane)
                self.hint(lane_id)
        self._noticed.update(changed)

    # ---- what waits in them ----------------------------------------------------------------------

    def empty(self, lane: Lane) -> None:
        """Drop what waits in a lane; it is to be read again."""
        for due in lane.ahead.empty():
            self.memory.free(due)

    def close(self, lane: Lane) -> None:
        """Send nothing more of a lane until its settings are read again; remember what is in flight."""
        for due in lane.close():
            self.memory.free(due)

    def lost(self, groups: list[int]) -> None:
        """These groups of lanes belong to another worker now."""
        gone = set(groups)
        for lane in self._lanes.values():
            if lane.group in gone:
                self.close(lane)

    def forget_idle(self) -> None:
        """Take lanes out of memory that have had nothing to do for a while."""
        looked_at = self._now() - timedelta(seconds=2 * LONG_LOOK_SECONDS)
        self._noticed = {lane: at for lane, at in self._noticed.items() if at > looked_at}
        idle_since = time.monotonic() - IDLE_LANE_SECONDS
        for lane in list(self._lanes.values()):
            if not lane.ahead.known and not lane.breaker.changed and lane.used_at < idle_since:
                del self._lanes[lane.id]
