"""Request and answer bodies of subscriptions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from triggers.domain import Caller, Format, Scope, SubscriptionStatus, rfc3339
from triggers.http.views import Timestamp, optional_timestamp
from triggers.outbound.addresses import in_unicode
from triggers.secrets.signing_secrets import AsymmetricSecret, Scheme, read_secret
from triggers.subscriptions.filter_failures import shown_failure
from triggers.subscriptions.rules import (
    MAX_HEADERS,
    Concurrency,
    Ordering,
    RateLimit,
    Retry,
)
from triggers.subscriptions.store import Subscription

SubscriptionKey = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=100,
        description="Your own key for this subscription, unique within the organisation.",
    ),
]
TargetUrl = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=2048,
        description="URL that deliveries are sent to, with POST. A host in Unicode is stored in its ASCII"
        " form (`xn--…`).",
    ),
]
UnicodeUrl = Annotated[
    str | None,
    Meta(
        description="The same URL with its host in Unicode. Null unless the host is an internationalised"
        " name."
    ),
]
Name = Annotated[str, Meta(min_length=1, max_length=255)]
EventTypes = Annotated[
    list[str],
    Meta(
        max_length=100,
        description="Exact types, prefixes with a trailing wildcard (`order.*`), or `*`. Null matches all"
        " types, except types of the service itself (`triggers.…`), which have to be named.",
    ),
]
Filter = Annotated[
    str,
    Meta(
        max_length=2048, description="CEL expression over `payload` and `event`. Its result is true or false."
    ),
]
DeliveryHeaders = Annotated[
    dict[str, str],
    Meta(
        max_length=MAX_HEADERS,
        description="Extra request headers. They are stored encrypted. Answers show only their names.",
    ),
]
Pointer = Annotated[
    str,
    Meta(
        max_length=255,
        description="With `ordering: key`: a JSON Pointer to a string, number, true or false in the payload."
        " An event where the pointer finds anything else is ordered with no other event. Null uses the"
        " `ordering_key` of the event.",
    ),
]
Secret = Annotated[
    str, Meta(max_length=200, description="`whsec_…` for v1, `whsk_…` for v1a. Null creates a secret.")
]
Start = Annotated[
    str,
    Meta(
        max_length=64,
        description="`now`, an RFC 3339 time, or an event id. Matching events from there on are delivered.",
    ),
]


class SubscriptionBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A new subscription. Fields that are null or omitted have their default."""

    target_url: TargetUrl
    key: SubscriptionKey | None = None
    name: Name | None = None
    event_types: EventTypes | None = None
    filter: Filter | None = None
    format: Format | None = None
    headers: DeliveryHeaders | None = None
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
    """Changes of a subscription. Omitted fields stay as they are; null resets a field to its default."""

    target_url: TargetUrl | UnsetType = UNSET
    name: Name | UnsetType | None = UNSET
    event_types: EventTypes | UnsetType | None = UNSET
    filter: Filter | UnsetType | None = UNSET
    format: Format | UnsetType | None = UNSET
    headers: DeliveryHeaders | UnsetType | None = UNSET
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
    """The new secret, which the service creates if it is omitted, and how long the old secret also signs."""

    secret: Secret | None = None
    signature: Annotated[
        Scheme | None, Meta(description="Scheme of the new secret. Null keeps the scheme.")
    ] = None
    overlap_seconds: Annotated[int, Meta(ge=0, le=7 * 86_400)] = 86_400


class DisableBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Why the subscription is disabled. `status_reason` shows it."""

    reason: Annotated[str, Meta(min_length=1, max_length=255)] = "disabled by request"


class SubscriptionView(msgspec.Struct, kw_only=True):
    """A subscription. Answers never contain the values of its headers."""

    id: UUID
    key: str | None
    name: str | None
    target_url: str
    target_url_unicode: UnicodeUrl
    status: str
    status_reason: str | None
    status_at: Timestamp
    event_types: list[str] | None
    filter: str | None
    filter_error: Annotated[
        str | None,
        Meta(description="The last failure of the filter. An event on which it fails counts as a match."),
    ]
    filter_error_at: Timestamp | None
    format: str
    header_names: list[str]
    signature: str
    public_key: Annotated[str | None, Meta(description="With v1a: the public key that verifies signatures.")]
    old_secret_ends_at: Annotated[
        Timestamp | None, Meta(description="After a rotation: when the old secret stops signing, or stopped.")
    ]
    ordering: str
    ordering_key: str | None
    max_concurrency: int
    rate_limit: float | None
    retry: Retry
    expires_at: Timestamp | None
    notifies_inbox: Annotated[
        UUID | None, Meta(description="Id of the inbox whose notifications this subscription sends.")
    ]
    created_at: Timestamp
    changed_at: Timestamp
    last_success_at: Timestamp | None
    failing_since: Timestamp | None
    oldest_pending: Annotated[
        Timestamp | None, Meta(description="When the oldest undelivered event was accepted.")
    ]
    next_attempt: Annotated[
        Timestamp | None,
        Meta(description="When the next delivery is due. Null if there is none, or nothing may be sent."),
    ]


class NewSubscriptionView(SubscriptionView, kw_only=True):
    """A subscription with its signing secret, which no other answer contains."""

    secret: str


class EnabledView(SubscriptionView, kw_only=True):
    """An enabled subscription, and the time range in which it matched nothing."""

    missed_since: Timestamp | None
    missed_until: Timestamp | None
    hint: str | None


class SubscriptionList(msgspec.Struct):
    """A page of subscriptions."""

    data: list[SubscriptionView]
    next_cursor: str | None


def view_of(subscription: Subscription) -> SubscriptionView:
    """A subscription as answers show it."""
    settings = subscription.settings
    current = read_secret(subscription.secrets[0].secret)
    return SubscriptionView(
        id=subscription.id,
        key=subscription.key,
        name=settings.name,
        target_url=settings.target_url,
        target_url_unicode=in_unicode(settings.target_url),
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


def view_for(caller: Caller, subscription: Subscription) -> SubscriptionView:
    """A subscription as the answer to a caller that may only read shows it."""
    view = view_of(subscription)
    view.filter_error = shown_failure(view.filter_error, caller, Scope.SUBSCRIPTIONS)
    return view


def new_view_of(subscription: Subscription) -> NewSubscriptionView:
    """A subscription and its secret."""
    return NewSubscriptionView(
        **msgspec.structs.asdict(view_of(subscription)), secret=subscription.secrets[0].secret
    )


def _next_attempt(subscription: Subscription) -> datetime | None:
    if subscription.next_due is None or subscription.status != SubscriptionStatus.ACTIVE:
        return None
    # While the breaker is open nothing goes before its probe.
    return max(filter(None, (subscription.next_due, subscription.probe_at)))
