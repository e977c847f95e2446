"""Replays over HTTP: jobs that deliver past events again, or for the first time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from triggers.deliveries import store as delivery_store
from triggers.deliveries import undelivered
from triggers.deliveries.store import Recipient
from triggers.deliveries.undelivered import Named
from triggers.domain import Caller, OrgId, Scope, check_type_patterns, minted_at, parse_id, rfc3339
from triggers.errors import Conflict, Invalid, NotFound
from triggers.http.request import Request
from triggers.http.response import JsonResponse
from triggers.http.route import Answer, Route
from triggers.http.views import (
    FIRST_PAGE,
    PageQuery,
    Timestamp,
    moment_of,
    next_cursor,
    optional_timestamp,
    page_request,
)
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.replays import store as replay_store
from triggers.replays.job import (
    Range,
    ReplayPlan,
    new_replay,
    plan,
    range_of,
)
from triggers.replays.store import Action, Job
from triggers.subscriptions.changes import try_endpoint

DEFAULT_RATE = 100
Only = Literal["dead", "all"]
_TYPES = "Only events of these types. The patterns of subscriptions are allowed."


class ReplayBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The deliveries to replay."""

    subscription_id: Annotated[
        str, Meta(max_length=36, description="Id of a push subscription or of an inbox.")
    ]
    since: Annotated[
        Timestamp | None, Meta(description="Events accepted at or after this time. Null: all stored ones.")
    ] = None
    until: Annotated[
        Timestamp | None, Meta(description="Events accepted before this time. Null: until now.")
    ] = None
    event_types: Annotated[list[str], Meta(max_length=100, description=_TYPES)] | None = None
    only: Annotated[
        Only,
        Meta(
            description="`dead`: deliveries that are dead, cancelled or expired. `all`: all events that match"
            " the current settings of the subscription, delivered or not. Pending deliveries are kept."
        ),
    ] = "dead"
    action: Annotated[
        Action,
        Meta(
            description="`replay` sends the deliveries again. `retry` makes pending deliveries due now, and"
            " `cancel` cancels pending deliveries. `retry` and `cancel` ignore `only`."
        ),
    ] = "replay"
    rate: Annotated[int, Meta(ge=1, le=10_000, description="Maximum deliveries per second.")] = DEFAULT_RATE
    plan_only: Annotated[
        bool, Meta(description="Only return the plan, with status 200, and create nothing.")
    ] = False


class ReplayView(msgspec.Struct, kw_only=True):
    """A replay, or the backfill of a subscription that starts in the past."""

    id: Annotated[UUID | None, Meta(description="Null for a plan.")]
    kind: Literal["replay", "backfill"]
    action: Action
    subscription_id: UUID
    subscription_kind: Annotated[str, Meta(description="`push` or `inbox`.")]
    subscription_name: Annotated[
        str, Meta(description="The name, or else the key, or else the host of the URL.")
    ]
    status: Annotated[str, Meta(description="`planned`, `running`, `done`, `cancelled` or `failed`.")]
    reason: Annotated[str | None, Meta(description="Why the replay waits, or how it ended.")]
    only: Only
    event_types: list[str] | None
    since: Timestamp
    until: Timestamp
    rate: int
    planned: Annotated[int | None, Meta(description="Expected number of deliveries. Null for a backfill.")]
    planned_exact: Annotated[
        bool, Meta(description="True if `planned` was counted, false if it is an estimate.")
    ]
    planned_seconds: Annotated[float | None, Meta(description="Minimum duration in seconds, at this rate.")]
    made: Annotated[int, Meta(description="Number of deliveries created, made due or cancelled so far.")]
    progress: Annotated[float, Meta(description="Completed share of the time range, from 0 to 1.")]
    created_at: Timestamp | None
    updated_at: Timestamp | None
    finished_at: Timestamp | None


class ReplayList(msgspec.Struct):
    """A page of replays."""

    data: list[ReplayView]
    next_cursor: str | None


class ReplayRoutes:
    """Handlers of this room's URLs."""

    def __init__(self, clock: DatabaseClock, database: Database) -> None:
        self._clock = clock
        self._database = database

    async def create_replay(
        self, caller: Caller, request: Request, data: ReplayBody
    ) -> JsonResponse[ReplayView]:
        """Replay events to a subscription or an inbox, or retry or cancel its pending deliveries.

        The job runs in the background. A replay creates the next generation of each delivery. Live
        deliveries go first. `retry` makes pending deliveries due now, and counts those that are due already.
        An endpoint that is only probed is tried at once with one delivery, and gets the others when that one
        has arrived. With `plan_only`, the answer is 200 with the plan, and nothing is created.
        """
        to = await self._recipient(caller, data.subscription_id, data.action)
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        chosen = await self._range(caller, data, now)
        found = await plan(self._database, to, chosen, data.rate, now)
        if data.plan_only:
            names = await undelivered.names(self._database, caller.org_id, [to.id])
            return JsonResponse(_planned(names[to.id], to, chosen, data, found), status_code=200)
        job = await replay_store.create(
            self._database,
            caller.org_id,
            new_replay(self._clock.mint(), to, chosen, found),
        )
        if data.action != "cancel":
            await try_endpoint(self._database, caller.org_id, to.id)
        location = f"{request.root_path}/v1/replays/{job.id}"
        return JsonResponse(await self._view(job), status_code=201, headers={"location": location})

    async def list_replays(
        self,
        caller: Caller,
        subscription_id: Annotated[str, Meta(max_length=36)] | None = None,
        status: Annotated[str, Meta(pattern="^(running|done|cancelled|failed)$")] | None = None,
        asked: PageQuery = FIRST_PAGE,
    ) -> ReplayList:
        """List replays and backfills, newest first."""
        page = page_request(asked)
        found = await replay_store.listed(
            self._database,
            caller.org_id,
            page,
            subscription_id=None if subscription_id is None else parse_id(subscription_id) or UUID(int=0),
            status=status,
        )
        return ReplayList(await self._views(caller.org_id, found), next_cursor(found, page))

    async def get_replay(self, caller: Caller, replay_id: str) -> ReplayView:
        """Get a replay and its progress."""
        return await self._view(await replay_store.find(self._database, caller.org_id, parse_id(replay_id)))

    async def cancel_replay(self, caller: Caller, replay_id: str) -> ReplayView:
        """Cancel a replay. Deliveries that it created are kept. A replay that has ended is not changed."""
        return await self._view(
            await replay_store.cancel(
                self._database, caller.org_id, parse_id(replay_id), "cancelled by request"
            )
        )

    async def _view(self, job: Job) -> ReplayView:
        return (await self._views(job.org_id, [job]))[0]

    async def _views(self, org_id: OrgId, jobs: list[Job]) -> list[ReplayView]:
        names = await undelivered.names(self._database, org_id, [job.subscription_id for job in jobs])
        return [_view(names[job.subscription_id], job) for job in jobs]

    async def _recipient(self, caller: Caller, subscription_id: str, action: Action) -> Recipient:
        try:
            to = await delivery_store.recipient(self._database, caller.org_id, parse_id(subscription_id))
        except NotFound:
            raise Invalid("No subscription has this id.", pointer="/subscription_id") from None
        if to.ended:
            raise Conflict(f"The subscription is {to.status}, so nothing is sent to it.")
        if to.notifies_inbox is not None and action == "replay":
            raise Conflict("This subscription sends the notifications of an inbox. Replay the inbox instead.")
        return to

    async def _range(self, caller: Caller, data: ReplayBody, now: datetime) -> Range:
        types = None if data.event_types is None else check_type_patterns(data.event_types)
        since, until = moment_of(data.since, "/since"), moment_of(data.until, "/until")
        if since is not None and until is not None and since >= until:
            raise Invalid("Must be later than `since`.", pointer="/until")
        first, end = await range_of(
            self._database, caller.org_id, since, now if until is None else min(until, now)
        )
        if until is None or until >= now:
            # What this process has accepted is before it, also if the clock was a moment ahead at that time.
            end = max(end, self._clock.mint())
        return Range(first, end, types, data.only == "dead", data.action)


# ---- views ---------------------------------------------------------------------------------------


def _planned(named: Named, to: Recipient, chosen: Range, data: ReplayBody, found: ReplayPlan) -> ReplayView:
    return ReplayView(
        id=None,
        kind="replay",
        action=chosen.action,
        subscription_id=to.id,
        subscription_kind=named.kind,
        subscription_name=named.name,
        status="planned",
        reason=None,
        only=data.only,
        event_types=chosen.event_types,
        since=minted_at(chosen.first_id),
        until=minted_at(chosen.end_id),
        rate=data.rate,
        planned=found.deliveries,
        planned_exact=found.exact,
        planned_seconds=round(found.seconds, 1),
        made=0,
        progress=0.0,
        created_at=None,
        updated_at=None,
        finished_at=None,
    )


def _view(named: Named, job: Job) -> ReplayView:
    wait = max(0.0, (job.not_before - job.created_at).total_seconds()) if job.made == 0 else 0.0
    return ReplayView(
        id=job.id,
        kind="backfill" if job.kind == "backfill" else "replay",
        action=job.action,
        subscription_id=job.subscription_id,
        subscription_kind=named.kind,
        subscription_name=named.name,
        status=job.status,
        reason=job.reason,
        only="dead" if job.only_dead else "all",
        event_types=job.event_types,
        since=minted_at(job.first_id),
        until=minted_at(job.end_id),
        rate=job.rate,
        planned=job.planned,
        planned_exact=job.plan_exact,
        planned_seconds=None if job.planned is None else round(wait + job.planned / job.rate, 1),
        made=job.made,
        progress=_progress(job),
        created_at=rfc3339(job.created_at),
        updated_at=rfc3339(job.updated_at),
        finished_at=optional_timestamp(job.finished_at),
    )


def _progress(job: Job) -> float:
    whole = job.end_id.int - job.first_id.int
    if job.status == "done" or whole <= 0:
        return 1.0 if job.status == "done" else 0.0
    return round((job.position.int - job.first_id.int) / whole, 4)


ROUTES = (
    Route("GET", "/v1/replays", ReplayRoutes.list_replays, Scope.SUBSCRIPTIONS, or_scope=Scope.READ),
    Route(
        "POST",
        "/v1/replays",
        ReplayRoutes.create_replay,
        Scope.SUBSCRIPTIONS,
        201,
        (
            Answer(201, "The replay runs.", headers=("Location",)),
            Answer(200, "With `plan_only`: the plan. Nothing is created."),
            Answer(
                409,
                "The subscription has ended or sends the notifications of an inbox, or too many replays run.",
            ),
        ),
    ),
    Route(
        "GET",
        "/v1/replays/{replay_id}",
        ReplayRoutes.get_replay,
        Scope.SUBSCRIPTIONS,
        or_scope=Scope.READ,
    ),
    Route("DELETE", "/v1/replays/{replay_id}", ReplayRoutes.cancel_replay, Scope.SUBSCRIPTIONS),
)
