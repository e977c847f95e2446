"""Trying a subscription out: one test delivery, and the result of its first attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

import msgspec

from triggers.deliveries.store import Attempt
from triggers.domain import (
    RESERVED_TYPE_PREFIX,
    AttemptOutcome,
    Caller,
    EventId,
    NewEvent,
    OrgId,
    SubscriptionStatus,
    minted_at,
)
from triggers.errors import Conflict
from triggers.http.response import JsonResponse
from triggers.http.route import Answer
from triggers.http.views import Timestamp, optional_timestamp
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.previews import store as trial_store
from triggers.secrets.key_ring import KeyRing
from triggers.subscriptions import store as subscription_store
from triggers.subscriptions.changes import try_endpoint
from triggers.subscriptions.routes import subscription_route
from triggers.wakeups.wakeup import Wakeup

TEST_TYPE = RESERVED_TYPE_PREFIX + "test"
TEST_WAIT_SECONDS = 20.0
FOLLOWED_SECONDS = 1.25
"""Time after a change of a subscription until its worker applies it."""
POLL_SECONDS = (0.02, 0.25)
"""First and longest pause between two looks for the attempt of a test."""


class TestAttempt(msgspec.Struct, kw_only=True):
    """The HTTP request of the test."""

    id: UUID
    attempt: int
    outcome: AttemptOutcome
    reason: str
    status_code: int | None
    response: str | None
    duration_ms: int
    began_at: Timestamp
    retry_at: Timestamp | None


class TestAnswer(msgspec.Struct, kw_only=True):
    """The delivery of the test, and its first attempt if there was one within 20 seconds."""

    delivery_id: str
    event_id: UUID
    attempt: TestAttempt | None


class DeliveryTestRoutes:
    """Handlers of the URL of test deliveries."""

    def __init__(
        self,
        database: Database,
        key_ring: KeyRing,
        clock: DatabaseClock,
        wakeup: Wakeup,
        stopping: Callable[[], bool],
    ) -> None:
        self._database = database
        self._key_ring = key_ring
        self._clock = clock
        self._wakeup = wakeup
        self._stopping = stopping

    async def test_subscription(self, caller: Caller, subscription_id: str) -> JsonResponse[TestAnswer]:
        """Send a test event to this subscription only.

        The event has the type `triggers.test`. It is delivered and retried like any other event. The test
        waits until changes of the last second are in effect. The answer is 200 with the first attempt, also
        if that failed, or 202 if no attempt was made within 20 seconds, for example because the subscription
        is paused.
        """
        found = await subscription_store.find(self._database, self._key_ring, caller.org_id, subscription_id)
        event_id = self._clock.mint()
        if found.changed_at != found.created_at:
            changed_ago = self._clock.now() - found.changed_at.timestamp()
            await asyncio.sleep(min(max(0.0, FOLLOWED_SECONDS - changed_ago), FOLLOWED_SECONDS))
        payload = {"message": "A test of this subscription.", "subscription_id": str(found.id)}
        event = NewEvent(
            org_id=caller.org_id, id=EventId(event_id), type=TEST_TYPE, payload=msgspec.json.encode(payload)
        )
        if not await trial_store.store_test(self._database, found.id, event):
            raise Conflict("The subscription is disabled. Enable it first.")
        attempt = None
        if found.status == SubscriptionStatus.ACTIVE:
            await try_endpoint(self._database, caller.org_id, found.id)
            attempt = await self._first_attempt(caller.org_id, found.id, event_id)
        answer = TestAnswer(
            delivery_id=f"{event_id}.{found.id}",
            event_id=event_id,
            attempt=None if attempt is None else _attempt(attempt),
        )
        return JsonResponse(answer, status_code=202 if attempt is None else 200)

    async def _first_attempt(self, org_id: OrgId, subscription_id: UUID, event_id: UUID) -> Attempt | None:
        self._wakeup.give({org_id}, [(org_id, subscription_id)])
        deadline = asyncio.get_running_loop().time() + TEST_WAIT_SECONDS
        pause, longest = POLL_SECONDS
        while True:
            found = await trial_store.first_attempt(self._database, org_id, subscription_id, event_id)
            left = deadline - asyncio.get_running_loop().time()
            if found is not None or left <= 0 or self._stopping():
                return found
            await asyncio.sleep(min(left, pause))
            pause = min(longest, pause * 1.5)


def _attempt(attempt: Attempt) -> TestAttempt:
    return TestAttempt(
        id=attempt.id,
        attempt=attempt.attempt,
        outcome=attempt.outcome,
        reason=attempt.reason,
        status_code=attempt.status_code,
        response=attempt.response,
        duration_ms=attempt.duration_ms,
        began_at=minted_at(attempt.id),
        retry_at=optional_timestamp(attempt.retry_at),
    )


ROUTES = (
    subscription_route(
        "POST",
        "/{subscription_id}/test",
        DeliveryTestRoutes.test_subscription,
        answers=(
            Answer(200, "The result of the first attempt."),
            Answer(202, "The test event is stored, but no attempt was made yet."),
            Answer(409, "The subscription is disabled."),
        ),
    ),
)
