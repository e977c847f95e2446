"""How a consumer works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from triggers_client.calls import pause_seconds
from triggers_client.errors import RateLimited, TriggersError

_LONGEST_DELAY_SECONDS = 300
_LONGEST_PAUSE_SECONDS = 1.0


class ConsumerOptions(TypedDict, total=False):
    """Options of a consumer. `ConsumerSettings` describes them."""

    concurrency: int
    lease_seconds: int
    max_seconds: float
    max_attempts: int
    drain_seconds: float
    name: str


@dataclass(frozen=True)
class ConsumerSettings:
    """Options of a consumer, checked."""

    concurrency: int = 8
    """How many messages are handled at once."""
    lease_seconds: int = 60
    """Duration of a lease. It is renewed at a third of it, so it bounds how soon the message of a consumer
    that died is leased again."""
    max_seconds: float = 600
    """For so long the lease of one message is renewed."""
    max_attempts: int = 10
    """After so many leases a message whose handler raises is rejected."""
    drain_seconds: float = 25
    """Time for handlers to finish after SIGTERM. What is not finished then is released."""
    name: str | None = None
    """Name of the consumer, shown to people beside its leases."""

    def __post_init__(self) -> None:
        if not 1 <= self.concurrency <= 500:
            raise ValueError("concurrency must be 1 to 500.")
        if not 1 <= self.lease_seconds <= 3600:
            raise ValueError("lease_seconds must be 1 to 3600.")
        if self.max_seconds <= 0 or self.max_attempts < 1 or self.drain_seconds < 0:
            raise ValueError("max_seconds and max_attempts must be positive, and drain_seconds not negative.")

    @property
    def margin_seconds(self) -> float:
        """So long before its end a lease counts as lost, for the handler to hear of it in time."""
        return min(0.5, self.lease_seconds / 10)

    def pause_seconds(self, error: TriggersError, failures: int) -> float:
        """How long to wait before a request about a lease is repeated, even if the service asks for a longer
        pause, so that the lease allows several tries.
        """
        longest = self.lease_seconds / 6 if isinstance(error, RateLimited) else _LONGEST_PAUSE_SECONDS
        return min(pause_seconds(error, failures), longest)


def delay_seconds(lease_count: int) -> int:
    """After how long a message whose handler raised is leased again: 1, 2, 4 … 300 seconds."""
    return min(1 << min(max(lease_count - 1, 0), 20), _LONGEST_DELAY_SECONDS)
