"""Push subscriptions over HTTP, also under `/v1/hooks` for hook platforms."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta

from triggers.domain import (
    Caller,
    LaneId,
    OrgId,
    Scope,
    check_text,
    check_type_patterns,
    first_id_at,
    parse_id,
    rfc3339,
)
from triggers.errors import Conflict, Invalid, NameTaken
from triggers.http.response import JsonResponse
from triggers.http.route import Answer, Method, Route
from triggers.http.views import (
    FIRST_PAGE,
    PageQuery,
    moment_of,
    next_cursor,
    optional_timestamp,
    page_request,
)
from triggers.outbound.addresses import OutboundPolicy
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.secrets.key_ring import KeyRing
from triggers.secrets.signing_secrets import Scheme
from triggers.subscriptions import changes as subscription_changes
from triggers.subscriptions import store as subscription_store
from triggers.subscriptions.body import (
    DisableBody,
    EnabledView,
    NewSubscriptionView,
    RotateSecretBody,
    SubscriptionBody,
    SubscriptionChange,
    SubscriptionList,
    SubscriptionView,
    new_view_of,
    view_for,
    view_of,
)
from triggers.subscriptions.rules import (
    PushSettings,
    check_ordering,
    check_origin,
    checked,
    new_secret,
    same_types,
    stored_url,
)
from triggers.subscriptions.store import NewSubscription, Subscription

Failing = Annotated[
    bool, Meta(description="`true`: only active ones that have failed since their last success.")
]


class SubscriptionRoutes:
    """Handlers of this room's URLs."""

    def __init__(
        self,
        database: Database,
        key_ring: KeyRing,
        changed: Callable[[LaneId], None],
        clock: DatabaseClock,
        policy: OutboundPolicy,
    ) -> None:
        """`changed` is called with each lane whose worker has to read the subscription again."""
        self._database = database
        self._key_ring = key_ring
        self._changed = changed
        self._clock = clock
        self._policy = policy

    async def create_subscription(self, caller: Caller, data: SubscriptionBody) -> NewSubscriptionView:
        """Create a push subscription. Only this answer contains the signing secret."""
        return await self._create(caller.org_id, data)

    async def ensure_subscription(
        self, caller: Caller, data: SubscriptionBody
    ) -> JsonResponse[NewSubscriptionView | SubscriptionView]:
        """Create a subscription unless one with this key exists.

        The answer is 201 for a new subscription, and 200 if the existing one has the same settings.
        """
        if data.key is None:
            raise Invalid("Required for PUT, which finds the subscription by its key.", pointer="/key")
        check_text(data.key, "/key", longest=100)
        for _ in range(3):  # made and deleted by others in between, at worst
            found = await subscription_store.by_key(self._database, self._key_ring, caller.org_id, data.key)
            if found is None:
                try:
                    return JsonResponse(await self._create(caller.org_id, data), status_code=201)
                except NameTaken:
                    continue
            _check_same(found, data)
            return JsonResponse(view_of(found), status_code=200)
        raise Conflict("Other requests are creating and deleting this subscription. Try again.")

    async def list_subscriptions(
        self,
        caller: Caller,
        key: Annotated[str, Meta(max_length=100)] | None = None,
        status: Annotated[str, Meta(pattern="^(active|paused|disabled)$")] | None = None,
        failing: Failing = False,
        asked: PageQuery = FIRST_PAGE,
    ) -> SubscriptionList:
        """List subscriptions in the order of their creation."""
        if key is not None:
            check_text(key, "key", longest=100)
        page = page_request(asked)
        wanted = subscription_store.WantedSubscriptions(key, status, failing)
        found = await subscription_store.listed(self._database, self._key_ring, caller.org_id, page, wanted)
        return SubscriptionList([view_for(caller, each) for each in found], next_cursor(found, page))

    async def get_subscription(self, caller: Caller, subscription_id: str) -> SubscriptionView:
        """Show one subscription."""
        found = await subscription_store.find(self._database, self._key_ring, caller.org_id, subscription_id)
        return view_for(caller, found)

    async def change_subscription(
        self, caller: Caller, subscription_id: str, data: SubscriptionChange
    ) -> SubscriptionView:
        """Change a subscription.

        `event_types`, `filter` and `ordering_key` apply to events that are accepted from now on. Other
        settings also apply to the next attempts of pending deliveries. The worker applies a change within a
        second. If the new URL has another scheme, host or port, `headers` is required if there are any.
        """
        changes = _settings_in(data, UNSET)
        return await self._followed(
            await subscription_changes.patch(
                self._database, self._key_ring, caller.org_id, subscription_id, self._edit(changes)
            ),
        )

    async def delete_subscription(self, caller: Caller, subscription_id: str) -> None:
        """Delete a subscription, and cancel its pending deliveries.

        Deleting it again also answers 204.
        """
        await subscription_changes.delete(self._database, caller.org_id, subscription_id)
        found = parse_id(subscription_id)
        if found is not None:
            self._changed((caller.org_id, found))

    async def pause_subscription(self, caller: Caller, subscription_id: str) -> SubscriptionView:
        """Pause a subscription. Nothing is sent, but matching events are still collected.

        Pausing it again changes nothing.
        """
        return await self._followed(
            await subscription_changes.pause(self._database, self._key_ring, caller.org_id, subscription_id),
        )

    async def resume_subscription(self, caller: Caller, subscription_id: str) -> SubscriptionView:
        """Resume a paused subscription. The events collected during the pause are sent first."""
        return await self._followed(
            await subscription_changes.resume(self._database, self._key_ring, caller.org_id, subscription_id),
        )

    async def disable_subscription(
        self, caller: Caller, subscription_id: str, data: DisableBody | None = None
    ) -> SubscriptionView:
        """Disable a subscription, so that it matches no events.

        Its pending deliveries are cancelled. They are still listed, and can be replayed.
        """
        reason = check_text((data or DisableBody()).reason, "/reason", longest=255)
        return await self._followed(
            await subscription_changes.disable(
                self._database, self._key_ring, caller.org_id, subscription_id, reason
            ),
        )

    async def enable_subscription(self, caller: Caller, subscription_id: str) -> EnabledView:
        """Enable a disabled subscription, so that it matches events from now on.

        Events that were accepted while it was disabled are not sent automatically. `missed_since` and
        `missed_until` are the time range to replay.
        """
        enabled, missed_since = await subscription_changes.enable(
            self._database, self._key_ring, caller.org_id, subscription_id
        )
        view = await self._followed(enabled)
        return EnabledView(
            **msgspec.structs.asdict(view),
            missed_since=optional_timestamp(missed_since),
            missed_until=None if missed_since is None else view.status_at,
            hint=None
            if missed_since is None
            else f"To send the missed events, POST /v1/replays with subscription_id {enabled.id}, only all,"
            f" since {rfc3339(missed_since)} and until {view.status_at}.",
        )

    async def rotate_secret(
        self, caller: Caller, subscription_id: str, data: RotateSecretBody | None = None
    ) -> NewSubscriptionView:
        """Replace the signing secret. Both secrets sign until the overlap ends.

        Only this answer contains the new secret.
        """
        asked = data or RotateSecretBody()

        def make(present: Scheme) -> tuple[str, Scheme]:
            scheme = asked.signature or _scheme_of(asked.secret) or present
            return new_secret(asked.secret, scheme), scheme

        rotated = await subscription_changes.rotate_secret(
            self._database,
            self._key_ring,
            caller.org_id,
            subscription_id,
            subscription_changes.Rotation(make, timedelta(seconds=asked.overlap_seconds)),
        )
        await self._followed(rotated)
        return new_view_of(rotated)

    async def _create(self, org_id: OrgId, data: SubscriptionBody) -> NewSubscriptionView:
        if data.key is not None:
            check_text(data.key, "/key", longest=100)
        signature = data.signature or _scheme_of(data.secret) or "v1"
        new = NewSubscription(
            settings=checked(PushSettings(**_settings_in(data, None)), *self._judged_by()),
            signature=signature,
            secret=new_secret(data.secret, signature),
            key=data.key,
            start=await _first_past_event(self._database, self._clock, org_id, data.start),
        )
        made = await subscription_store.create(self._database, self._clock, self._key_ring, org_id, new)
        return new_view_of(made)

    def _edit(self, changes: dict[str, Any]) -> Callable[[PushSettings], PushSettings]:
        def edit(present: PushSettings) -> PushSettings:
            defaults = {field.name: field.default for field in msgspec.structs.fields(PushSettings)}
            chosen = {name: defaults[name] if value is None else value for name, value in changes.items()}
            if changes.get("headers", ()) is None:
                chosen["headers"] = {}
            wanted = msgspec.structs.replace(present, **chosen)
            check_ordering(present.ordering, wanted.ordering)
            valid = checked(wanted, *self._judged_by(), changed=changes.keys())
            check_origin(present, valid, changes.keys())
            return valid

        return edit

    def _judged_by(self) -> tuple[Any, datetime]:
        return self._policy, datetime.fromtimestamp(self._clock.now(), UTC)

    async def _followed(self, changed: Subscription) -> SubscriptionView:
        """Notify the worker of the lane, and return the current subscription."""
        self._changed((changed.org_id, changed.id))
        return view_of(
            await subscription_store.find(self._database, self._key_ring, changed.org_id, str(changed.id))
        )


# ---- steps ---------------------------------------------------------------------------------------


def _settings_in(data: SubscriptionBody | SubscriptionChange, absent: Any) -> dict[str, Any]:
    """The settings in a body, by their names in PushSettings."""
    found = {
        name: value
        for name, value in msgspec.structs.asdict(data).items()
        if value is not absent and name not in ("key", "secret", "signature", "start")
    }
    if "expiration_date" in found:
        if "expires_at" in found:
            raise Invalid(
                "`expiration_date` is another name for `expires_at`. Send only one of them.",
                pointer="/expiration_date",
            )
        found["expires_at"] = found.pop("expiration_date")
    if found.get("expires_at") is not None:
        found["expires_at"] = moment_of(found["expires_at"], "/expires_at")
    return found


def _scheme_of(secret: str | None) -> Scheme | None:
    """The scheme that the prefix of a secret names; None if it names none."""
    match secret and secret.partition("_")[0]:
        case "whsec":
            return "v1"
        case "whsk":
            return "v1a"
        case _:
            return None


async def _first_past_event(
    database: Database, clock: DatabaseClock, org_id: OrgId, start: str | None
) -> UUID | None:
    """The first past event to deliver; None if only new events are delivered."""
    if start is None or start == "now":
        return None
    if (event_id := parse_id(start)) is not None:
        if not await subscription_store.has_event(database, org_id, event_id):
            raise Invalid("No event has this id.", pointer="/start")
        return event_id
    try:
        moment = moment_of(start, "/start")
    except Invalid:
        raise Invalid(
            "Must be `now`, an RFC 3339 time with a time zone, or the id of an event.", pointer="/start"
        ) from None
    if moment is None or moment.timestamp() > clock.now():
        raise Invalid("Must not be in the future.", pointer="/start")
    return first_id_at(moment)


def _check_same(found: Subscription, data: SubscriptionBody) -> None:
    """Raise Conflict unless the subscription has exactly these settings. `start` is not compared."""
    wanted = PushSettings(**_settings_in(data, None))
    wanted = msgspec.structs.replace(wanted, target_url=stored_url(wanted.target_url, "/target_url"))
    if same_types(found.settings.event_types, check_type_patterns(wanted.event_types)):
        wanted = msgspec.structs.replace(wanted, event_types=found.settings.event_types)
    names = PushSettings.__struct_fields__
    different = [name for name in names if getattr(wanted, name) != getattr(found.settings, name)]
    if (data.signature or _scheme_of(data.secret) or "v1") != found.signature:
        different.append("signature")
    if data.secret is not None and data.secret != found.secrets[0].secret:
        different.append("secret")
    if different:
        raise Conflict(f"A subscription with this key exists, with other values of: {', '.join(different)}.")


_NO_ROOM = "the organisation has reached its limit of subscriptions"
_INBOX_FOLLOWED = Answer(409, "The subscription sends an inbox's notifications. Change the inbox instead.")
_MOVED = Answer(409, "The subscription is disabled, or it sends the notifications of an inbox.")


def subscription_route(
    method: Method,
    path: str,
    handler: Callable[..., Any],
    status: int = 200,
    answers: tuple[Answer, ...] = (),
) -> Route:
    """A route with its alias under `/v1/hooks`. Keys with the scope `read` may use it if it is a GET, so
    no GET shows a payload or a secret."""
    row = Route(method, f"/v1/subscriptions{path}", handler, Scope.SUBSCRIPTIONS, status, answers)
    return row._replace(also=(f"/v1/hooks{path}",), or_scope=Scope.READ if method == "GET" else None)


ROUTES = (
    subscription_route("GET", "", SubscriptionRoutes.list_subscriptions),
    subscription_route(
        "POST",
        "",
        SubscriptionRoutes.create_subscription,
        201,
        (Answer(409, f"The key is in use, or {_NO_ROOM}."),),
    ),
    subscription_route(
        "PUT",
        "",
        SubscriptionRoutes.ensure_subscription,
        answers=(
            Answer(201, "The subscription was created.", NewSubscriptionView),
            Answer(200, "The subscription existed with these settings.", SubscriptionView),
            Answer(409, f"The subscription exists with other settings, or {_NO_ROOM}."),
        ),
    ),
    subscription_route("GET", "/{subscription_id}", SubscriptionRoutes.get_subscription),
    subscription_route(
        "PATCH", "/{subscription_id}", SubscriptionRoutes.change_subscription, answers=(_INBOX_FOLLOWED,)
    ),
    subscription_route(
        "DELETE", "/{subscription_id}", SubscriptionRoutes.delete_subscription, 204, (_INBOX_FOLLOWED,)
    ),
    subscription_route(
        "POST", "/{subscription_id}/pause", SubscriptionRoutes.pause_subscription, answers=(_MOVED,)
    ),
    subscription_route(
        "POST", "/{subscription_id}/resume", SubscriptionRoutes.resume_subscription, answers=(_MOVED,)
    ),
    subscription_route("POST", "/{subscription_id}/disable", SubscriptionRoutes.disable_subscription),
    subscription_route(
        "POST",
        "/{subscription_id}/enable",
        SubscriptionRoutes.enable_subscription,
        answers=(Answer(409, "The subscription has expired."),),
    ),
    subscription_route("POST", "/{subscription_id}/rotate-secret", SubscriptionRoutes.rotate_secret),
)
