"""Accepts an event of a caller who is known already, with the checks and limits of `POST /v1/events`."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from triggers import observability
from triggers.domain import Caller, Scope
from triggers.errors import RateLimited, TriggersError
from triggers.events.body import parse_event_in_steps
from triggers.events.group_commit import Acceptor
from triggers.fairness.pace import do
from triggers.keys.rate_limit import RateLimiter


class AcceptFor:
    """Accepts events from pages. `accept.py` is for requests with an API key, and is faster."""

    def __init__(self, acceptor: Acceptor, limiter: RateLimiter, check_room: Callable[[UUID], None]) -> None:
        """`check_room` raises an error if the service has no room for more events of an organisation."""
        self._acceptor = acceptor
        self._limiter = limiter
        self._check_room = check_room

    async def accept(self, caller: Caller, text: bytes) -> tuple[UUID, bool]:
        """Store the event of a JSON text. Return its id, and whether it was stored before.

        Raises:
            TriggersError: the same error that `POST /v1/events` answers with.
        """
        caller.require(Scope.EVENTS_WRITE)
        grant = self._limiter.take(caller)
        if grant is not None and not grant.granted:
            raise RateLimited(retry_after=grant.retry_after)
        self._check_room(caller.org_id)
        event = await do(parse_event_in_steps(text, caller.org_id, self._acceptor.clock.mint), caller.org_id)
        accepted = await self._acceptor.accept(event)
        if isinstance(accepted, TriggersError):
            raise accepted
        observability.events_total.labels("duplicate" if accepted.duplicate else "accepted").inc()
        return accepted.id, accepted.duplicate
