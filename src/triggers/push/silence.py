"""Finds workers that have fallen silent, only from what this worker has seen itself. Pure.

The age of a heartbeat means nothing after an outage of the database, because then every heartbeat is old. So
the observer counts only the time between its own successful heartbeats, with which it also reads those of
the others. A worker is silent if its heartbeat did not change for the take-over time, counted in this way.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID


class Observation(NamedTuple):
    """The conclusions of the observer from its last successful heartbeat."""

    silent: dict[UUID, datetime]
    """Workers that have fallen silent, with the last heartbeat of each."""
    unbroken: bool
    """Whether the observer has been beating without a failure for the take-over time."""


class Silence:
    """The heartbeats that one observer has seen, and for how much observed time each has stood still."""

    def __init__(self, takeover_seconds: float, *, longest_gap_seconds: float) -> None:
        """At most `longest_gap_seconds` of the time between two heartbeats count. In a longer gap the
        observer, the database or the whole machine stood still, and the other workers perhaps too."""
        self._takeover_seconds = takeover_seconds
        self._longest_gap_seconds = longest_gap_seconds
        self._observed_seconds = 0.0
        self._unbroken_seconds = 0.0
        self._last_beat_at: float | None = None  # None: no beat yet, or one has failed since
        self._seen: dict[UUID, tuple[datetime, float]] = {}  # heartbeat, and the observed time at first sight

    def beat_failed(self) -> None:
        """A beat of the observer failed. The time until the next good one counts for nobody's silence."""
        self._last_beat_at = None
        self._unbroken_seconds = 0.0

    def beat_succeeded(self, at: float, heartbeats: Mapping[UUID, datetime]) -> Observation:
        """A beat at the monotonic time `at` succeeded, and the living workers had these heartbeats."""
        if self._last_beat_at is not None:
            gap = min(at - self._last_beat_at, self._longest_gap_seconds)
            self._observed_seconds += gap
            self._unbroken_seconds += gap
        self._last_beat_at = at
        first_sight = self._observed_seconds
        self._seen = {
            worker_id: seen
            if (seen := self._seen.get(worker_id)) is not None and seen[0] == heartbeat_at
            else (heartbeat_at, first_sight)
            for worker_id, heartbeat_at in heartbeats.items()
        }
        silent = {
            worker_id: heartbeat_at
            for worker_id, (heartbeat_at, since) in self._seen.items()
            if self._observed_seconds - since >= self._takeover_seconds
        }
        return Observation(silent, self._unbroken_seconds >= self._takeover_seconds)
