"""Trying a subscription out: a test delivery, sample deliveries, and the dry run of a filter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Meta

from triggers.deliveries.store import Attempt
from triggers.domain import (
    MAX_PAGE_BYTES,
    RESERVED_TYPE_PREFIX,
    AttemptOutcome,
    Caller,
    EventId,
    Format,
    NewEvent,
    OrgId,
    Scope,
    SubscriptionStatus,
    check_type_pattern,
    check_type_patterns,
    minted_at,
    type_matches,
)
from triggers.errors import Conflict
from triggers.events import listing
from triggers.events import store as event_store
from triggers.events.body_format import render
from triggers.events.listing import EventFilter
from triggers.events.store import EventRange, StoredEvent
from triggers.http.parameters import Query
from triggers.http.response import JsonResponse
from triggers.http.route import Answer, Route
from triggers.http.views import Timestamp, optional_timestamp, raw
from triggers.pace import do
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.previews import store as trial_store
from triggers.room import Places
from triggers.secrets.key_ring import KeyRing
from triggers.subscriptions import store as subscription_store
from triggers.subscriptions.body import EventTypes, Filter
from triggers.subscriptions.payload_filter import Budget, FilterInput, PayloadFilter
from triggers.subscriptions.routes import subscription_route
from triggers.wakeups.wakeup import Wakeup

TEST_TYPE = RESERVED_TYPE_PREFIX + "test"
TEST_WAIT_SECONDS = 20.0
FOLLOWED_SECONDS = 1.25
"""Time after a change of a subscription until its worker applies it."""
POLL_SECONDS = (0.02, 0.25)
"""First and longest pause between two looks for the attempt of a test."""

SLICE = 1_000
MAX_SCANNED = 20_000
"""Maximum number of events that are searched for samples of a type."""
DRY_RUN_SECONDS = 2.0
"""Maximum time for the filters of a dry run. The answer says how many events were matched in it."""
DRY_RUN_BYTES = 4 * MAX_PAGE_BYTES

PAGES_AT_ONCE = 8
"""Maximum number of dry runs and lists of samples that are under way at once, each with the payloads of a
page in memory. Searches, statistics and lists of events with a filter, which read many rows, count as well.
Organisations share them as `Places` says."""

_BEYOND = UUID(int=(1 << 128) - 1)


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


class DryRunBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Event types, a filter to try on the newest events, and the number of these events."""

    event_types: EventTypes | None = None
    filter: Filter | None = None
    last: Annotated[int, Meta(ge=1, le=1000, description="Number of events to look at.")] = 100
    among: Annotated[
        Literal["types", "all"],
        Meta(
            description="The newest events to look at: those of `event_types`, or those of all types. With"
            " `all`, an event of another type is one that does not match."
        ),
    ] = "types"


class DryRunMatch(msgspec.Struct, kw_only=True):
    """An event that would be delivered. `filter_error` is set if the filter failed on it."""

    id: UUID
    type: str
    created_at: Timestamp
    filter_error: str | None


class DryRunAnswer(msgspec.Struct, kw_only=True):
    """The newest events that match, newest first."""

    judged: Annotated[int, Meta(description="Number of events that were looked at, as `among` says.")]
    matched: int
    failed: Annotated[int, Meta(description="Number of matches caused by a failing filter.")]
    complete: Annotated[
        bool,
        Meta(
            description="False if older events were not tried: the dry run took too long, or fewer than"
            " `last` of the newest 20,000 events of all types have these types."
        ),
    ]
    matches: list[DryRunMatch]


class WholeEvent(NamedTuple):
    """An event as body formats need it."""

    org_id: UUID
    id: UUID
    type: str
    payload: bytes
    source: str | None
    subject: str | None
    occurred_at: datetime | None
    attributes: bytes | None = None


class PreviewRoutes:
    """Handlers of this room's URLs."""

    def __init__(
        self,
        database: Database,
        key_ring: KeyRing,
        clock: DatabaseClock,
        wakeup: Wakeup,
        pages: Places,
        stopping: Callable[[], bool],
    ) -> None:
        """`pages` bounds the dry runs and lists of samples that are under way at the same time."""
        self._database = database
        self._key_ring = key_ring
        self._clock = clock
        self._wakeup = wakeup
        self._stopping = stopping
        self._pages = pages

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
            attempt = await self._first_attempt(caller.org_id, found.id, event_id)
        answer = TestAnswer(
            delivery_id=f"{event_id}.{found.id}",
            event_id=event_id,
            attempt=None if attempt is None else _attempt(attempt),
        )
        return JsonResponse(answer, status_code=202 if attempt is None else 200)

    async def list_samples(
        self,
        caller: Caller,
        event_type: Annotated[
            str,
            Query("type"),
            Meta(
                description="An exact type, or a pattern such as `order.*`. Default: all types.",
                max_length=255,
            ),
        ]
        | None = None,
        body_format: Annotated[
            Format, Query("format"), Meta(description="Format of the request body.")
        ] = "standard",
        limit: Annotated[int, Meta(ge=1, le=100)] = 3,
    ) -> list[Any]:
        """Get the newest events, newest first, exactly as they would be delivered.

        The answer is an array without an envelope, as hook platforms expect. It is empty if none of the
        newest 20,000 events has the type.
        """
        wanted, _ = await self._newest_of(
            caller.org_id, [check_type_pattern(event_type, "type")] if event_type else None, limit
        )
        samples: list[Any] = []
        size = 0
        async with self._pages.hold(caller.org_id):
            events = await _whole(self._database, caller.org_id, wanted)
            attributes = await event_store.attributes(
                self._database, caller.org_id, [event.id for event in events]
            )
            for event in events:
                body = render(body_format, event._replace(attributes=attributes.get(event.id)))[1]
                size += len(body)
                if samples and size > MAX_PAGE_BYTES:
                    break
                samples.append(raw(body))
        return samples

    async def dry_run(self, caller: Caller, data: DryRunBody) -> DryRunAnswer:
        """List the newest events that a subscription with these types and this filter would receive."""
        patterns = check_type_patterns(data.event_types)
        payload_filter = None if data.filter is None else PayloadFilter.compile(data.filter)
        among = patterns if data.among == "types" else None
        events, found_all = await self._newest_of(caller.org_id, among, data.last)
        if payload_filter is None:
            matches = [_match(event, None) for event in events if type_matches(event.type, patterns)]
            return DryRunAnswer(
                judged=len(events), matched=len(matches), failed=0, complete=found_all, matches=matches
            )
        judging = _Judging(self._database, caller.org_id, patterns, payload_filter)
        async with self._pages.hold(caller.org_id):
            judged = await judging.run(events)
        return DryRunAnswer(
            judged=judged,
            matched=len(judging.matches),
            failed=sum(match.filter_error is not None for match in judging.matches),
            complete=found_all and judged == len(events),
            matches=judging.matches,
        )

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

    async def _newest_of(
        self, org_id: OrgId, patterns: list[str] | None, limit: int
    ) -> tuple[list[StoredEvent], bool]:
        """The newest events of some types, and whether the search ended before MAX_SCANNED events."""
        found: list[StoredEvent] = []
        below: UUID | None = _BEYOND
        size, scanned = SLICE if patterns else limit, 0
        while scanned < MAX_SCANNED:
            within = EventRange(UUID(int=0), below or _BEYOND, newest_first=True)
            page = await listing.page_of(self._database, org_id, within, EventFilter(), size)
            size, scanned = SLICE, scanned + size
            found += [event for event in page.events if type_matches(event.type, patterns)]
            below = page.looked_to if page.more else None
            if len(found) >= limit or below is None:
                return found[:limit], True
        return found, False


# ---- steps ---------------------------------------------------------------------------------------


class _Judging:
    """A filter on many events: on the loop, but never for long at a time, and not for ever."""

    def __init__(
        self, database: Database, org_id: OrgId, patterns: list[str] | None, payload_filter: PayloadFilter
    ) -> None:
        self._database = database
        self._org_id = org_id
        self._patterns = patterns
        self._filter = payload_filter
        self._budget = Budget(DRY_RUN_SECONDS)
        self._bytes_left = DRY_RUN_BYTES
        self.matches: list[DryRunMatch] = []

    async def run(self, events: list[StoredEvent]) -> int:
        """Judge from the first on; return how many were judged."""
        for start, slice_ in _slices(events):
            candidates = [event for event in slice_ if type_matches(event.type, self._patterns)]
            whole = {each.id: each for each in await _whole(self._database, self._org_id, candidates)}
            for place, event in enumerate(slice_):
                if (content := whole.get(event.id)) is None:
                    continue
                self._bytes_left -= event.payload_size
                if self._budget.seconds_left <= 0 or self._bytes_left < 0:
                    return start + place
                await self._judge(event, content)
        return len(events)

    async def _judge(self, event: StoredEvent, content: WholeEvent) -> None:
        seen = FilterInput(content.payload, content.type, content.source, content.subject)
        judging = self._budget.spend(self._filter.judge_in_steps(seen))
        verdict = await do(judging, self._org_id)
        if verdict.matched:
            self.matches.append(_match(event, verdict.failure))


async def _whole(database: Database, org_id: OrgId, events: list[StoredEvent]) -> list[WholeEvent]:
    """These events with their payloads, as long as they fit into a page; one at least."""
    fitting: list[StoredEvent] = []
    size = 0
    for event in events:
        size += event.payload_size
        if fitting and size > MAX_PAGE_BYTES:
            break
        fitting.append(event)
    payloads = await event_store.payloads(database, org_id, [event.id for event in fitting])
    return [
        WholeEvent(
            org_id=org_id,
            id=event.id,
            type=event.type,
            payload=payloads[event.id].payload,
            source=event.source,
            subject=event.subject,
            occurred_at=event.occurred_at,
        )
        for event in fitting
        if event.id in payloads
    ]


def _slices(events: list[StoredEvent]) -> list[tuple[int, list[StoredEvent]]]:
    """Events in slices whose payloads fit into a page, each with its place."""
    slices: list[tuple[int, list[StoredEvent]]] = []
    size = MAX_PAGE_BYTES + 1
    for place, event in enumerate(events):
        size += event.payload_size
        if size > MAX_PAGE_BYTES:
            slices.append((place, []))
            size = event.payload_size
        slices[-1][1].append(event)
    return slices


def _match(event: StoredEvent, failure: str | None) -> DryRunMatch:
    return DryRunMatch(id=event.id, type=event.type, created_at=minted_at(event.id), filter_error=failure)


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
    subscription_route("POST", "/dry-run", PreviewRoutes.dry_run),
    subscription_route(
        "POST",
        "/{subscription_id}/test",
        PreviewRoutes.test_subscription,
        answers=(
            Answer(200, "The result of the first attempt."),
            Answer(202, "The test event is stored, but no attempt was made yet."),
            Answer(409, "The subscription is disabled."),
        ),
    ),
    Route("GET", "/v1/samples", PreviewRoutes.list_samples, Scope.SUBSCRIPTIONS),
)
