"""Decides whether to send to an endpoint. After OPENS_AFTER failures in a row it is only probed.

Waiting for a probe uses up no attempt. This module does no I/O, and callers pass the time.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from triggers.outbound.result import NOT_THE_ENDPOINT, Reason

OPENS_AFTER: Final = 10
"""Number of failures in a row after which the breaker opens."""
FIRST_PROBE_SECONDS: Final = 1.0
LONGEST_PROBE_SECONDS: Final = 60.0
SUCCESS_IS_NEWS_AFTER: Final = timedelta(seconds=10)
"""Minimum time between two successes that are recorded, because there may be thousands per second."""


class Breaker:
    """The health of one endpoint. `failing_since` and the next probe are stored in the database."""

    __slots__ = ("changed", "failing_since", "failures", "last_success_at", "probe_at", "probe_delay")

    def __init__(
        self, failing_since: datetime | None, probe_at: datetime | None, probe_delay: float | None
    ) -> None:
        self.failing_since = failing_since
        self.probe_at = probe_at
        self.probe_delay = probe_delay or FIRST_PROBE_SECONDS
        self.failures = OPENS_AFTER if probe_at else 0
        self.last_success_at: datetime | None = None
        self.changed = False

    @property
    def open(self) -> bool:
        """Whether only probes may go."""
        return self.probe_at is not None

    def may_send(self, now: datetime, in_flight: int) -> bool:
        """Whether an attempt may begin: while open, only one at a time, and not before `probe_at`."""
        return self.probe_at is None or (in_flight == 0 and now >= self.probe_at)

    def try_at(self, moment: datetime) -> None:
        """Let the next probe go at `moment`, if it would be later."""
        if self.probe_at is not None:
            self.probe_at = min(self.probe_at, moment)

    def succeeded(self, now: datetime) -> None:
        """An attempt was answered with success."""
        last = self.last_success_at
        if not self.failures and last is not None and now - last < SUCCESS_IS_NEWS_AFTER:
            return
        self.changed = True
        self.last_success_at = now
        self.failing_since = self.probe_at = None
        self.failures = 0
        self.probe_delay = FIRST_PROBE_SECONDS

    def failed(self, now: datetime, reason: Reason) -> None:
        """An attempt failed. Failures that the endpoint did not cause are ignored."""
        if reason in NOT_THE_ENDPOINT:
            return
        if self.failing_since is None:
            self.failing_since = now
            self.changed = True
        self.failures += 1
        if self.failures < OPENS_AFTER:
            return
        if self.probe_at is None or now >= self.probe_at:
            if self.probe_at is not None:
                self.probe_delay = min(self.probe_delay * 2, LONGEST_PROBE_SECONDS)
            self.probe_at = now + timedelta(seconds=self.probe_delay)
            self.changed = True
