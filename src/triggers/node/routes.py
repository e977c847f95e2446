"""Every URL: its method, its handler, the scope that a key needs for it, and what it can answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from triggers.deliveries import routes as deliveries
from triggers.domain import Scope
from triggers.events import routes as events
from triggers.events.accept import BatchAnswer, EventAccepted
from triggers.events.body import EventBody
from triggers.inboxes import default_inbox as inbox
from triggers.inboxes import messages
from triggers.inboxes import routes as inboxes
from triggers.inboxes.routes import InboxView, NotifyingInboxView
from triggers.keys import routes as keys
from triggers.node import operator_routes as operation
from triggers.node.operator_routes import Readiness
from triggers.previews import routes as trials
from triggers.replays import routes as replays
from triggers.subscriptions import routes as subscriptions
from triggers.subscriptions.body import NewSubscriptionView, SubscriptionView

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

PUBLIC = "public"
"""In the place of a scope: no key is asked for. None there asks for any valid key."""


class Answer(NamedTuple):
    """What a status means on a route, where that does not follow from its key, its parameters and its body.

    `body` is its type, where that is not what the handler returns, nor a problem document.
    """

    status: int
    text: str
    body: Any = None
    headers: tuple[str, ...] = ()


class Route(NamedTuple):
    """One row of the table. `also` are other paths that answer exactly the same."""

    method: Method
    path: str
    handler: Callable[..., Any]
    scope: Scope | str | None
    status: int = 200
    answers: tuple[Answer, ...] = ()
    also: tuple[str, ...] = ()
    hidden: bool = False
    media_type: str = "application/json"


class AcceptRoute(NamedTuple):
    """A route of the accept path, which plain ASGI answers in front of the framework."""

    path: str
    handler: str
    summary: str
    description: str
    body: Any
    answers: tuple[Answer, ...]
    media_types: tuple[str, ...]
    also: tuple[str, ...] = ()
    method: str = "POST"
    scope: Scope = Scope.EVENTS_WRITE


ACCEPT_ROUTES = (
    AcceptRoute(
        "/v1/events",
        "single",
        "Accept an event",
        "201 means that the event and every delivery it is owed are committed. The same `dedup_id` with the"
        " same content within the window answers 200 with the original id, with other content 409.",
        EventBody,
        (
            Answer(201, "Stored.", EventAccepted, ("Location",)),
            Answer(200, "A duplicate: stored before, under this id.", EventAccepted, ("Location",)),
            Answer(409, "The `dedup_id` names an event with other content; `original_id` is its id."),
        ),
        ("application/json",),
        ("/events",),
    ),
    AcceptRoute(
        "/v1/events/batch",
        "batch",
        "Accept up to 1,000 events",
        "A JSON array or lines of JSON, at most 5 MiB. Each event has the outcome that it alone would have"
        " had; a bad one spoils only itself.",
        list[EventBody],
        (
            Answer(
                200,
                "The outcome of each event; `Retry-After` if the rate limit refused some.",
                BatchAnswer,
                ("Retry-After",),
            ),
        ),
        ("application/json", "application/x-ndjson"),
    ),
)

_NO_ROOM = "the organisation has all the subscriptions it may have"
_LEASE_OVER = Answer(200, "Nothing happened: the lease is not alive, or holds none of these messages.")
_DELETING = Answer(409, "The inbox is being deleted.")
_INBOX_FOLLOWED = Answer(409, "It sends an inbox's notices and follows the inbox.")
_MOVED = Answer(409, "It is disabled, or it sends an inbox's notices and follows the inbox.")


def _push(
    method: Method,
    path: str,
    handler: Callable[..., Any],
    status: int = 200,
    answers: tuple[Answer, ...] = (),
) -> Route:
    """A route of push subscriptions; hook platforms find the same under `/v1/hooks`."""
    also = (f"/v1/hooks{path}",)
    return Route(method, f"/v1/subscriptions{path}", handler, Scope.SUBSCRIPTIONS, status, answers, also)


def _deliveries(method: Method, path: str, handler: Callable[..., Any], *answers: Answer) -> Route:
    return Route(method, f"/v1/deliveries{path}", handler, Scope.SUBSCRIPTIONS, answers=answers)


def _inboxes(
    method: Method,
    path: str,
    handler: Callable[..., Any],
    status: int = 200,
    answers: tuple[Answer, ...] = (),
) -> Route:
    return Route(method, f"/v1/inboxes{path}", handler, Scope.INBOX, status, answers)


ROUTES = (
    Route("GET", "/v1/events", events.list_events, Scope.EVENTS_READ, also=("/events",)),
    Route("GET", "/v1/events/{event_id:str}", events.get_event, Scope.EVENTS_READ),
    Route("GET", "/v1/events/{event_id:str}/payload", events.get_payload, Scope.EVENTS_READ),
    Route(
        "GET",
        "/v1/inbox",
        inbox.list_inbox,
        Scope.INBOX,
        answers=(Answer(404, "The default inbox is switched off: it was deleted and not made again."),),
        also=("/inbox",),
    ),
    Route("POST", "/v1/ack", inbox.acknowledge, Scope.INBOX, also=("/v1/inbox/ack", "/ack", "/inbox/ack")),
    _inboxes("GET", "", inboxes.list_inboxes),
    _inboxes(
        "POST",
        "",
        inboxes.create_inbox,
        201,
        (Answer(409, f"The key is in use, or {_NO_ROOM}."),),
    ),
    _inboxes(
        "PUT",
        "",
        inboxes.ensure_inbox,
        answers=(
            Answer(201, "Made.", InboxView | NotifyingInboxView),
            Answer(200, "It was there, with these settings.", InboxView),
            Answer(409, f"It is there with other settings, or {_NO_ROOM}."),
        ),
    ),
    _inboxes("GET", "/{inbox:str}", inboxes.get_inbox),
    _inboxes(
        "PATCH",
        "/{inbox:str}",
        inboxes.change_inbox,
        answers=(Answer(409, f"It is being deleted, or has a first `notification_url` and {_NO_ROOM}."),),
    ),
    _inboxes(
        "DELETE", "/{inbox:str}", inboxes.delete_inbox, 202, (Answer(409, "It is being deleted already."),)
    ),
    _inboxes("POST", "/{inbox:str}/pause", inboxes.pause_inbox, answers=(Answer(409, "It is not active."),)),
    _inboxes(
        "POST", "/{inbox:str}/resume", inboxes.resume_inbox, answers=(Answer(409, "It is not paused."),)
    ),
    _inboxes("GET", "/{inbox:str}/messages", messages.list_messages),
    _inboxes(
        "POST",
        "/{inbox:str}/messages/lease",
        messages.lease_messages,
        201,
        (
            Answer(201, "A lease."),
            Answer(200, "Nothing is there: a lease of nothing, without an id."),
            Answer(409, "The inbox is paused and drained, or is being deleted."),
        ),
    ),
    _inboxes("POST", "/{inbox:str}/messages/ack", messages.ack_messages, 201, (_LEASE_OVER,)),
    _inboxes("POST", "/{inbox:str}/messages/release", messages.release_messages, 201, (_LEASE_OVER,)),
    _inboxes("POST", "/{inbox:str}/messages/extend", messages.extend_lease, 201, (_LEASE_OVER,)),
    _inboxes("POST", "/{inbox:str}/messages/redrive", messages.redrive_messages, answers=(_DELETING,)),
    _push("GET", "", subscriptions.list_subscriptions),
    _push(
        "POST",
        "",
        subscriptions.create_subscription,
        201,
        (Answer(409, f"The key is in use, or {_NO_ROOM}."),),
    ),
    _push(
        "PUT",
        "",
        subscriptions.ensure_subscription,
        answers=(
            Answer(201, "Made.", NewSubscriptionView),
            Answer(200, "It was there, with these settings.", SubscriptionView),
            Answer(409, f"It is there with other settings, or {_NO_ROOM}."),
        ),
    ),
    _push("POST", "/dry-run", trials.dry_run),
    _push("GET", "/{subscription_id:str}", subscriptions.get_subscription),
    _push("PATCH", "/{subscription_id:str}", subscriptions.change_subscription, answers=(_INBOX_FOLLOWED,)),
    _push("DELETE", "/{subscription_id:str}", subscriptions.delete_subscription, 204, (_INBOX_FOLLOWED,)),
    _push("POST", "/{subscription_id:str}/pause", subscriptions.pause_subscription, answers=(_MOVED,)),
    _push("POST", "/{subscription_id:str}/resume", subscriptions.resume_subscription, answers=(_MOVED,)),
    _push("POST", "/{subscription_id:str}/disable", subscriptions.disable_subscription),
    _push(
        "POST",
        "/{subscription_id:str}/enable",
        subscriptions.enable_subscription,
        answers=(Answer(409, "It has expired."),),
    ),
    _push("POST", "/{subscription_id:str}/rotate-secret", subscriptions.rotate_secret),
    _push(
        "POST",
        "/{subscription_id:str}/test",
        trials.test_subscription,
        answers=(
            Answer(200, "The first attempt was made, whatever came of it."),
            Answer(202, "Stored; no attempt was made yet."),
            Answer(409, "It is disabled."),
        ),
    ),
    Route("GET", "/v1/samples", trials.list_samples, Scope.SUBSCRIPTIONS),
    _push("GET", "/{subscription_id:str}/attempts", deliveries.list_subscription_attempts),
    Route("GET", "/v1/events/{event_id:str}/attempts", deliveries.list_event_attempts, Scope.SUBSCRIPTIONS),
    _deliveries("GET", "", deliveries.list_deliveries),
    _deliveries("GET", "/{delivery_id:str}", deliveries.get_delivery),
    _deliveries(
        "POST",
        "/{delivery_id:str}/retry",
        deliveries.retry_delivery,
        Answer(409, "It has arrived, a consumer holds it, its subscription has ended, or its event is gone."),
    ),
    _deliveries(
        "POST",
        "/{delivery_id:str}/cancel",
        deliveries.cancel_delivery,
        Answer(409, "It is settled, and not by being cancelled."),
    ),
    Route("GET", "/v1/replays", replays.list_replays, Scope.SUBSCRIPTIONS),
    Route(
        "POST",
        "/v1/replays",
        replays.create_replay,
        Scope.SUBSCRIPTIONS,
        201,
        (
            Answer(201, "It runs.", headers=("Location",)),
            Answer(200, "With `plan_only`: the plan; nothing is made."),
            Answer(409, "The subscription has ended or sends an inbox's notices, or too many replays run."),
        ),
    ),
    Route("GET", "/v1/replays/{replay_id:str}", replays.get_replay, Scope.SUBSCRIPTIONS),
    Route("DELETE", "/v1/replays/{replay_id:str}", replays.cancel_replay, Scope.SUBSCRIPTIONS),
    Route("GET", "/v1/org", keys.get_org, None),
    Route("GET", "/v1/keys", keys.list_keys, Scope.KEYS),
    Route("POST", "/v1/keys", keys.create_key, Scope.KEYS, 201),
    Route(
        "POST",
        "/v1/keys/{key_id:str}/rotate",
        keys.rotate_key,
        Scope.KEYS,
        201,
        (Answer(409, "The key is revoked or has expired."),),
    ),
    Route("DELETE", "/v1/keys/{key_id:str}", keys.revoke_key, Scope.KEYS),
    Route("GET", "/v1/admin/orgs", keys.admin_list_orgs, Scope.ADMIN),
    Route(
        "POST",
        "/v1/admin/orgs",
        keys.admin_create_org,
        Scope.ADMIN,
        201,
        (Answer(409, "There is an organisation of that name."),),
    ),
    Route("PUT", "/v1/admin/orgs/{org_id:str}/plan", keys.admin_set_plan, Scope.ADMIN),
    Route("GET", "/v1/admin/orgs/{org_id:str}/keys", keys.admin_list_keys, Scope.ADMIN),
    Route("POST", "/v1/admin/orgs/{org_id:str}/keys", keys.admin_create_key, Scope.ADMIN, 201),
    Route("DELETE", "/v1/admin/orgs/{org_id:str}/keys/{key_id:str}", keys.admin_revoke_key, Scope.ADMIN),
    Route("GET", "/livez", operation.livez, PUBLIC, media_type="text/plain"),
    Route(
        "GET",
        "/readyz",
        operation.readyz,
        PUBLIC,
        answers=(
            Answer(200, "Send traffic here."),
            Answer(503, "Send traffic elsewhere; `checks` says why.", Readiness),
        ),
    ),
    Route("GET", "/metrics", operation.metrics, PUBLIC, media_type="text/plain"),
    Route("GET", "/openapi.json", operation.openapi, PUBLIC, hidden=True),
    Route("GET", "/problems", operation.problem_index, PUBLIC, hidden=True),
    Route("GET", "/problems/{slug:str}", operation.problem_page, PUBLIC, hidden=True),
    Route("GET", "/docs", operation.docs, PUBLIC, hidden=True),
    Route("GET", "/", operation.home, PUBLIC, hidden=True),
)
