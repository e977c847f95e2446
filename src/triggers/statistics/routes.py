"""Statistics over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final
from uuid import UUID

from msgspec import Meta

from triggers.domain import Caller, Scope, parse_id, rfc3339
from triggers.errors import NotFound
from triggers.fairness.room import Places
from triggers.http.parameters import Query
from triggers.http.route import Route
from triggers.http.views import Cursor, PageQuery, make_cursor, next_cursor, page_request
from triggers.postgres.database import Database, Row
from triggers.statistics import store
from triggers.statistics.body import (
    Failing,
    Numbers,
    OrganisationUse,
    Point,
    Range,
    Statistics,
    StatisticsGap,
    SubscriptionHours,
    SubscriptionStatistics,
    UseList,
)
from triggers.statistics.gaps import gaps
from triggers.statistics.lag import BUCKETS, percentile
from triggers.statistics.store import Span
from triggers.statistics.tally import WHOLE

MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)
STEPS: Final[dict[str, tuple[timedelta, int]]] = {
    "1h": (MINUTE, 60),
    "24h": (timedelta(minutes=15), 96),
    "14d": (HOUR, 336),
}
"""The width and the number of the steps of each range."""
UseLimit = Annotated[int, Meta(ge=1, le=200, description="Maximum number of items.")]
HOURS: Final = 24
"""Number of hours that are listed for a page of subscriptions."""
Some = Annotated[int, Meta(ge=1, le=200, description="Maximum number of subscriptions.")]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_COUNTS: Final = ("accepted", "duplicate", "delivered", "failed", "dead")


class StatisticsRoutes:
    """Handlers of this room's URLs."""

    def __init__(self, database: Database, pages: Places) -> None:
        """`pages` bounds the requests that are under way at once, as each adds up many rows."""
        self._database = database
        self._pages = pages

    async def get_statistics(
        self,
        caller: Caller,
        chosen: Annotated[Range, Query("range"), Meta(description="Time range up to now.")] = "1h",
        subscription: Annotated[str, Meta(max_length=36, description="Id of a push subscription.")]
        | None = None,
    ) -> Statistics:
        """Get numbers of accepted events, deliveries, failed attempts and dead letters over time.

        Without `subscription`, these are the numbers of the whole organisation. Each process counts in memory
        and writes its numbers every ten seconds, so the last seconds may be missing. If a process is killed,
        the numbers that it had not written are lost. If more than a thousand subscriptions are active, some
        of them may be counted for the organisation only. Numbers by minute are kept for 48 hours, and numbers
        by hour for 30 days.
        """
        subscription_id = await self._subscription(caller, subscription)
        now, hours_until = await store.now(self._database)
        step, number = STEPS[chosen]
        since = _floor(now, step) - step * (number - 1)
        span = Span(since, step, hours_until if step == HOUR else since)
        key = subscription_id or WHOLE
        failing: list[Row] = []
        async with self._pages.hold(caller.org_id):
            rows = await store.series(self._database, caller.org_id, key, span)
            sampled = await store.sampled(self._database, span)
            if subscription_id is None:
                start, until = (since, since) if chosen == "1h" else (_floor(since, HOUR), hours_until)
                failing = await store.worst(self._database, caller.org_id, start, until)
            known = sampled | {row["at"] for row in rows}
            if step < HOUR:  # a part of a longer step can be a gap too
                known = await store.known_minutes(self._database, caller.org_id, key, since)
        return Statistics(
            range=chosen,
            subscription_id=subscription_id,
            since=rfc3339(since),
            until=rfc3339(now),
            step_seconds=int(step.total_seconds()),
            totals=Numbers(**_numbers(rows, whole=subscription_id is None)),
            points=_points(_moments(since, step, number), rows, sampled, whole=key == WHOLE),
            worst=[Failing(**row) for row in failing],
            gaps=[
                StatisticsGap(since=rfc3339(each.since), until=rfc3339(each.until))
                for each in gaps(since, HOUR if step == HOUR else MINUTE, known, now)
            ],
        )

    async def list_statistics(
        self, caller: Caller, limit: Some = 100, cursor: Cursor = None
    ) -> SubscriptionStatistics:
        """List the numbers of push subscriptions by hour, over the last 24 hours.

        The order and the cursors are those of `GET /v1/subscriptions`, so the same `limit` and `cursor` give
        the numbers of the same page.
        """
        page = page_request(PageQuery(limit, cursor))
        now, hours_until = await store.now(self._database)
        since = _floor(now, HOUR) - HOUR * (HOURS - 1)
        async with self._pages.hold(caller.org_id):
            ids = await store.subscription_ids(self._database, caller.org_id, page)
            rows = await store.subscription_hours(self._database, caller.org_id, ids, since, hours_until)
        return SubscriptionStatistics(
            since=rfc3339(since),
            until=rfc3339(now),
            data=_by_subscription(ids, rows, since),
            next_cursor=make_cursor(ids[-1]) if len(ids) == page.limit else None,
        )

    async def admin_list_use(self, caller: Caller, limit: UseLimit = 100, cursor: Cursor = None) -> UseList:
        """List the use that all organisations make of the service, in the order of their creation.

        The cursors are those of `/v1/admin/orgs`.
        """
        page = page_request(PageQuery(limit, cursor))
        now, hours_until = await store.now(self._database)
        since = _floor(now, HOUR) - 23 * HOUR
        async with self._pages.hold(caller.org_id):
            found = await store.use(self._database, page, since, hours_until)
        data = [
            OrganisationUse(**row, backlog_is_cut=(row["backlog"] or 0) >= store.MOST_WAITING)
            for row in found
        ]
        return UseList(since=rfc3339(since), data=data, next_cursor=next_cursor(data, page))

    async def _subscription(self, caller: Caller, text: str | None) -> UUID | None:
        if text is None:
            return None
        found = parse_id(text)
        if found is None or not await store.has_subscription(self._database, caller.org_id, found):
            raise NotFound("No push subscription has this id.")
        return found


# ---- steps -----------------------------------------------------------------------------------------


def _floor(moment: datetime, step: timedelta) -> datetime:
    return _EPOCH + (moment - _EPOCH) // step * step


def _moments(since: datetime, step: timedelta, number: int) -> list[datetime]:
    return [since + step * place for place in range(number)]


def _points(
    moments: Sequence[datetime], rows: Sequence[Row], sampled: set[datetime], *, whole: bool
) -> list[Point]:
    """Return a point for each moment. One step can have a row of hours and a row of minutes."""
    by_step: dict[datetime, list[Row]] = {}
    for row in rows:
        by_step.setdefault(row["at"], []).append(row)
    points = []
    for moment in moments:
        found = by_step.get(moment, [])
        backlogs = [row["backlog"] for row in found if row["backlog"] is not None]
        if whole and moment in sampled:  # a sample stores no row for an organisation without a backlog
            backlogs.append(0)
        points.append(
            Point(at=rfc3339(moment), backlog=max(backlogs, default=None), **_numbers(found, whole=whole))
        )
    return points


def _numbers(rows: Sequence[Row], *, whole: bool) -> dict[str, Any]:
    counts: dict[str, int | None] = {name: sum(row[name] for row in rows) for name in _COUNTS}
    if not whole:
        counts["accepted"] = counts["duplicate"] = None
    lags = [row["lag"] for row in rows if row["lag"] is not None]
    lag = [sum(each[place] or 0 for each in lags) for place in range(BUCKETS)]
    return {
        **counts,
        "lag_p50_seconds": percentile(lag, 0.5),
        "lag_p95_seconds": percentile(lag, 0.95),
    }


def _by_subscription(ids: Sequence[UUID], rows: Sequence[Row], since: datetime) -> list[SubscriptionHours]:
    found = {
        each: SubscriptionHours(
            subscription_id=each, delivered=[0] * HOURS, failed=[0] * HOURS, dead=[0] * HOURS
        )
        for each in ids
    }
    for row in rows:
        its, place = found[row["subscription_id"]], (row["at"] - since) // HOUR
        if place < HOURS:  # the next hour may begin between two statements
            its.delivered[place] += row["delivered"]
            its.failed[place] += row["failed"]
            its.dead[place] += row["dead"]
    return list(found.values())


ROUTES = (
    Route("GET", "/v1/stats", StatisticsRoutes.get_statistics, Scope.SUBSCRIPTIONS, or_scope=Scope.READ),
    Route("GET", "/v1/admin/use", StatisticsRoutes.admin_list_use, Scope.ADMIN),
    Route(
        "GET",
        "/v1/stats/subscriptions",
        StatisticsRoutes.list_statistics,
        Scope.SUBSCRIPTIONS,
        or_scope=Scope.READ,
    ),
)
