"""Inboxes over HTTP. Their messages are in `messages.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, Meta

from triggers.deliveries import undelivered
from triggers.domain import (
    DEFAULT_INBOX,
    Caller,
    Scope,
    check_inbox_key,
    check_text,
    check_type_patterns,
    rfc3339,
)
from triggers.errors import Conflict, NameTaken, NotFound
from triggers.http.response import JsonResponse
from triggers.http.route import Answer, Method, Route
from triggers.http.views import (
    FIRST_PAGE,
    PageQuery,
    next_cursor,
    optional_timestamp,
    page_request,
)
from triggers.inboxes import changes as inbox_changes
from triggers.inboxes import store as inbox_store
from triggers.inboxes.backlog import backlog_view
from triggers.inboxes.body import (
    InboxBody,
    InboxChange,
    InboxList,
    InboxView,
    NotificationsView,
    NotifyingInboxView,
)
from triggers.inboxes.changes import NewInbox
from triggers.inboxes.store import Inbox
from triggers.outbound.addresses import OutboundPolicy, in_unicode
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.secrets.key_ring import KeyRing
from triggers.subscriptions.filter_failures import shown_failure
from triggers.subscriptions.rules import check_filter, check_target, same_types, stored_url
from triggers.wakeups.wakeup import Wakeup

WithBacklog = Annotated[str, Meta(description="Also count the messages. It needs no value.")] | None
MOST_COUNTED_INBOXES: Final = 100


class InboxPolicy(NamedTuple):
    """The settings of the operator: addresses that notifications are sent to, and seconds for which default
    inboxes keep messages."""

    notified: OutboundPolicy
    retention_seconds: float


class InboxRoutes:
    """Handlers of the URLs of inboxes themselves."""

    def __init__(
        self,
        database: Database,
        clock: DatabaseClock,
        key_ring: KeyRing,
        wakeup: Wakeup,
        allowed: InboxPolicy,
    ) -> None:
        self._database = database
        self._clock = clock
        self._key_ring = key_ring
        self._wakeup = wakeup
        self._allowed = allowed

    async def list_inboxes(
        self,
        caller: Caller,
        key: Annotated[str, Meta(max_length=100)] | None = None,
        status: Annotated[str, Meta(pattern="^(active|paused|deleting)$")] | None = None,
        backlog: WithBacklog = None,
        asked: PageQuery = FIRST_PAGE,
    ) -> InboxList:
        """List inboxes in the order of their creation. With `backlog`, a page has at most 100 inboxes."""
        if key is not None:
            check_text(key, "key", longest=100)
        page = page_request(asked)
        if backlog is not None:
            page = page._replace(limit=min(page.limit, MOST_COUNTED_INBOXES))
        found = await inbox_store.listed(self._database, caller.org_id, page, key=key, status=status)
        views = [_seen(view, caller) for view in await self._views(found)]
        if backlog is not None:
            await self._count(caller, views)
        return InboxList(views, next_cursor(found, page))

    async def create_inbox(self, caller: Caller, data: InboxBody) -> InboxView | NotifyingInboxView:
        """Create an inbox. It collects events that are accepted from now on."""
        return await self._create(caller, data)

    async def ensure_inbox(
        self, caller: Caller, data: InboxBody
    ) -> JsonResponse[InboxView | NotifyingInboxView]:
        """Create an inbox unless one with this key exists.

        The answer is 201 for a new inbox, and 200 if the existing one has the same settings. If it can
        expire, it then expires `expires_in_seconds` from now.
        """
        check_inbox_key(data.key)  # before the look-up, where an id would find another inbox
        for _ in range(3):  # made, deleted or expired in between, at worst
            try:
                found = await inbox_store.find(self._database, caller.org_id, data.key)
            except NotFound:
                try:
                    return JsonResponse(await self._create(caller, data), status_code=201)
                except NameTaken:
                    continue
            if different := _different(found, data):
                raise Conflict(
                    f"An inbox with this key exists, with other values of: {', '.join(different)}."
                )
            if data.expires_in_seconds is not None:
                renewed = await inbox_changes.renew(self._database, found, data.expires_in_seconds)
                if renewed is None:  # it has expired since it was found
                    continue
                found = renewed
            return JsonResponse(await self._view(found), status_code=200)
        raise Conflict("Other requests are creating and deleting this inbox. Try again.")

    async def get_inbox(self, caller: Caller, inbox: str, backlog: WithBacklog = None) -> InboxView:
        """Show one inbox."""
        view = await self._view(await inbox_store.find(self._database, caller.org_id, inbox))
        if backlog is not None:
            await self._count(caller, [view])
        return _seen(view, caller)

    async def change_inbox(
        self, caller: Caller, inbox: str, data: InboxChange
    ) -> InboxView | NotifyingInboxView:
        """Change the events that an inbox collects from now on, and other settings."""
        changes = {name: value for name, value in msgspec.structs.asdict(data).items() if value is not UNSET}
        self._check(changes)
        found = await inbox_store.find(self._database, caller.org_id, inbox)
        changed = await inbox_changes.patch(self._database, self._clock, self._key_ring, found, changes)
        return await self._changed_view(changed)

    async def delete_inbox(self, caller: Caller, inbox: str) -> InboxView:
        """Delete an inbox. It collects nothing from now on, and its messages are cancelled."""
        found = await inbox_store.find(self._database, caller.org_id, inbox)
        deleting = await inbox_changes.delete(self._database, found)
        self._wakeup.give({caller.org_id})
        return await self._view(deleting)

    async def pause_inbox(self, caller: Caller, inbox: str) -> InboxView:
        """Pause an inbox.

        Messages from before the pause can still be leased. New messages are kept until the inbox is resumed.
        """
        found = await inbox_store.find(self._database, caller.org_id, inbox)
        paused = await inbox_changes.pause(self._database, self._key_ring, found, "paused by request")
        self._wakeup.give({caller.org_id})
        return await self._view(paused)

    async def resume_inbox(self, caller: Caller, inbox: str) -> InboxView:
        """Resume a paused inbox."""
        found = await inbox_store.find(self._database, caller.org_id, inbox)
        resumed = await inbox_changes.resume(self._database, self._key_ring, found)
        self._wakeup.give({caller.org_id})
        return await self._view(resumed)

    async def _create(self, caller: Caller, data: InboxBody) -> InboxView | NotifyingInboxView:
        wanted = msgspec.structs.asdict(data)
        self._check(wanted)
        made = await inbox_changes.create(
            self._database,
            self._clock,
            self._key_ring,
            caller.org_id,
            NewInbox(**wanted),
        )
        return await self._changed_view(made)

    def _check(self, wanted: dict[str, Any]) -> None:
        """Bring settings into their stored form, or raise Invalid, which names the wrong field."""
        if "event_types" in wanted:
            wanted["event_types"] = check_type_patterns(wanted["event_types"])
        if wanted.get("filter") is not None:
            check_filter(wanted["filter"])
        if (url := wanted.get("notification_url")) is not None:
            wanted["notification_url"] = check_target(url, self._allowed.notified, "/notification_url")

    async def _count(self, caller: Caller, views: list[InboxView]) -> None:
        found = await undelivered.backlogs(self._database, caller.org_id, [view.id for view in views])
        for view in views:
            view.backlog = backlog_view(found[view.id])

    async def _view(self, inbox: Inbox) -> InboxView:
        return (await self._views([inbox]))[0]

    async def _changed_view(self, changed: inbox_changes.Changed) -> InboxView | NotifyingInboxView:
        view = await self._view(changed.inbox)
        if changed.secret is None:
            return view
        return NotifyingInboxView(**msgspec.structs.asdict(view), notification_secret=changed.secret)

    async def _views(self, inboxes: list[Inbox]) -> list[InboxView]:
        if not inboxes:
            return []
        notifying = [inbox.id for inbox in inboxes if inbox.notification_url is not None]
        notices = await inbox_changes.notices(self._database, inboxes[0].org_id, notifying)
        return [
            InboxView(
                id=inbox.id,
                key=inbox.key,
                status=inbox.status,
                paused_reason=inbox.paused_reason,
                event_types=inbox.event_types,
                filter=inbox.filter,
                filter_error=inbox.filter_error,
                filter_error_at=optional_timestamp(inbox.filter_error_at),
                notification_url=inbox.notification_url,
                notification_url_unicode=inbox.notification_url and in_unicode(inbox.notification_url),
                notifications=NotificationsView(**notices[inbox.id]._asdict())
                if inbox.id in notices
                else None,
                max_leases=inbox.max_leases,
                default_lease_seconds=inbox.default_lease_seconds,
                retention_seconds=self._allowed.retention_seconds if inbox.key == DEFAULT_INBOX else None,
                expires_at=optional_timestamp(inbox.expires_at),
                created_at=rfc3339(inbox.created_at),
                status_at=rfc3339(inbox.status_at),
            )
            for inbox in inboxes
        ]


# ---- steps ---------------------------------------------------------------------------------------


def _seen(view: InboxView, caller: Caller) -> InboxView:
    view.filter_error = shown_failure(view.filter_error, caller, Scope.INBOX)
    return view


def _different(found: Inbox, asked: InboxBody) -> list[str]:
    """The names of settings in which an inbox differs from a request."""
    url = asked.notification_url and stored_url(asked.notification_url, "/notification_url")
    asked = msgspec.structs.replace(asked, notification_url=url)
    names = ["filter", "notification_url", "max_leases", "default_lease_seconds"]
    different = [name for name in names if getattr(found, name) != getattr(asked, name)]
    if (found.expires_at is None) != (asked.expires_in_seconds is None):
        different.append("expires_in_seconds")
    same = same_types(found.event_types, check_type_patterns(asked.event_types))
    return different if same else ["event_types", *different]


_NO_ROOM = "the organisation has reached its limit of subscriptions"


def inbox_route(
    method: Method,
    path: str,
    handler: Callable[..., Any],
    status: int = 200,
    answers: tuple[Answer, ...] = (),
) -> Route:
    """Make a route of inboxes. Keys with the scope `read` may use every GET, so no GET shows a payload."""
    or_scope = Scope.READ if method == "GET" else None
    return Route(method, f"/v1/inboxes{path}", handler, Scope.INBOX, status, answers, or_scope=or_scope)


ROUTES = (
    inbox_route("GET", "", InboxRoutes.list_inboxes),
    inbox_route(
        "POST",
        "",
        InboxRoutes.create_inbox,
        201,
        (Answer(409, f"The key is in use, or {_NO_ROOM}."),),
    ),
    inbox_route(
        "PUT",
        "",
        InboxRoutes.ensure_inbox,
        answers=(
            Answer(201, "The inbox was created.", InboxView | NotifyingInboxView),
            Answer(200, "The inbox existed with these settings.", InboxView),
            Answer(409, f"The inbox exists with other settings, or {_NO_ROOM}."),
        ),
    ),
    inbox_route("GET", "/{inbox}", InboxRoutes.get_inbox),
    inbox_route(
        "PATCH",
        "/{inbox}",
        InboxRoutes.change_inbox,
        answers=(
            Answer(409, f"The inbox is being deleted, or a first `notification_url` is set and {_NO_ROOM}."),
        ),
    ),
    inbox_route(
        "DELETE",
        "/{inbox}",
        InboxRoutes.delete_inbox,
        202,
        (Answer(409, "The inbox is being deleted already."),),
    ),
    inbox_route(
        "POST", "/{inbox}/pause", InboxRoutes.pause_inbox, answers=(Answer(409, "The inbox is not active."),)
    ),
    inbox_route(
        "POST",
        "/{inbox}/resume",
        InboxRoutes.resume_inbox,
        answers=(Answer(409, "The inbox is not paused."),),
    ),
)
