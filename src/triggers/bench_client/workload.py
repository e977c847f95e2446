"""The requests of the profiles, made once as bytes, and the ids that the service gave to what was sent."""

from __future__ import annotations

import itertools
import random
import secrets
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from triggers.bench_client.connection import HttpAnswer
from triggers.bench_client.service import MeasuredService, object_in

SEND: Final = "POST /events"
LIST: Final = "GET /inbox"
ACKNOWLEDGE: Final = "POST /ack"
EVENT_TYPE: Final = "triggers-bench.event"
_MOST_IDS: Final = 200_000
"""Ids that wait to be acknowledged. When there are more, the oldest are forgotten and stay in the inbox."""


class Call(NamedTuple):
    """A request to measure. `answered` gets each answer that is a success."""

    endpoint: str
    request: bytes
    answered: Callable[[HttpAnswer], None] | None = None


Source = Callable[[], Call]
"""Makes the next request."""


class Workload:
    """Makes events, and acknowledges only ids of events that it sent itself.

    The paths have no version, the events have `data`, and the key is in `X-API-Key`, so the same requests
    measure other services with the same contract.
    """

    def __init__(self, service: MeasuredService, event_type: str = EVENT_TYPE) -> None:
        self._service = service
        self._numbers = itertools.count(1)
        self._list = Call(LIST, service.request("GET", "/inbox"))
        self._dice = random.Random(1)  # noqa: S311 - the mix is the same in each run
        self.event_type = event_type
        self.run_id = secrets.token_hex(4)
        self.ids: deque[str] = deque(maxlen=_MOST_IDS)

    def send(self) -> Call:
        """Send one event."""
        return Call(
            SEND, self._service.request("POST", "/events", self.event(next(self._numbers))), self._remember
        )

    def send_only(self) -> Call:
        """Send one event, whose id is not needed."""
        return self.send()._replace(answered=None)

    def event(self, number: int) -> bytes:
        """An event as JSON, with a payload of the size that an order has."""
        return (
            b'{"type":"%b","data":{"run":"%b","number":%d,"amount":129900,"currency":"EUR",'
            b'"customer":"customer-%d"}}'
            % (self.event_type.encode(), self.run_id.encode(), number, number % 997)
        )

    def look(self) -> Call:
        """List the default inbox."""
        return self._list

    def acknowledge(self) -> Call:
        """Acknowledge one event that was sent before. If there is none, send one."""
        if not self.ids:
            return self.send()
        body = b'{"event_ids":["%b"]}' % self.ids.popleft().encode()
        return Call(ACKNOWLEDGE, self._service.request("POST", "/ack", body))

    def mixed(self) -> Call:
        """70 % events, 20 % listings, 10 % acknowledgements."""
        chance = self._dice.random()
        if chance < 0.7:
            return self.send()
        return self.look() if chance < 0.9 else self.acknowledge()

    def _remember(self, answer: HttpAnswer) -> None:
        found = object_in(answer).get("id")
        if isinstance(found, str) and found.isascii() and found.replace("-", "").isalnum():
            self.ids.append(found)
