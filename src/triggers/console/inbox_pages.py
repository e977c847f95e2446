"""Pages of inboxes: the list, and one inbox with its messages, its leases and the forms that change them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, NamedTuple
from urllib.parse import urlencode

import msgspec
from msgspec import Meta
from starlette.responses import Response

from triggers.console.backlog_words import (
    MESSAGE_TABS,
    backlog_of,
    state_of_inbox,
    tell_inbox,
    tell_inboxes,
)
from triggers.console.choosing import NOTHING_CHOSEN, PAGE_ROWS, Done, Remark, chosen_in, do_each, said_of
from triggers.console.desk import Desk, Form, page_route, shown
from triggers.console.forms import query_of
from triggers.deliveries.routes import DeliveryRoutes
from triggers.domain import DEFAULT_INBOX, Caller
from triggers.errors import Conflict, Invalid
from triggers.http.request import Request
from triggers.inboxes.body import InboxView
from triggers.inboxes.default_inbox import DefaultInboxRoutes
from triggers.inboxes.messages import MessageRoutes
from triggers.inboxes.routes import InboxRoutes
from triggers.replays.routes import ReplayRoutes
from triggers.sessions.sessions import Session

Text = Annotated[str, Meta(max_length=300)]

_FULL_PAGE: Final = "100"


class AskedMessages(NamedTuple):
    """The messages and leases that a page of one inbox shows."""

    status: str = "available"
    cursor: str = ""
    leases: str = ""

    def link(self, **changed: str) -> str:
        """Return the query of a page that differs in some of these."""
        return query_of(self._asdict() | changed)


class InboxPages:
    """Handlers of these pages."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    @shown
    async def inboxes(self, request: Request, cursor: Text = "") -> Response:
        """List inboxes with the number of their messages."""
        session = await self.desk.session(request)
        found = await self.desk.api.ask(
            session.caller, InboxRoutes.list_inboxes, limit=_FULL_PAGE, cursor=cursor or None, backlog=""
        )
        return await self.desk.page(
            request,
            session,
            "inboxes.html",
            rows=[(each, backlog_of(each), state_of_inbox(each)) for each in found.data],
            sentences=tell_inboxes(found.data),
            next_cursor=found.next_cursor,
            later=bool(cursor),
        )

    @shown
    async def inbox(
        self, request: Request, inbox: str, status: Text = "", cursor: Text = "", leases: Text = ""
    ) -> Response:
        """Show one inbox: its messages with one status, and its leases."""
        session = await self.desk.session(request)
        return await self._inbox(request, session, inbox, _asked(status, cursor, leases))

    @shown
    async def pause(self, request: Request, inbox: str) -> Response:
        """Pause an inbox."""
        return await self._change(request, inbox, InboxRoutes.pause_inbox)

    @shown
    async def resume(self, request: Request, inbox: str) -> Response:
        """Resume an inbox."""
        return await self._change(request, inbox, InboxRoutes.resume_inbox)

    @shown
    async def revoke(self, request: Request, inbox: str, lease_id: str) -> Response:
        """End the lease of a consumer. Its messages are available again."""
        session, _ = await self.desk.posted(request)
        said = None
        try:
            answer = await self.desk.api.ask(
                session.caller, MessageRoutes.revoke_lease, {"lease_id": lease_id}, inbox=inbox
            )
            said = said_of(len(answer.results), Done("made available again"), Counter(), "message")
        except Conflict as error:
            said = Remark(str(error), "failed")
        return await self._inbox(request, session, inbox, AskedMessages(), said)

    @shown
    async def chosen(self, request: Request, inbox: str) -> Response:
        """Act on the chosen messages. For all that are quarantined, show the plan of a job instead."""
        session, form = await self.desk.posted(request)
        asked = _asked(form.get("status", ""), "", "")
        action = form.get("action", "")
        if action not in _ACTIONS:
            raise Invalid("The form names no action.")
        chosen = chosen_in(form)
        if chosen.all and action in _JOBS:
            found = await self.desk.api.ask(session.caller, InboxRoutes.get_inbox, inbox=inbox)
            query = urlencode({"subscription_id": str(found.id), "action": _JOBS[action]})
            return self.desk.to(request, f"/jobs/new?{query}")
        said = NOTHING_CHOSEN
        if chosen.rows and not chosen.all:
            doing = _Doing(self.desk, session.caller, inbox, form)
            said = await _ACTIONS[action](doing, chosen.rows)
        return await self._inbox(request, session, inbox, asked, said)

    async def _change(self, request: Request, inbox: str, handler: Any) -> Response:
        session, _ = await self.desk.posted(request)
        try:
            await self.desk.api.ask(session.caller, handler, inbox=inbox)
        except Conflict as error:
            return await self._inbox(request, session, inbox, AskedMessages(), Remark(str(error), "failed"))
        return self.desk.to(request, f"/inboxes/{inbox}")

    async def _inbox(
        self,
        request: Request,
        session: Session,
        inbox: str,
        asked: AskedMessages,
        said: Remark | None = None,
    ) -> Response:
        now, api, caller = datetime.now(UTC), self.desk.api, session.caller
        found = await api.ask(caller, InboxRoutes.get_inbox, inbox=inbox, backlog="")
        listed = await api.ask(
            caller,
            MessageRoutes.list_messages,
            inbox=inbox,
            status=asked.status,
            limit=str(PAGE_ROWS),
            cursor=asked.cursor or None,
        )
        leases = await api.ask(
            caller,
            MessageRoutes.list_leases,
            inbox=inbox,
            limit=str(PAGE_ROWS),
            cursor=asked.leases or None,
        )
        return await self.desk.page(
            request,
            session,
            "inbox.html",
            it=found,
            backlog=backlog_of(found),
            state=state_of_inbox(found),
            sentences=tell_inbox(found, now),
            tabs=MESSAGE_TABS,
            asked=asked,
            messages=listed,
            leases=leases,
            said=said,
            may_change=api.may(caller, InboxRoutes.pause_inbox) and found.status != "deleting",
            actions=self._actions(caller, found, asked.status),
            now=now,
        )

    def _actions(self, caller: Caller, inbox: InboxView, status: str) -> list[str]:
        """Return the actions that the caller may use on messages with this status."""
        may = self.desk.api.may
        if not may(caller, MessageRoutes.ack_messages) or inbox.status == "deleting":
            return []
        all_of_them = ["all"] if may(caller, ReplayRoutes.create_replay) else []
        match status:
            case "leased":
                return ["ack", "release", "reject"]
            case "quarantined":
                return ["redrive", *all_of_them]
            case _:
                ack = ["ack_default"] if inbox.key == DEFAULT_INBOX else []
                cancel = ["cancel"] if may(caller, DeliveryRoutes.cancel_delivery) else []
                return [*ack, *cancel, *(all_of_them if cancel else [])]


class _Doing(NamedTuple):
    """An action on messages of one inbox. A row is an event id, with its lease id after a colon."""

    desk: Desk
    caller: Caller
    inbox: str
    form: Form

    async def ack(self, rows: Sequence[str]) -> Remark:
        return await self._by_lease(rows, MessageRoutes.ack_messages, {}, "acknowledged")

    async def release(self, rows: Sequence[str]) -> Remark:
        return await self._by_lease(rows, MessageRoutes.release_messages, {}, "released")

    async def reject(self, rows: Sequence[str]) -> Remark:
        reason = self.form.get("reason", "").strip() or "rejected in the console"
        return await self._by_lease(rows, MessageRoutes.reject_messages, {"reason": reason}, "quarantined")

    async def redrive(self, rows: Sequence[str]) -> Remark:
        answer = await self._ask(
            MessageRoutes.redrive_messages, {"message_ids": list(rows)}, inbox=self.inbox
        )
        others = len(rows) - len(answer.results)
        refusals = Counter({"They are no longer quarantined, or their events are no longer stored.": others})
        return said_of(len(answer.results), Done("made available again"), +refusals, "message")

    async def ack_default(self, rows: Sequence[str]) -> Remark:
        answer = await self._ask(DefaultInboxRoutes.acknowledge, {"event_ids": list(rows)})
        refusals = Counter(
            {"They were acknowledged before, or are no longer here.": len(rows) - answer.acknowledged}
        )
        return said_of(answer.acknowledged, Done("acknowledged"), +refusals, "message")

    async def cancel(self, rows: Sequence[str]) -> Remark:
        found = await self._ask(InboxRoutes.get_inbox, None, inbox=self.inbox)

        async def act(event_id: str) -> object:
            return await self._ask(DeliveryRoutes.cancel_delivery, None, delivery_id=f"{event_id}.{found.id}")

        return await do_each(rows, act, Done("cancelled"), "message")

    async def _by_lease(self, rows: Sequence[str], handler: Any, more: dict[str, str], done: str) -> Remark:
        """Settle messages through the leases that hold them: one request for each lease."""
        leases = defaultdict(list)
        for row in rows:
            event_id, _, lease_id = row.partition(":")
            leases[lease_id].append(event_id)
        made, refusals = 0, Counter[str]()
        for lease_id, event_ids in leases.items():
            body = {"lease_id": lease_id, "message_ids": event_ids, **more}
            try:
                answer = await self._ask(handler, body, inbox=self.inbox)
            except (Conflict, Invalid) as error:
                refusals[str(error)] += len(event_ids)
                continue
            settled = _settled(answer)
            made += settled
            refusals["They are no longer in this lease."] += len(event_ids) - settled
        return said_of(made, Done(done), +refusals, "message")

    async def _ask(self, handler: Callable[..., Awaitable[Any]], body: Any, **parameters: str) -> Any:
        return await self.desk.api.ask(self.caller, handler, body, **parameters)


def _settled(answer: Any) -> int:
    """Return how many messages an answer settled."""
    if isinstance(answer, Response):
        answer = msgspec.json.decode(bytes(answer.body), type=_Results)
    return len(answer.results)


class _Results(msgspec.Struct):
    results: list[Any]


_ACTIONS: Final = {
    "ack": _Doing.ack,
    "release": _Doing.release,
    "reject": _Doing.reject,
    "redrive": _Doing.redrive,
    "ack_default": _Doing.ack_default,
    "cancel": _Doing.cancel,
}


_JOBS: Final = {"cancel": "cancel", "redrive": "replay"}
"""The jobs that do the same as an action with all messages that match."""


def _asked(status: str, cursor: str, leases: str) -> AskedMessages:
    return AskedMessages(status if status in MESSAGE_TABS else "available", cursor, leases)


ROUTES = (
    page_route("GET", "/inboxes", InboxPages.inboxes),
    page_route("GET", "/inboxes/{inbox}", InboxPages.inbox),
    page_route("POST", "/inboxes/{inbox}/pause", InboxPages.pause),
    page_route("POST", "/inboxes/{inbox}/resume", InboxPages.resume),
    page_route("POST", "/inboxes/{inbox}/chosen", InboxPages.chosen),
    page_route("POST", "/inboxes/{inbox}/leases/{lease_id}/revoke", InboxPages.revoke),
)
