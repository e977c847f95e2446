"""Finds the subscriptions and inboxes that an event matches now, and why it does not match the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal, NamedTuple, TypeAlias
from uuid import UUID

from triggers.domain import OrgId, SubscriptionStatus, created_at, type_matches
from triggers.errors import Invalid
from triggers.fairness.pace import Steps, breathe, do
from triggers.postgres.database import Database, statements
from triggers.subscriptions.payload_filter import (
    MATCHED,
    Budget,
    FilterInput,
    PayloadFilter,
    Verdict,
    failed,
    judge_in_steps,
)
from triggers.subscriptions.shown_name import shown_name

_SQL = statements(__name__)

MAX_SHOWN: Final = 200
"""Maximum number of subscriptions in each of the two lists. Further ones are only counted."""
MAX_LOOKED_AT: Final = 10_000
PAGE: Final = 500
COMPILE_SECONDS: Final = 2.0
"""Maximum time for compiling filters. Accept has compiled them before, so no event's budget includes it."""

Reason: TypeAlias = Literal["type", "filter", "disabled", "created_later", "matches_now"]
"""The reason why an event does not, or did not, match a subscription. `matches_now`: it would match now."""


class EventToMatch(NamedTuple):
    """An event to match. `stored_id` is None if it is not stored."""

    type: str
    content: FilterInput
    stored_id: UUID | None = None


class Addressee(NamedTuple):
    """A subscription or an inbox. `sent`: whether it has a delivery of the event."""

    id: UUID
    kind: str
    name: str | None
    key: str | None
    target_url: str | None
    status: SubscriptionStatus
    event_types: list[str] | None
    filter: str | None
    created_at: datetime
    changed_at: datetime
    sent: bool

    @property
    def shown_name(self) -> str:
        """The name that people see."""
        return shown_name(self.name, self.key, self.target_url)


class Match(NamedTuple):
    """A subscription that the event would be sent to. A filter that fails counts as a match."""

    to: Addressee
    filter_error: str | None


class NoMatch(NamedTuple):
    """A subscription that the event is not sent to."""

    to: Addressee
    reason: Reason
    filter_error: str | None = None


class EventMatching:
    """Matches one event as accept would match it now. The results are in the order of ids.

    The filters share one time budget, as they do for an accepted event. If it is used up, the others fail.
    """

    def __init__(self, database: Database, org_id: OrgId, event: EventToMatch) -> None:
        self._database = database
        self._org_id = org_id
        self._event = event
        self._judging = Budget()
        self._compiling = Budget(COMPILE_SECONDS)
        self.matched = 0
        self.matches: list[Match] = []
        self.others: list[NoMatch] = []
        self.reasons: Counter[Reason] = Counter()
        self.changed = 0
        """Number of subscriptions without a delivery that were created or changed after the event."""
        self.complete = True
        """False if not all subscriptions were looked at, because there are too many or they took too long."""

    async def run(self) -> None:
        """Match the event against one page of subscriptions after the other."""
        after = UUID(int=0)
        for _ in range(MAX_LOOKED_AT // PAGE):
            page = await self._page(after)
            if not await self._match(page):
                self.complete = False
                return
            if len(page) < PAGE:
                return
            after = page[-1].id
        self.complete = not await self._page(after)

    async def _page(self, after: UUID) -> list[Addressee]:
        rows = await self._database.fetch(
            _SQL["candidates"], self._org_id, after, self._event.stored_id, PAGE
        )
        return [Addressee(*row) for row in rows]

    async def _match(self, page: Sequence[Addressee]) -> bool:
        """Match a page of subscriptions. False if the time for compiling filters is used up."""
        compiled: dict[UUID, PayloadFilter] = {}
        verdicts: dict[UUID, Verdict] = {}
        reached = len(page)
        for place, each in enumerate(page):
            if each.filter is None or each.sent or self._without_payload(each) is not None:
                continue
            if self._compiling.seconds_left <= 0:
                reached = place
                break
            found = await do(self._compiling.spend(_compile(each.filter)), self._org_id)
            if isinstance(found, Verdict):
                verdicts[each.id] = found
            else:
                compiled[each.id] = found
        verdicts |= await do(judge_in_steps(compiled, self._event.content, self._judging), self._org_id)
        for each in page[:reached]:
            self._note(each, verdicts.get(each.id, MATCHED))
            await breathe(self._org_id)
        return reached == len(page)

    def _note(self, each: Addressee, verdict: Verdict) -> None:
        stored_id = self._event.stored_id
        if stored_id is None:
            reason = self._without_payload(each) or (None if verdict.matched else "filter")
            if reason is None:
                self.matched += 1
                if len(self.matches) < MAX_SHOWN:
                    self.matches.append(Match(each, verdict.failure))
                return
        elif each.sent:
            return
        else:
            reason = self._without_payload(each) or ("matches_now" if verdict.matched else "filter")
            self.changed += each.changed_at > created_at(stored_id)
        self.reasons[reason] += 1
        if len(self.others) < MAX_SHOWN:
            self.others.append(NoMatch(each, reason, verdict.failure))

    def _without_payload(self, each: Addressee) -> Reason | None:
        """Return the reason against a match that does not depend on the payload, or None."""
        if each.status == SubscriptionStatus.DISABLED:
            return "disabled"
        stored_id = self._event.stored_id
        if stored_id is not None and each.created_at > created_at(stored_id):
            return "created_later"
        return None if type_matches(self._event.type, each.event_types) else "type"


def _compile(expression: str) -> Steps[PayloadFilter | Verdict]:
    """Compile a stored filter. If it no longer compiles, return the verdict that it gives on every event."""
    try:
        return PayloadFilter.compile(expression)
    except Invalid as error:
        return failed(error.message)
    yield
