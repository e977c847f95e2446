"""What handlers work with: the parts of the service, put together by `service.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from triggers.events.group_commit import Intake
from triggers.inboxes.store import Positions
from triggers.keys.authentication import KeyCache
from triggers.keys.rate_limit import RateLimiter
from triggers.node.health import Health
from triggers.node.settings import Settings
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.room import Room
from triggers.secrets.key_ring import KeyRing
from triggers.wakeups.wakeup import Wakeup


@dataclass(frozen=True, kw_only=True)
class Services:
    """One of each."""

    settings: Settings
    database: Database
    clock: DatabaseClock
    intake: Intake
    keys: KeyCache
    limiter: RateLimiter
    wakeup: Wakeup
    health: Health
    bodies: Room
    """For bodies of requests that are under way."""
    key_ring: KeyRing
    more_metrics: list[Callable[[], bytes]]
    """Metrics of other processes, for `/metrics` to show with this one's."""
    positions: Positions = field(default_factory=Positions)
