"""Push subscriptions: made, looked at, changed and ended. Hook platforms know them as `/v1/hooks`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Response
from litestar.params import Parameter
from msgspec import UNSET, Meta, UnsetType

from triggers.api.services import Services
from triggers.api.views import (
    Cursor,
    Limit,
    Timestamp,
    make_cursor,
    moment_of,
    optional_timestamp,
    read_cursor,
)
from triggers.body_format import Format
from triggers.domain import (
    Caller,
    OrgId,
    SubscriptionStatus,
    check_text,
    check_type_patterns,
    first_id_at,
    parse_id,
    rfc3339,
)
from triggers.errors import Conflict, Invalid, NameTaken
from triggers.signing_secrets import AsymmetricSecret, Scheme, read_secret
from triggers.storage import event_store, subscription_store
from triggers.storage.subscription_store import NewSubscription, Subscription
from triggers.subscription import (
    MAX_HEADERS,
    Concurrency,
    Ordering,
    PushSettings,
    RateLimit,
    Retry,
    check_ordering,
    checked,
    new_secret,
    same_types,
)

Key = Annotated[str, Meta(min_length=1, max_length=100, description="A name of yours, unique among them.")]
TargetUrl = Annotated[str, Meta(min_length=1, max_length=2048, description="Where deliveries are POSTed to.")]
Name = Annotated[str, Meta(min_length=1, max_length=255)]
EventTypes = Annotated[
    list[str],
    Meta(
        max_length=100,
        description="Exact types, prefixes with a trailing wildcard (`order.*`), or `*`. Null: every type"
        " but the service's own (`triggers.…`), which go to those who name them.",
    ),
]
Filter = Annotated[str, Meta(max_length=2048, description="CEL over `payload` and `event`: true or false.")]
Headers = Annotated[
    dict[str, str],
    Meta(max_length=MAX_HEADERS, description="Sent with every delivery, kept encrypted, shown by name only."),
]
Pointer = Annotated[
    str,
    Meta(
        max_length=255,
        description="With `ordering: key`: a JSON Pointer into the payload; null takes the event's own"
        " `ordering_key`.",
    ),
]
Secret = Annotated[str, Meta(max_length=200, description="whsec_… for v1, whsk_… for v1a. Null: made here.")]
Start = Annotated[
    str,
    Meta(
        max_length=64,
        description="`now`, a time, or the id of an event: from where in the past it is given what matches.",
    ),
]


class SubscriptionBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A subscription to make. What is null or left out has its default."""

    target_url: TargetUrl
    key: Key | None = None
    name: Name | None = None
    event_types: EventTypes | None = None
    filter: Filter | None = None
    format: Format | None = None
    headers: Headers | None = None
    secret: Secret | None = None
    signature: Scheme | None = None
    ordering: Ordering | None = None
    ordering_key: Pointer | None = None
    max_concurrency: Concurrency | None = None
    rate_limit: RateLimit | None = None
    retry: Retry | None = None
    start: Start | None = None
    expires_at: Timestamp | None = None
    expiration_date: Annotated[str | None, Meta(description="Another name for `expires_at`.")] = None


class SubscriptionChange(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What to change: what is left out stays, what is null has its default again."""

    target_url: TargetUrl | UnsetType = UNSET
    name: Name | UnsetType | None = UNSET
    event_types: EventTypes | UnsetType | None = UNSET
    filter: Filter | UnsetType | None = UNSET
    format: Format | UnsetType | None = UNSET
    headers: Headers | UnsetType | None = UNSET
    ordering: Ordering | UnsetType | None = UNSET
    ordering_key: Pointer | UnsetType | None = UNSET
    max_concurrency: Concurrency | UnsetType | None = UNSET
    rate_limit: RateLimit | UnsetType | None = UNSET
    retry: Retry | UnsetType | None = UNSET
    expires_at: Timestamp | UnsetType | None = UNSET
    expiration_date: Annotated[str, Meta(description="Another name for `expires_at`.")] | UnsetType | None = (
        UNSET
    )


class RotateSecretBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The new secret, made here unless given, and for how long the present one signs beside it."""

    secret: Secret | None = None
    signature: Annotated[Scheme | None, Meta(description="The new secret's scheme; null: as it is now.")] = (
        None
    )
    overlap_seconds: Annotated[int, Meta(ge=0, le=7 * 86_400)] = 86_400


class DisableBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Why, for whoever finds it disabled."""

    reason: Annotated[str, Meta(min_length=1, max_length=255)] = "disabled by request"


class SubscriptionView(msgspec.Struct, kw_only=True):
    """A subscription. The values of its headers are in no answer."""

    id: UUID
    key: str | None
    name: str | None
    target_url: str
    status: str
    status_reason: str | None
    status_at: Timestamp
    event_types: list[str] | None
    filter: str | None
    filter_error: Annotated[
        str | None, Meta(description="How the filter failed last; what it fails on counts as a match.")
    ]
    filter_error_at: Timestamp | None
    format: str
    header_names: list[str]
    signature: str
    public_key: Annotated[str | None, Meta(description="With v1a: what to verify signatures with.")]
    old_secret_ends_at: Annotated[
        Timestamp | None, Meta(description="After a rotation: until when the old secret signs, or signed.")
    ]
    ordering: str
    ordering_key: str | None
    max_concurrency: int
    rate_limit: float | None
    retry: Retry
    expires_at: Timestamp | None
    notifies_inbox: Annotated[UUID | None, Meta(description="The inbox whose notices it sends.")]
    created_at: Timestamp
    changed_at: Timestamp
    last_success_at: Timestamp | None
    failing_since: Timestamp | None
    oldest_pending: Annotated[
        Timestamp | None, Meta(description="When the oldest event was accepted that is not delivered yet.")
    ]
    next_attempt: Annotated[
        Timestamp | None, Meta(description="When the next delivery is due; null while nothing is sent.")
    ]


class NewSubscriptionView(SubscriptionView, kw_only=True):
    """A subscription and the secret it signs with, which no other answer shows."""

    secret: str


class EnabledView(SubscriptionView, kw_only=True):
    """An enabled subscription, and the time in which it matched nothing."""

    missed_since: Timestamp | None
    missed_until: Timestamp | None
    hint: str | None


class SubscriptionList(msgspec.Struct):
    """Part of the list of subscriptions."""

    data: list[SubscriptionView]
    next_cursor: str | None


# ---- handlers ------------------------------------------------------------------------------------


async def create_subscription(
    caller: Caller, services: Services, data: SubscriptionBody
) -> NewSubscriptionView:
    """Subscribe a URL to events. The answer alone shows the signing secret."""
    return await _create(services, caller.org_id, data)


async def ensure_subscription(
    caller: Caller, services: Services, data: SubscriptionBody
) -> Response[NewSubscriptionView | SubscriptionView]:
    """Make a subscription unless it is there: 201 when made, 200 when it was there with these settings."""
    if data.key is None:
        raise Invalid("To ensure a subscription it needs a key.", pointer="/key")
    check_text(data.key, "/key", longest=100)
    for _ in range(3):  # made and deleted by others in between, at worst
        found = await subscription_store.by_key(services.database, services.key_ring, caller.org_id, data.key)
        if found is None:
            try:
                return Response(await _create(services, caller.org_id, data), status_code=201)
            except NameTaken:
                continue
        _check_same(found, data)
        return Response(view_of(found), status_code=200)
    raise Conflict("The subscription is being made and deleted by others at this moment.")


async def list_subscriptions(
    caller: Caller,
    services: Services,
    key: Annotated[str | None, Parameter(max_length=100)] = None,
    status: Annotated[str | None, Parameter(pattern="^(active|paused|disabled)$")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> SubscriptionList:
    """List the subscriptions in the order they were made."""
    if key is not None:
        check_text(key, "key", longest=100)
    found = await subscription_store.listed(
        services.database,
        services.key_ring,
        caller.org_id,
        after=read_cursor(cursor),
        key=key,
        status=status,
        limit=limit,
    )
    return SubscriptionList(
        [view_of(each) for each in found], make_cursor(found[-1].id if len(found) == limit else None)
    )


async def get_subscription(caller: Caller, services: Services, subscription_id: str) -> SubscriptionView:
    """Show one subscription."""
    return view_of(
        await subscription_store.find(services.database, services.key_ring, caller.org_id, subscription_id)
    )


async def change_subscription(
    caller: Caller, services: Services, subscription_id: str, data: SubscriptionChange
) -> SubscriptionView:
    """Change a subscription. What is accepted from now on is matched by it; sending follows in a second."""
    changes = _settings_in(data, UNSET)
    return await _followed(
        services,
        await subscription_store.patch(
            services.database, services.key_ring, caller.org_id, subscription_id, _edit(services, changes)
        ),
    )


async def delete_subscription(caller: Caller, services: Services, subscription_id: str) -> None:
    """Unsubscribe: nothing more is sent, what is queued is cancelled. Deleting again answers 204 again."""
    await subscription_store.delete(services.database, caller.org_id, subscription_id)
    found = parse_id(subscription_id)
    if found is not None:
        services.wakeup.give({caller.org_id}, [(caller.org_id, found)])


async def pause_subscription(caller: Caller, services: Services, subscription_id: str) -> SubscriptionView:
    """Send nothing for now; events keep collecting. Pausing twice is pausing once."""
    return await _followed(
        services,
        await subscription_store.pause(services.database, services.key_ring, caller.org_id, subscription_id),
    )


async def resume_subscription(caller: Caller, services: Services, subscription_id: str) -> SubscriptionView:
    """Send again, beginning with what was collected."""
    return await _followed(
        services,
        await subscription_store.resume(services.database, services.key_ring, caller.org_id, subscription_id),
    )


async def disable_subscription(
    caller: Caller, services: Services, subscription_id: str, data: DisableBody | None = None
) -> SubscriptionView:
    """Match nothing any more. What is queued is cancelled: it is listed, and can be replayed."""
    reason = check_text((data or DisableBody()).reason, "/reason", longest=255)
    return await _followed(
        services,
        await subscription_store.disable(
            services.database, services.key_ring, caller.org_id, subscription_id, reason
        ),
    )


async def enable_subscription(caller: Caller, services: Services, subscription_id: str) -> EnabledView:
    """Match again, from now.

    What came while it was disabled is not sent by itself: `missed_since` and `missed_until` are the
    window to replay.
    """
    enabled, missed_since = await subscription_store.enable(
        services.database, services.key_ring, caller.org_id, subscription_id
    )
    view = await _followed(services, enabled)
    return EnabledView(
        **msgspec.structs.asdict(view),
        missed_since=optional_timestamp(missed_since),
        missed_until=None if missed_since is None else view.status_at,
        hint=None
        if missed_since is None
        else f"POST /v1/replays with subscription_id {enabled.id}, only all, since {rfc3339(missed_since)}"
        f" and until {view.status_at} sends what came in between.",
    )


async def rotate_secret(
    caller: Caller, services: Services, subscription_id: str, data: RotateSecretBody | None = None
) -> NewSubscriptionView:
    """Sign with a new secret, and with the present one too until the overlap ends."""
    asked = data or RotateSecretBody()

    def make(present: Scheme) -> tuple[str, Scheme]:
        scheme = asked.signature or _scheme_of(asked.secret) or present
        return new_secret(asked.secret, scheme), scheme

    rotated = await subscription_store.rotate_secret(
        services.database,
        services.key_ring,
        caller.org_id,
        subscription_id,
        make,
        timedelta(seconds=asked.overlap_seconds),
    )
    await _followed(services, rotated)
    return _new_view(rotated)


# ---- steps ---------------------------------------------------------------------------------------


async def _create(services: Services, org_id: OrgId, data: SubscriptionBody) -> NewSubscriptionView:
    if data.key is not None:
        check_text(data.key, "/key", longest=100)
    signature = data.signature or _scheme_of(data.secret) or "v1"
    new = NewSubscription(
        settings=checked(PushSettings(**_settings_in(data, None)), *_judged_by(services)),
        signature=signature,
        secret=new_secret(data.secret, signature),
        key=data.key,
        start=await _start(services, org_id, data.start),
    )
    made = await subscription_store.create(services.database, services.clock, services.key_ring, org_id, new)
    return _new_view(made)


def _edit(services: Services, changes: dict[str, Any]) -> Callable[[PushSettings], PushSettings]:
    def edit(present: PushSettings) -> PushSettings:
        defaults = {field.name: field.default for field in msgspec.structs.fields(PushSettings)}
        chosen = {name: defaults[name] if value is None else value for name, value in changes.items()}
        if changes.get("headers", ()) is None:
            chosen["headers"] = {}
        wanted = msgspec.structs.replace(present, **chosen)
        check_ordering(present.ordering, wanted.ordering)
        return checked(wanted, *_judged_by(services), changed=changes.keys())

    return edit


def _settings_in(data: SubscriptionBody | SubscriptionChange, absent: Any) -> dict[str, Any]:
    """The settings that a body names, as they are called in PushSettings."""
    found = {
        name: value
        for name, value in msgspec.structs.asdict(data).items()
        if value is not absent and name not in ("key", "secret", "signature", "start")
    }
    if "expiration_date" in found:
        if "expires_at" in found:
            raise Invalid(
                "`expiration_date` is another name for `expires_at`; send one.", pointer="/expiration_date"
            )
        found["expires_at"] = found.pop("expiration_date")
    if found.get("expires_at") is not None:
        found["expires_at"] = moment_of(found["expires_at"], "/expires_at")
    return found


def _judged_by(services: Services) -> tuple[Any, datetime]:
    return services.settings.outbound_policy(), datetime.fromtimestamp(services.clock.now(), UTC)


def _scheme_of(secret: str | None) -> Scheme | None:
    """The scheme that a given secret's prefix names, if that is one at all."""
    match secret and secret.partition("_")[0]:
        case "whsec":
            return "v1"
        case "whsk":
            return "v1a"
        case _:
            return None


async def _start(services: Services, org_id: OrgId, start: str | None) -> UUID | None:
    """The first event that is given of the past, None for none."""
    if start is None or start == "now":
        return None
    if (event_id := parse_id(start)) is not None:
        if await event_store.one(services.database, org_id, event_id) is None:
            raise Invalid("There is no such event.", pointer="/start")
        return event_id
    try:
        moment = moment_of(start, "/start")
    except Invalid:
        raise Invalid(
            "Must be `now`, an RFC 3339 time with a time zone, or the id of an event.", pointer="/start"
        ) from None
    if moment is None or moment.timestamp() > services.clock.now():
        raise Invalid("Must not lie in the future.", pointer="/start")
    return first_id_at(moment)


def _check_same(found: Subscription, data: SubscriptionBody) -> None:
    """Raise Conflict unless the subscription has just these settings; `start` is none that lasts."""
    wanted = PushSettings(**_settings_in(data, None))
    if same_types(found.settings.event_types, check_type_patterns(wanted.event_types)):
        wanted = msgspec.structs.replace(wanted, event_types=found.settings.event_types)
    different = [
        name
        for name in PushSettings.__struct_fields__
        if getattr(wanted, name) != getattr(found.settings, name)
    ]
    if (data.signature or _scheme_of(data.secret) or "v1") != found.signature:
        different.append("signature")
    if data.secret is not None and data.secret != found.secrets[0].secret:
        different.append("secret")
    if different:
        raise Conflict(f"There is a subscription with this key and another {', '.join(different)}.")


async def _followed(services: Services, changed: Subscription) -> SubscriptionView:
    """Tell its lane, and show it as it is now."""
    services.wakeup.give({changed.org_id}, [(changed.org_id, changed.id)])
    return view_of(
        await subscription_store.find(services.database, services.key_ring, changed.org_id, str(changed.id))
    )


def view_of(subscription: Subscription) -> SubscriptionView:
    """A subscription as answers show it."""
    settings = subscription.settings
    current = read_secret(subscription.secrets[0].secret)
    return SubscriptionView(
        id=subscription.id,
        key=subscription.key,
        name=settings.name,
        target_url=settings.target_url,
        status=subscription.status,
        status_reason=subscription.status_reason,
        status_at=rfc3339(subscription.status_at),
        event_types=settings.event_types,
        filter=settings.filter,
        filter_error=subscription.filter_error,
        filter_error_at=optional_timestamp(subscription.filter_error_at),
        format=settings.format,
        header_names=list(settings.headers),
        signature=subscription.signature,
        public_key=current.public_text if isinstance(current, AsymmetricSecret) else None,
        old_secret_ends_at=optional_timestamp(
            max((each.ends_at for each in subscription.secrets if each.ends_at), default=None)
        ),
        ordering=settings.ordering,
        ordering_key=settings.ordering_key,
        max_concurrency=settings.max_concurrency,
        rate_limit=settings.rate_limit,
        retry=settings.retry,
        expires_at=optional_timestamp(settings.expires_at),
        notifies_inbox=subscription.notifies_inbox,
        created_at=rfc3339(subscription.created_at),
        changed_at=rfc3339(subscription.changed_at),
        last_success_at=optional_timestamp(subscription.last_success_at),
        failing_since=optional_timestamp(subscription.failing_since),
        oldest_pending=optional_timestamp(subscription.oldest_pending),
        next_attempt=optional_timestamp(_next_attempt(subscription)),
    )


def _new_view(subscription: Subscription) -> NewSubscriptionView:
    return NewSubscriptionView(
        **msgspec.structs.asdict(view_of(subscription)), secret=subscription.secrets[0].secret
    )


def _next_attempt(subscription: Subscription) -> datetime | None:
    if subscription.next_due is None or subscription.status != SubscriptionStatus.ACTIVE:
        return None
    # While the breaker is open nothing goes before its probe.
    return max(filter(None, (subscription.next_due, subscription.probe_at)))
