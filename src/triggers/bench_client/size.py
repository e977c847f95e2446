"""The profiles and how much they send: values only, so that the command's help imports nothing else."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

QUICK_CONNECTIONS: Final = 10
WARM_UP_REQUESTS: Final = 20
"""quick: requests to each endpoint that are not measured."""
HEAVY_CONNECTIONS: Final = (64, 256)
LEASE_CONSUMERS: Final = 8


class Profile(StrEnum):
    """The kind of measurement."""

    QUICK = "quick"
    HEAVY = "heavy"
    OPEN = "open"
    DELIVER = "deliver"
    LEASE = "lease"


class Pace(NamedTuple):
    """Events per second, and for how many seconds."""

    rate: float
    seconds: float


class ReceiverAddress(NamedTuple):
    """Where the receiver listens, and the URL by which the service reaches it; None: the same address."""

    host: str = "127.0.0.1"
    port: int = 0
    url: str | None = None


class ProfileSize(NamedTuple):
    """How much a profile sends."""

    requests: int = 100
    """quick: requests for each endpoint before the mix."""
    seconds: float = 10.0
    """Duration of each phase that has one."""
    rate: float = 300.0
    """open and deliver: events per second."""
    messages: int = 5_000
    """lease: messages to lease and acknowledge."""
    lease_limit: int = 100
    """lease: messages of one lease."""
    receiver: ReceiverAddress = ReceiverAddress()

    @property
    def pace(self) -> Pace:
        """The pace of an open loop."""
        return Pace(self.rate, self.seconds)

    def most_requests(self, profile: Profile, ceiling_per_second: float) -> tuple[float, float]:
        """The requests that a run may send at most, and its seconds.

        A closed loop has no other bound than the generator's ceiling.
        """
        match profile:
            case Profile.QUICK:
                return 3 * (
                    self.requests + WARM_UP_REQUESTS
                ) + ceiling_per_second * self.seconds, self.seconds
            case Profile.HEAVY:
                phases = len(HEAVY_CONNECTIONS)
                return ceiling_per_second * self.seconds * phases, self.seconds * phases
            case Profile.OPEN | Profile.DELIVER:
                return self.rate * self.seconds + 2, self.seconds
            case Profile.LEASE:
                # Each event of a batch counts. At worst there is a lease and an acknowledgement for each.
                return 3.0 * self.messages + 2, 0.0
