"""Shows what an event would match, or why a stored event was not sent to some subscriptions."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from triggers.domain import Caller, OrgId, Scope, created_at, parse_id
from triggers.errors import NotFound
from triggers.events import reading
from triggers.events import store as event_store
from triggers.events.body import EventBody
from triggers.events.cloudevents import CloudEventBody
from triggers.fairness.pace import do
from triggers.fairness.room import Places
from triggers.http.request import Request
from triggers.http.route import Route
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.previews.event_matching import Addressee, EventMatching, EventToMatch, NoMatch, Reason
from triggers.subscriptions.filter_failures import shown_failure
from triggers.subscriptions.payload_filter import FilterInput

Complete = Annotated[
    bool,
    Meta(
        description="False if some subscriptions were not looked at, because there are more than 10,000 or"
        " compiling their filters took too long."
    ),
]
Reasons = Annotated[
    dict[Reason, int],
    Meta(description="Number of these subscriptions by reason, including those that are not shown."),
]
Kind = Annotated[str, Meta(description="`push` or `inbox`.")]
Name = Annotated[str, Meta(description="The name, or else the key, or else the host of the URL.")]
FilterError = Annotated[
    str | None,
    Meta(description="The failure of the filter on this event. A filter that fails counts as a match."),
]


class MatchedAddressee(msgspec.Struct, kw_only=True):
    """A subscription or inbox that the event would be sent to. If it is paused, it keeps the event."""

    subscription_id: UUID
    kind: Kind
    name: Name
    status: str
    filter_error: FilterError


class OtherAddressee(msgspec.Struct, kw_only=True):
    """A subscription or an inbox that the event is not sent to."""

    subscription_id: UUID
    kind: Kind
    name: Name
    status: str
    reason: Annotated[
        Reason,
        Meta(
            description="`type`: its event types do not include the event's type. `filter`: its filter does"
            " not match. `disabled`: it is disabled. For a stored event also `created_later`: the"
            " subscription was created after the event, and `matches_now`: it would get the event now."
        ),
    ]


class UnsentAddressee(OtherAddressee, kw_only=True):
    """A subscription or an inbox that has no delivery of a stored event."""

    filter_error: FilterError
    changed_since: Annotated[
        bool,
        Meta(
            description="Whether it was created, changed, paused, resumed, enabled or disabled after the"
            " event, or one of its deliveries was cancelled. If so, the reason at that time may differ."
        ),
    ]


class EventDryRun(msgspec.Struct, kw_only=True):
    """The subscriptions and inboxes that the event would be sent to, and the others, at most 200 of each."""

    matched: int
    matches: list[MatchedAddressee]
    unmatched: int
    others: list[OtherAddressee]
    reasons: Reasons
    complete: Complete


class Unmatched(msgspec.Struct, kw_only=True):
    """The subscriptions and inboxes without a delivery of the event. The list has at most 200 of them."""

    unmatched: int
    changed: Annotated[
        int, Meta(description="Number of all those with `changed_since`, including those that are not shown.")
    ]
    others: list[UnsentAddressee]
    reasons: Reasons
    complete: Complete


class EventPreviewRoutes:
    """Handlers of the URLs that match one event against all subscriptions."""

    def __init__(self, database: Database, clock: DatabaseClock, pages: Places) -> None:
        self._database = database
        self._clock = clock
        self._pages = pages

    async def dry_run_event(self, caller: Caller, request: Request) -> EventDryRun:
        """List the subscriptions and inboxes that would get an event, and the reason for each of the others.

        The body is that of `POST /v1/events`. Nothing is stored or sent.
        """
        body = await request.body()
        parse = reading.parser_of(request.fields)
        event = await do(parse(body, caller.org_id, self._clock.mint), caller.org_id)
        seen = FilterInput(event.payload, event.type, event.source, event.subject)
        found = await self._matched(caller.org_id, EventToMatch(event.type, seen))
        return EventDryRun(
            matched=found.matched,
            matches=[
                MatchedAddressee(**_described(match.to), filter_error=match.filter_error)
                for match in found.matches
            ],
            unmatched=found.reasons.total(),
            others=[OtherAddressee(**_described(other.to), reason=other.reason) for other in found.others],
            reasons=dict(found.reasons),
            complete=found.complete,
        )

    async def list_unmatched(self, caller: Caller, event_id: str) -> Unmatched:
        """List the subscriptions and inboxes that have no delivery of an event, with the reasons.

        The reasons follow from the present settings. `changed_since` marks those whose settings may have been
        different at the time of the event.
        """
        stored_id = parse_id(event_id)
        event = None if stored_id is None else await event_store.one(self._database, caller.org_id, stored_id)
        if event is None:
            raise NotFound("No event has this id.")
        async with self._pages.hold(caller.org_id):
            payload = await event_store.payload(self._database, caller.org_id, event.id)
            seen = FilterInput(payload or b"null", event.type, event.source, event.subject)
            found = EventMatching(self._database, caller.org_id, EventToMatch(event.type, seen, event.id))
            await found.run()
        return Unmatched(
            unmatched=found.reasons.total(),
            changed=found.changed,
            others=[_unsent(other, event.id, caller) for other in found.others],
            reasons=dict(found.reasons),
            complete=found.complete,
        )

    async def _matched(self, org_id: OrgId, event: EventToMatch) -> EventMatching:
        async with self._pages.hold(org_id):
            found = EventMatching(self._database, org_id, event)
            await found.run()
            return found


def _unsent(other: NoMatch, event_id: UUID, caller: Caller) -> UnsentAddressee:
    return UnsentAddressee(
        **_described(other.to),
        reason=other.reason,
        filter_error=shown_failure(other.filter_error, caller),
        changed_since=other.to.changed_at > created_at(event_id),
    )


def _described(to: Addressee) -> dict[str, Any]:
    return {"subscription_id": to.id, "kind": to.kind, "name": to.shown_name, "status": to.status}


ROUTES = (
    Route(
        "POST",
        "/v1/events/dry-run",
        EventPreviewRoutes.dry_run_event,
        Scope.SUBSCRIPTIONS,
        reads={"application/json": EventBody, "application/cloudevents+json": CloudEventBody},
    ),
    Route(
        "GET",
        "/v1/events/{event_id}/unmatched",
        EventPreviewRoutes.list_unmatched,
        Scope.SUBSCRIPTIONS,
        or_scope=Scope.READ,
    ),
)
