"""Every URL: its method, its handler, and the scope that a key needs for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from triggers.api import deliveries, events, inbox, inboxes, keys, operation, replays, subscriptions, trials
from triggers.api.accept import BatchAnswer, EventAccepted
from triggers.api.event_body import EventBody
from triggers.domain import Scope

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

PUBLIC = "public"
"""In the place of a scope: no key is asked for. None there asks for any valid key."""


class Route(NamedTuple):
    """One row of the table. `also` are other paths that answer exactly the same."""

    method: Method
    path: str
    handler: Callable[..., Any]
    scope: Scope | str | None
    status: int = 200
    also: tuple[str, ...] = ()
    hidden: bool = False


class AcceptRoute(NamedTuple):
    """A route of the accept path, which plain ASGI answers in front of the framework."""

    path: str
    handler: str
    summary: str
    description: str
    body: Any
    answers: dict[int, Any]
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
        {201: EventAccepted, 200: EventAccepted},
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
        {200: BatchAnswer},
        ("application/json", "application/x-ndjson"),
    ),
)


def _push(method: Method, path: str, handler: Callable[..., Any], status: int = 200) -> Route:
    """A route of push subscriptions; hook platforms find the same under `/v1/hooks`."""
    return Route(
        method, f"/v1/subscriptions{path}", handler, Scope.SUBSCRIPTIONS, status, also=(f"/v1/hooks{path}",)
    )


ROUTES = (
    Route("GET", "/v1/events", events.list_events, Scope.EVENTS_READ, also=("/events",)),
    Route("GET", "/v1/events/{event_id:str}", events.get_event, Scope.EVENTS_READ),
    Route("GET", "/v1/events/{event_id:str}/payload", events.get_payload, Scope.EVENTS_READ),
    Route("GET", "/v1/inbox", inbox.list_inbox, Scope.INBOX, also=("/inbox",)),
    Route("POST", "/v1/ack", inbox.acknowledge, Scope.INBOX, also=("/v1/inbox/ack", "/ack", "/inbox/ack")),
    Route("GET", "/v1/inboxes", inboxes.list_inboxes, Scope.INBOX),
    Route("POST", "/v1/inboxes", inboxes.create_inbox, Scope.INBOX, 201),
    Route("PUT", "/v1/inboxes", inboxes.ensure_inbox, Scope.INBOX),
    Route("GET", "/v1/inboxes/{inbox:str}", inboxes.get_inbox, Scope.INBOX),
    Route("PATCH", "/v1/inboxes/{inbox:str}", inboxes.change_inbox, Scope.INBOX),
    Route("DELETE", "/v1/inboxes/{inbox:str}", inboxes.delete_inbox, Scope.INBOX, 202),
    Route("POST", "/v1/inboxes/{inbox:str}/pause", inboxes.pause_inbox, Scope.INBOX),
    Route("POST", "/v1/inboxes/{inbox:str}/resume", inboxes.resume_inbox, Scope.INBOX),
    Route("GET", "/v1/inboxes/{inbox:str}/messages", inboxes.list_messages, Scope.INBOX),
    Route("POST", "/v1/inboxes/{inbox:str}/messages/lease", inboxes.lease_messages, Scope.INBOX, 201),
    Route("POST", "/v1/inboxes/{inbox:str}/messages/ack", inboxes.ack_messages, Scope.INBOX, 201),
    Route("POST", "/v1/inboxes/{inbox:str}/messages/release", inboxes.release_messages, Scope.INBOX, 201),
    Route("POST", "/v1/inboxes/{inbox:str}/messages/extend", inboxes.extend_lease, Scope.INBOX, 201),
    Route("POST", "/v1/inboxes/{inbox:str}/messages/redrive", inboxes.redrive_messages, Scope.INBOX),
    _push("GET", "", subscriptions.list_subscriptions),
    _push("POST", "", subscriptions.create_subscription, 201),
    _push("PUT", "", subscriptions.ensure_subscription),
    _push("POST", "/dry-run", trials.dry_run),
    _push("GET", "/{subscription_id:str}", subscriptions.get_subscription),
    _push("PATCH", "/{subscription_id:str}", subscriptions.change_subscription),
    _push("DELETE", "/{subscription_id:str}", subscriptions.delete_subscription, 204),
    _push("POST", "/{subscription_id:str}/pause", subscriptions.pause_subscription),
    _push("POST", "/{subscription_id:str}/resume", subscriptions.resume_subscription),
    _push("POST", "/{subscription_id:str}/disable", subscriptions.disable_subscription),
    _push("POST", "/{subscription_id:str}/enable", subscriptions.enable_subscription),
    _push("POST", "/{subscription_id:str}/rotate-secret", subscriptions.rotate_secret),
    _push("POST", "/{subscription_id:str}/test", trials.test_subscription),
    Route("GET", "/v1/samples", trials.list_samples, Scope.SUBSCRIPTIONS),
    _push("GET", "/{subscription_id:str}/attempts", deliveries.list_subscription_attempts),
    Route("GET", "/v1/events/{event_id:str}/attempts", deliveries.list_event_attempts, Scope.SUBSCRIPTIONS),
    Route("GET", "/v1/deliveries", deliveries.list_deliveries, Scope.SUBSCRIPTIONS),
    Route("GET", "/v1/deliveries/{delivery_id:str}", deliveries.get_delivery, Scope.SUBSCRIPTIONS),
    Route("POST", "/v1/deliveries/{delivery_id:str}/retry", deliveries.retry_delivery, Scope.SUBSCRIPTIONS),
    Route("POST", "/v1/deliveries/{delivery_id:str}/cancel", deliveries.cancel_delivery, Scope.SUBSCRIPTIONS),
    Route("GET", "/v1/replays", replays.list_replays, Scope.SUBSCRIPTIONS),
    Route("POST", "/v1/replays", replays.create_replay, Scope.SUBSCRIPTIONS, 201),
    Route("GET", "/v1/replays/{replay_id:str}", replays.get_replay, Scope.SUBSCRIPTIONS),
    Route("DELETE", "/v1/replays/{replay_id:str}", replays.cancel_replay, Scope.SUBSCRIPTIONS),
    Route("GET", "/v1/org", keys.get_org, None),
    Route("GET", "/v1/keys", keys.list_keys, Scope.KEYS),
    Route("POST", "/v1/keys", keys.create_key, Scope.KEYS, 201),
    Route("POST", "/v1/keys/{key_id:str}/rotate", keys.rotate_key, Scope.KEYS, 201),
    Route("DELETE", "/v1/keys/{key_id:str}", keys.revoke_key, Scope.KEYS),
    Route("GET", "/v1/admin/orgs", keys.admin_list_orgs, Scope.ADMIN),
    Route("POST", "/v1/admin/orgs", keys.admin_create_org, Scope.ADMIN, 201),
    Route("PUT", "/v1/admin/orgs/{org_id:str}/plan", keys.admin_set_plan, Scope.ADMIN),
    Route("GET", "/v1/admin/orgs/{org_id:str}/keys", keys.admin_list_keys, Scope.ADMIN),
    Route("POST", "/v1/admin/orgs/{org_id:str}/keys", keys.admin_create_key, Scope.ADMIN, 201),
    Route("DELETE", "/v1/admin/orgs/{org_id:str}/keys/{key_id:str}", keys.admin_revoke_key, Scope.ADMIN),
    Route("GET", "/livez", operation.livez, PUBLIC),
    Route("GET", "/readyz", operation.readyz, PUBLIC),
    Route("GET", "/metrics", operation.metrics, PUBLIC),
    Route("GET", "/openapi.json", operation.openapi, PUBLIC, hidden=True),
    Route("GET", "/problems", operation.problem_index, PUBLIC, hidden=True),
    Route("GET", "/problems/{slug:str}", operation.problem_page, PUBLIC, hidden=True),
    Route("GET", "/docs", operation.docs, PUBLIC, hidden=True),
    Route("GET", "/", operation.home, PUBLIC, hidden=True),
)
