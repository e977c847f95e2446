"""The rules that make a push subscription valid, and the stored form of its secrets. Pure.

Ranges are in the types, so that decoding checks them and the OpenAPI document shows them.
`checked` validates everything that a type cannot express.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from triggers.domain import Format, check_text, check_type_patterns
from triggers.errors import Invalid
from triggers.outbound.addresses import OutboundPolicy, check_url, origin_of, read_url
from triggers.secrets.key_ring import KeyRing
from triggers.secrets.signing_secrets import (
    AsymmetricSecret,
    Scheme,
    SigningSecret,
    generate_secret,
    read_secret,
)
from triggers.subscriptions.payload_filter import PayloadFilter

T = TypeVar("T")

LANE_GROUPS: Final = 64
MAX_SECRETS: Final = 10
"""Secrets that may sign at once: the current one and those that a rotation left for a while."""
MAX_HEADERS: Final = 32
MAX_HEADER_VALUE: Final = 4096
MAX_HEADERS_BYTES: Final = 16 * 1024
MAX_POINTER: Final = 255
DEFAULT_CONCURRENCY: Final = 64
WEEK_SECONDS: Final = 7 * 86_400

Ordering: TypeAlias = Literal["none", "key"]
Concurrency = Annotated[int, Meta(ge=1, le=1000, description="Maximum number of requests in flight.")]
RateLimit = Annotated[
    float,
    Meta(
        ge=0.001,
        le=100_000,
        description="Maximum requests per second; fractions are allowed. Null: no limit.",
    ),
]
Delays = Annotated[
    list[Annotated[float, Meta(ge=0, le=WEEK_SECONDS)]],
    Meta(
        max_length=50,
        description="Seconds before the second, third … attempt. After the last attempt the delivery is a"
        " dead letter. Null: the default schedule.",
    ),
]
Deadline = Annotated[
    float,
    Meta(
        gt=0,
        le=30 * 86_400,
        description="Seconds after the first attempt. If the next attempt would begin later by the schedule,"
        " the delivery is a dead letter at once. While a failing endpoint is only probed, an attempt that was"
        " planned earlier can begin later.",
    ),
]


class Retry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The times at which a failed delivery is retried."""

    delays: Delays | None = None
    deadline: Deadline | None = None


class PushSettings(Struct, frozen=True, kw_only=True):
    """Settings that a subscriber can choose and change. `ordering_key` is a JSON Pointer into the payload."""

    target_url: str
    name: str | None = None
    event_types: list[str] | None = None
    filter: str | None = None
    format: Format = "standard"
    headers: dict[str, str] = {}
    ordering: Ordering = "none"
    ordering_key: str | None = None
    max_concurrency: int = DEFAULT_CONCURRENCY
    rate_limit: float | None = None
    retry: Retry = Retry()
    expires_at: datetime | None = None

    @property
    def needs_judging(self) -> bool:
        """Whether matching an event reads its payload."""
        return self.filter is not None or self.ordering_key is not None


class StoredSecret(Struct, frozen=True):
    """A signing secret in its stored form, before encryption. The current one has no `ends_at`."""

    secret: str
    ends_at: datetime | None = None

    def __repr__(self) -> str:
        return f"StoredSecret(***, ends_at={self.ends_at!r})"


def lane_group(subscription_id: UUID) -> int:
    """The group of the lane of a subscription. One worker owns all lanes of a group."""
    return subscription_id.bytes[-1] & (LANE_GROUPS - 1)


# ---- settings ------------------------------------------------------------------------------------


def checked(
    settings: PushSettings, policy: OutboundPolicy, now: datetime, changed: Collection[str] | None = None
) -> PushSettings:
    """Return valid settings, or raise Invalid, which names the wrong field.

    Only the fields in `changed` are validated, or all if it is None: old values may stay as they are.
    """
    checks: dict[str, Callable[[Any], Any]] = {
        "target_url": lambda url: check_target(url, policy, "/target_url"),
        "name": lambda name: check_text(name, "/name", longest=255),
        "event_types": check_type_patterns,
        "filter": check_filter,
        "headers": check_headers,
        "ordering_key": check_pointer,
        "expires_at": lambda moment: _check_future(moment, now),
    }
    judged = {
        name: check(value)
        for name, check in checks.items()
        if (changed is None or name in changed) and (value := getattr(settings, name)) is not None
    }
    settings = msgspec.structs.replace(settings, **judged)
    return _consistent(settings, changed)


def check_ordering(present: Ordering, wanted: Ordering) -> None:
    """Raise Invalid if the change would need ordering keys of deliveries that were stored without."""
    if (present, wanted) == ("none", "key"):
        raise Invalid(
            "Cannot be changed from `none` to `key`, because earlier events have no order."
            " Create another subscription.",
            pointer="/ordering",
        )


def _consistent(settings: PushSettings, changed: Collection[str] | None) -> PushSettings:
    if settings.ordering == "none" and settings.ordering_key is not None:
        if changed is None or "ordering_key" in changed:
            raise Invalid("Only allowed with `ordering: key`.", pointer="/ordering_key")
        settings = msgspec.structs.replace(settings, ordering_key=None)
    return settings


def same_types(one: Collection[str] | None, other: Collection[str] | None) -> bool:
    """Whether two lists of patterns mean the same. Order and repetition do not matter."""
    return one == other or (one is not None and other is not None and set(one) == set(other))


def check_target(url: str, policy: OutboundPolicy, pointer: str) -> str:
    """Return a URL that can be delivered to, in its stored form, or raise Invalid."""
    return _at(pointer, check_url, url, policy).url


def stored_url(url: str, pointer: str) -> str:
    """Return a URL in its stored form, with its host in ASCII, or raise Invalid."""
    return _at(pointer, read_url, url).url


def check_origin(present: PushSettings, wanted: PushSettings, changed: Collection[str]) -> None:
    """Raise Invalid if a new URL would send stored headers to another scheme, host or port.

    Answers never show the values of headers. Without this check, the owner of a key that can change a URL
    could read the values at an endpoint of their own.
    """
    if not present.headers or "headers" in changed or wanted.target_url == present.target_url:
        return
    if origin_of(wanted.target_url) != origin_of(present.target_url):
        raise Invalid(
            "The new URL has another scheme, host or port, and the stored headers would be sent there. Send"
            " `headers` too; null removes them.",
            pointer="/headers",
        )


def check_filter(expression: str) -> str:
    """Return a valid filter, or raise Invalid."""
    PayloadFilter.compile(expression)
    return expression


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers that can be added to every request, or raise Invalid."""
    if len(headers) > MAX_HEADERS:
        raise Invalid(f"Must have at most {MAX_HEADERS} headers.", pointer="/headers")
    seen = set()
    size = 0
    for name, value in headers.items():
        pointer = "/headers/" + name.replace("~", "~0").replace("/", "~1")
        if not _TOKEN.fullmatch(name):
            raise Invalid("Not a valid header name (RFC 9110).", pointer=pointer)
        lower = name.lower()
        if lower in _OURS or lower.startswith(_OUR_PREFIXES):
            raise Invalid("This header is set by the service and cannot be chosen.", pointer=pointer)
        if lower in seen:
            raise Invalid("This header occurs twice.", pointer=pointer)
        if len(value) > MAX_HEADER_VALUE or not _FIELD_VALUE.fullmatch(value):
            raise Invalid(
                f"Must have at most {MAX_HEADER_VALUE} printable ASCII characters, no space at either end.",
                pointer=pointer,
            )
        seen.add(lower)
        size += len(name) + len(value) + 4
    if size > MAX_HEADERS_BYTES:
        raise Invalid(
            f"All headers together must have at most {MAX_HEADERS_BYTES:,} bytes.", pointer="/headers"
        )
    return dict(headers)


def check_pointer(pointer: str) -> str:
    """Return a valid JSON Pointer (RFC 6901) into a payload, or raise Invalid."""
    check_text(pointer, "/ordering_key", longest=MAX_POINTER)
    if not _JSON_POINTER.fullmatch(pointer):
        raise Invalid(
            "Must be a JSON Pointer into the payload, such as `/customer/id`.", pointer="/ordering_key"
        )
    return pointer


_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_FIELD_VALUE: Final = re.compile(r"(?:[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?)?")
_JSON_POINTER: Final = re.compile(r"(?:/(?:[^~/]|~[01])*)+")
# Headers that frame the request, that the service sets or signs, or that proxies and tracers set.
_OURS: Final = frozenset(
    {
        *(
            "connection",
            "expect",
            "host",
            "keep-alive",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "via",
        ),
        *("accept-encoding", "user-agent", "traceparent", "tracestate"),
    }
)
_OUR_PREFIXES: Final = ("content-", "proxy-", "webhook-", "ce-", "triggers-")


def _check_future(moment: datetime, now: datetime) -> datetime:
    if moment <= now:
        raise Invalid("Must be in the future.", pointer="/expires_at")
    return moment


def _at(pointer: str, check: Callable[..., T], *values: Any) -> T:
    """Run a check that knows no field name, and add the field to its error."""
    try:
        return check(*values)
    except Invalid as error:
        raise Invalid(error.message, pointer=pointer) from None


# ---- secrets and headers at rest -----------------------------------------------------------------


def new_secret(given: str | None, scheme: Scheme) -> str:
    """The text of a new signing secret: the given one if it fits the scheme, else a generated one.

    Raises:
        Invalid: the given secret is not valid; the error does not contain it.
    """
    if given is None:
        return generate_secret(scheme)
    if (read := _at("/secret", read_secret, given)) and scheme_of(read) != scheme:
        raise Invalid(
            "Does not fit `signature`: a whsec_ secret needs v1, a whsk_ secret needs v1a.",
            pointer="/secret",
        )
    return given


def scheme_of(secret: SigningSecret) -> Scheme:
    """The scheme of a signing secret."""
    return "v1a" if isinstance(secret, AsymmetricSecret) else "v1"


def rotated(
    secrets: Sequence[StoredSecret], secret: str, overlap: timedelta, now: datetime
) -> list[StoredSecret]:
    """Secrets with `secret` as the current one. The previous one signs until `overlap` ends; expired ones go.

    Raises:
        Invalid: it is already the current secret, or too many secrets are in use.
    """
    if secret == secrets[0].secret:
        raise Invalid("This is the current secret already. Give another one.", pointer="/secret")
    ends_at = now + overlap
    old = [
        StoredSecret(each.secret, ends_at if each.ends_at is None else min(each.ends_at, ends_at))
        for each in living(secrets, now)
        if each.secret != secret
    ]
    found = living([StoredSecret(secret), *old], now)
    if len(found) > MAX_SECRETS:
        raise Invalid(
            f"{MAX_SECRETS} secrets are in use, which is the maximum. Wait until one of them expires."
        )
    return found


def living(secrets: Sequence[StoredSecret], now: datetime) -> list[StoredSecret]:
    """The secrets that sign at `now`, the current one first."""
    return [each for each in secrets if each.ends_at is None or each.ends_at > now]


def seal_secrets(
    ring: KeyRing, org_id: UUID, subscription_id: UUID, secrets: Sequence[StoredSecret]
) -> bytes:
    """Encrypt secrets for the column `secrets`: `[{"secret", "ends_at"}]`, the current one first."""
    return ring.encrypt(
        msgspec.json.encode(secrets), org=org_id, subscription=subscription_id, purpose="secrets"
    )


def open_secrets(ring: KeyRing, org_id: UUID, subscription_id: UUID, sealed: bytes) -> list[StoredSecret]:
    """Decrypt the column `secrets`. Some secrets may have expired since."""
    return _read_secrets(ring.decrypt(sealed, org=org_id, subscription=subscription_id, purpose="secrets"))


def seal_headers(
    ring: KeyRing, org_id: UUID, subscription_id: UUID, headers: Mapping[str, str]
) -> bytes | None:
    """Encrypt headers for the column `headers`: a JSON object by name, None for no headers."""
    if not headers:
        return None
    return ring.encrypt(
        msgspec.json.encode(headers), org=org_id, subscription=subscription_id, purpose="headers"
    )


def open_headers(ring: KeyRing, org_id: UUID, subscription_id: UUID, sealed: bytes | None) -> dict[str, str]:
    """Decrypt the column `headers`."""
    if sealed is None:
        return {}
    return _read_headers(ring.decrypt(sealed, org=org_id, subscription=subscription_id, purpose="headers"))


_read_secrets = msgspec.json.Decoder(list[StoredSecret]).decode
_read_headers = msgspec.json.Decoder(dict[str, str]).decode
