"""Trying a subscription out before it exists: sample deliveries, and the dry run of a filter."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Meta

from triggers.domain import (
    MAX_PAGE_BYTES,
    Caller,
    Format,
    OrgId,
    Scope,
    check_type_pattern,
    check_type_patterns,
    minted_at,
    type_matches,
)
from triggers.events import listing
from triggers.events import store as event_store
from triggers.events.body_format import render
from triggers.events.listing import EventFilter
from triggers.events.store import EventRange, StoredEvent
from triggers.fairness.pace import Steps, do
from triggers.fairness.room import Places
from triggers.http.parameters import Query
from triggers.http.route import Route
from triggers.http.views import Timestamp, raw
from triggers.postgres.database import Database
from triggers.subscriptions.body import EventTypes, Filter
from triggers.subscriptions.payload_filter import Budget, FilterInput, PayloadFilter
from triggers.subscriptions.routes import subscription_route

SLICE = 250
"""Events that are read at once. Everybody waits while their rows are decoded, for about a millisecond."""
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
    """Handlers of the URLs of dry runs and samples."""

    def __init__(self, database: Database, pages: Places) -> None:
        """`pages` bounds the dry runs and lists of samples that are under way at the same time."""
        self._database = database
        self._pages = pages

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

    async def _newest_of(
        self, org_id: OrgId, patterns: list[str] | None, limit: int
    ) -> tuple[list[StoredEvent], bool]:
        """The newest events of some types, and whether the search ended before MAX_SCANNED events."""
        found: list[StoredEvent] = []
        below: UUID | None = _BEYOND
        size, scanned = SLICE if patterns else min(limit, SLICE), 0
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
            judged = await do(self._judge(slice_, whole), self._org_id)
            if judged < len(slice_):
                return start + judged
        return len(events)

    def _judge(self, events: list[StoredEvent], whole: Mapping[UUID, WholeEvent]) -> Steps[int]:
        """Judge these events until the budget is used up; return how many were judged."""
        for place, event in enumerate(events):
            if (content := whole.get(event.id)) is None:
                continue
            self._bytes_left -= event.payload_size
            if self._budget.seconds_left <= 0 or self._bytes_left < 0:
                return place
            seen = FilterInput(content.payload, content.type, content.source, content.subject)
            verdict = yield from self._budget.spend(self._filter.judge_in_steps(seen))
            if verdict.matched:
                self.matches.append(_match(event, verdict.failure))
            yield
        return len(events)


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
    """Events in slices of at most SLICE, whose payloads fit into a page, each with its place."""
    slices: list[tuple[int, list[StoredEvent]]] = []
    size = MAX_PAGE_BYTES + 1
    for place, event in enumerate(events):
        size += event.payload_size
        if size > MAX_PAGE_BYTES or len(slices[-1][1]) == SLICE:
            slices.append((place, []))
            size = event.payload_size
        slices[-1][1].append(event)
    return slices


def _match(event: StoredEvent, failure: str | None) -> DryRunMatch:
    return DryRunMatch(id=event.id, type=event.type, created_at=minted_at(event.id), filter_error=failure)


ROUTES = (
    subscription_route("POST", "/dry-run", PreviewRoutes.dry_run),
    Route("GET", "/v1/samples", PreviewRoutes.list_samples, Scope.SUBSCRIPTIONS),
)
