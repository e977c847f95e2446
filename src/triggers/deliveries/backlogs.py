"""Counts unsettled deliveries, and refuses events of organisations that have too many of them."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import structlog

from triggers.background import Duty
from triggers.domain import OrgId
from triggers.errors import BacklogFull
from triggers.postgres.database import PLAN_BY_INDEX, Connection, Database, statements
from triggers.postgres.kept_connection import KeptConnection

log = structlog.get_logger()

MEASURE_SECONDS: Final = 60
STATEMENT_SECONDS: Final = 60.0
"""Counting five million rows of an index takes a second if they are in memory, and longer if they are not."""
ORGANISATIONS_AT_ONCE: Final = 100

_SQL = statements(__name__)


class Backlogs:
    """Counts the unsettled deliveries of organisations once a minute. It stops counting just above `most`.

    An organisation: unknown ──it accepts an event──▶ to be measured ──within a minute──▶ unknown, or full
                     full ──each minute: measured again, and below `most`──▶ unknown

    Until it is measured, an organisation can exceed `most` by all that it sends within that minute.
    """

    def __init__(self, database: Database, most: int) -> None:
        """`most` unsettled deliveries per organisation; 0 for no limit."""
        self._connection = KeptConnection(database, STATEMENT_SECONDS, PLAN_BY_INDEX)
        self._most = most
        self._accepted: set[UUID] = set()
        self._to_measure: list[UUID] = []
        self.full: dict[UUID, UUID] = {}
        """By organisation over the limit: the subscription with most of the deliveries that were counted."""

    def duties(self) -> list[Duty]:
        """The measuring, if there is a limit."""
        return [Duty("backlogs", MEASURE_SECONDS, self.measure)] if self._most else []

    def accepted(self, org_ids: set[UUID]) -> None:
        """Note the organisations of a batch that was stored."""
        if self._most:  # else nothing is measured, and the set would only grow
            self._accepted |= org_ids

    def check(self, org_id: UUID) -> None:
        """Raise BacklogFull if an organisation had too many unsettled deliveries when it was measured."""
        if (subscription_id := self.full.get(org_id)) is not None:
            raise BacklogFull(retry_after=MEASURE_SECONDS, subscription_id=str(subscription_id))

    async def measure(self) -> bool:
        """Measure organisations that have accepted events since they were measured, and those that are full.

        Returns whether more of them are to be measured at once.
        """
        if not self._to_measure:
            self._to_measure = list(self._accepted | self.full.keys())
            self._accepted = set()
        if self._to_measure:
            async with self._connection.use() as connection:
                for _ in range(min(ORGANISATIONS_AT_ONCE, len(self._to_measure))):
                    # Taken first, so that one that cannot be counted in time does not hold up the others.
                    org_id = self._to_measure.pop()
                    self._note(org_id, await count(connection, OrgId(org_id), self._most))
        return bool(self._to_measure)

    def close(self) -> None:
        """Close its connection."""
        self._connection.drop()

    def _note(self, org_id: UUID, found: tuple[int, UUID | None]) -> None:
        number, largest = found
        if number <= self._most or largest is None:
            if self.full.pop(org_id, None) is not None:
                log.info("backlog_has_room", org_id=str(org_id), deliveries=number)
            return
        if org_id not in self.full:
            log.warning("backlog_full", org_id=str(org_id), most=self._most, subscription_id=str(largest))
        self.full[org_id] = largest


async def count(connection: Connection, org_id: OrgId, most: int) -> tuple[int, UUID | None]:
    """The unsettled deliveries of an organisation, counted up to one more than `most`, and the subscription
    that has most of those that were counted."""
    row = await connection.fetchrow(_SQL["count"], org_id, most + 1)
    return (0, None) if row is None else (row["counted"], row["subscription_id"])
