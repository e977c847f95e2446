"""Statistics over HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final
from uuid import UUID

from msgspec import Meta

from triggers.domain import Caller, Scope, parse_id, rfc3339
from triggers.errors import NotFound
from triggers.http.parameters import Query
from triggers.http.route import Route
from triggers.http.views import Cursor, next_cursor, page_request
from triggers.postgres.database import Database, Row
from triggers.room import Places
from triggers.statistics import store
from triggers.statistics.body import (
    Failing,
    Numbers,
    OrganisationUse,
    Point,
    Range,
    Statistics,
    UseList,
)
from triggers.statistics.lag import BUCKETS, percentile
from triggers.statistics.store import Span
from triggers.statistics.tally import WHOLE

HOUR: Final = timedelta(hours=1)
STEPS: Final[dict[str, tuple[timedelta, int]]] = {
    "1h": (timedelta(minutes=1), 60),
    "24h": (timedelta(minutes=15), 96),
    "14d": (HOUR, 336),
}
"""The width and the number of the steps of each range."""
UseLimit = Annotated[int, Meta(ge=1, le=200, description="Maximum number of items.")]
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
        sampled: set[datetime] = set()
        async with self._pages.hold(caller.org_id):
            rows = await store.series(self._database, caller.org_id, key, span)
            if subscription_id is None:
                sampled = await store.sampled(self._database, span)
                start, until = (since, since) if chosen == "1h" else (_floor(since, HOUR), hours_until)
                failing = await store.worst(self._database, caller.org_id, start, until)
        return Statistics(
            range=chosen,
            subscription_id=subscription_id,
            since=rfc3339(since),
            until=rfc3339(now),
            step_seconds=int(step.total_seconds()),
            totals=Numbers(**_numbers(rows, whole=subscription_id is None)),
            points=_points(
                [since + step * place for place in range(number)], rows, sampled, whole=key == WHOLE
            ),
            worst=[Failing(**row) for row in failing],
        )

    async def admin_list_use(self, caller: Caller, limit: UseLimit = 100, cursor: Cursor = None) -> UseList:
        """List the use that all organisations make of the service, in the order of their creation.

        The cursors are those of `/v1/admin/orgs`.
        """
        page = page_request(cursor, limit)
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


def _points(
    moments: Iterable[datetime], rows: Sequence[Row], sampled: set[datetime], *, whole: bool
) -> list[Point]:
    """Return a point for each moment. One step can have a row of hours and a row of minutes."""
    by_step: dict[datetime, list[Row]] = {}
    for row in rows:
        by_step.setdefault(row["at"], []).append(row)
    points = []
    for moment in moments:
        found = by_step.get(moment, [])
        backlogs = [row["backlog"] for row in found if row["backlog"] is not None]
        if moment in sampled:  # a sample stores no row for an organisation without a backlog
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


ROUTES = (
    Route("GET", "/v1/stats", StatisticsRoutes.get_statistics, Scope.SUBSCRIPTIONS, or_scope=Scope.READ),
    Route("GET", "/v1/admin/use", StatisticsRoutes.admin_list_use, Scope.ADMIN),
)
