"""The nouns, their states and what makes them valid. No I/O."""

from __future__ import annotations

import enum
import hashlib
import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Literal, NamedTuple, NewType, TypeAlias
from uuid import UUID

import msgspec

from triggers.errors import Forbidden, Invalid

OrgId = NewType("OrgId", UUID)
EventId = NewType("EventId", UUID)
LaneId = tuple[UUID, UUID]
"""Organisation and subscription."""
KeyId = NewType("KeyId", UUID)
Format: TypeAlias = Literal["standard", "raw", "cloudevents"]
"""The format of the body of a delivery."""

DEFAULT_INBOX: Final = "default"
RESERVED_TYPE_PREFIX: Final = "triggers."
MAX_EVENT_BYTES: Final = 256 * 1024
MAX_BATCH_BYTES: Final = 5 * 1024 * 1024
MAX_BATCH_EVENTS: Final = 1000
MAX_PAGE_BYTES: Final = 8 * 1024 * 1024
"""A page or a lease ends when its payloads reach this; it always holds at least one item."""


class Scope(enum.StrEnum):
    """A permission of an API key."""

    EVENTS_WRITE = "events:write"
    EVENTS_READ = "events:read"
    INBOX = "inbox"
    SUBSCRIPTIONS = "subscriptions"
    KEYS = "keys"
    READ = "read"
    ADMIN = "admin"
    ACT = "act"


OPERATOR_SCOPES: Final = frozenset({Scope.ADMIN, Scope.ACT})
"""The scopes that only the operator can give a key."""
TENANT_SCOPES: Final = frozenset(Scope) - OPERATOR_SCOPES
"""The default scopes of a key."""
_IMPLY_READ: Final = frozenset({Scope.EVENTS_READ, Scope.INBOX, Scope.SUBSCRIPTIONS, Scope.KEYS})


def with_read(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """Return these scopes, and add `read` if they already allow everything that `read` allows.

    So a key that is older than the scope `read` can create keys with it.
    """
    found = frozenset(scopes)
    return found | {Scope.READ} if found >= _IMPLY_READ else found


def without_implied_read(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """Return these scopes without `read` if `with_read` would add it again."""
    found = frozenset(scopes)
    return found - {Scope.READ} if found >= _IMPLY_READ else found


class Plan(enum.StrEnum):
    """A plan bounds the requests per minute of an organisation."""

    FREE = "free"
    PRO = "pro"
    BUSINESS = "business"
    ENTERPRISE = "enterprise"


PLAN_QUOTAS: Final = {Plan.FREE: 100, Plan.PRO: 1_000, Plan.BUSINESS: 10_000, Plan.ENTERPRISE: None}
"""Requests a minute; None is no limit. An enterprise organisation may have a number of its own."""


class DeliveryStatus(enum.StrEnum):
    """The stored states of a delivery; the first two are unsettled, the rest are final."""

    PENDING = "pending"
    LEASED = "leased"
    DELIVERED = "delivered"
    ACKNOWLEDGED = "acknowledged"
    DEAD = "dead"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class AttemptOutcome(enum.StrEnum):
    """The outcome of an attempt: the delivery arrived, is retried later, or is a dead letter."""

    # Stored as written here. A CHECK of the table `attempts` has the same list, and all but `retry` become
    # the status of the delivery.
    DELIVERED = "delivered"
    RETRY = "retry"
    DEAD = "dead"


class SubscriptionStatus(enum.StrEnum):
    """`disabled` and `deleting` match nothing; `paused` collects."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"
    DELETING = "deleting"


class NotSettledReason(enum.StrEnum):
    """Why a request did not settle a message that it names."""

    LEASE_OVER = "lease_over"
    NOT_IN_LEASE = "not_in_lease"
    ALREADY_ACKNOWLEDGED = "already_acknowledged"


class Organisation(msgspec.Struct, frozen=True, kw_only=True):
    """The tenant. `requests_per_minute` is the quota in force, None for no limit."""

    id: UUID
    name: str
    plan: Plan
    requests_per_minute: int | None
    created_at: datetime


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """The caller of a request: one verified API key. Every storage function takes its `org_id`.

    `expires_at` is seconds since the epoch, infinity for a key that does not expire. `own_org_id` is the
    organisation of the key if the caller acts for another organisation, which `org_id` then names.
    """

    org_id: OrgId
    org_name: str
    plan: Plan
    requests_per_minute: int | None
    key_id: KeyId
    key_prefix: str
    scopes: frozenset[Scope]
    expires_at: float
    own_org_id: OrgId | None = None

    def require(self, *scopes: str) -> None:
        """Raise Forbidden unless the key has one of these scopes. Without arguments, every key passes."""
        if not scopes or not self.scopes.isdisjoint(scopes):
            return
        named = " or ".join(f"`{scope}`" for scope in scopes)
        message = f"This route needs a key with the scope {named}."
        if self.own_org_id is not None:
            message = (
                f"While a key acts for another organisation, this route needs the scope {named}, and the"
                " scope `act` if it is not `read` or `events:read`."
            )
        raise Forbidden(message, scope=str(scopes[0]))


class NewEvent(msgspec.Struct, kw_only=True, gc=False):
    """An event that was read and found valid, on its way to be stored."""

    org_id: OrgId
    id: EventId
    type: str
    payload: bytes
    dedup_id: str | None = None
    source: str | None = None
    subject: str | None = None
    ordering_key: str | None = None
    occurred_at: datetime | None = None
    attributes: bytes | None = None
    """Other attributes of a CloudEvent, as a JSON object."""

    @property
    def fingerprint(self) -> bytes:
        """The value that defines "same content" for deduplication, as in the statement that stores it: the
        SHA-256 of the type, a NUL and the payload's bytes."""
        return hashlib.sha256(b"%b\0%b" % (self.type.encode(), self.payload)).digest()


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The answer of an accept: the id under which the event is stored, now or since earlier."""

    id: UUID
    duplicate: bool


# ---- text that tenants choose -------------------------------------------------------------------

_FORBIDDEN_IN_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_TYPE_PATTERN = re.compile(r"\*|(?:[^*]+\.)\*|[^*]+")


def check_text(value: str, pointer: str, *, longest: int) -> str:
    """Return `value`, or raise Invalid: 1 to `longest` characters, none of them a control character."""
    if not 1 <= len(value) <= longest:
        raise Invalid(f"Must have 1 to {longest} characters, but has {len(value)}.", pointer=pointer)
    # A printable text contains no control character, and `isprintable` is faster than the pattern.
    if not value.isprintable() and (found := _FORBIDDEN_IN_TEXT.search(value)):
        raise Invalid(
            f"Must not contain control characters, but contains U+{ord(found[0]):04X}.", pointer=pointer
        )
    return value


def check_inbox_key(value: str) -> str:
    """Return a key that names an inbox in a path, beside the ids of others, or raise Invalid."""
    check_text(value, "/key", longest=100)
    if "/" in value or value in (".", ".."):
        raise Invalid(
            "Must not contain `/`, and must not be `.` or `..`, because paths contain the key.",
            pointer="/key",
        )
    if parse_id(value) is not None:
        raise Invalid("Must not be a UUID, because ids are UUIDs.", pointer="/key")
    return value


def check_event_type(value: str, pointer: str = "/type") -> str:
    """Return a type that a producer may use, or raise Invalid."""
    check_text(value, pointer, longest=255)
    if value.startswith(RESERVED_TYPE_PREFIX):
        raise Invalid(
            f"Must not begin with `{RESERVED_TYPE_PREFIX}`, which is reserved for events of the service.",
            pointer=pointer,
        )
    return value


def check_type_patterns(patterns: list[str] | None, pointer: str = "/event_types") -> list[str] | None:
    """Return patterns that can match, or raise Invalid. None, and any list with `*`, mean all types."""
    if patterns is None:
        return None
    if not 1 <= len(patterns) <= 100:
        raise Invalid("Must have 1 to 100 patterns. Omit the field to match all types.", pointer=pointer)
    for index, pattern in enumerate(patterns):
        check_type_pattern(pattern, f"{pointer}/{index}")
    return list(dict.fromkeys(patterns))


def check_type_pattern(pattern: str, pointer: str) -> str:
    """Return a pattern that can match, or raise Invalid."""
    check_text(pattern, pointer, longest=255)
    if not _TYPE_PATTERN.fullmatch(pattern):
        raise Invalid(
            "Must be an exact type, a prefix with a trailing wildcard such as `order.*`, or `*`.",
            pointer=pointer,
        )
    return pattern


def type_matches(event_type: str, patterns: list[str] | None) -> bool:
    """Whether a type is one that the patterns ask for. Accept judges the same in SQL.

    The service's own events (`triggers.…`) go only to subscriptions that name them.
    """
    if patterns is None or "*" in patterns:
        if not event_type.startswith(RESERVED_TYPE_PREFIX):
            return True
        patterns = [pattern for pattern in patterns or () if pattern != "*"]
    return any(
        event_type.startswith(pattern[:-1]) if pattern.endswith(".*") else event_type == pattern
        for pattern in patterns
    )


# ---- ids and times ------------------------------------------------------------------------------


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def created_at(event_id: UUID) -> datetime:
    """The time a UUIDv7 was minted at, to the millisecond, UTC."""
    return _EPOCH + timedelta(milliseconds=event_id.int >> 80)


def first_id_at(moment: datetime) -> UUID:
    """The lowest UUIDv7 of a moment: what a range of ids by time begins with. None is older than 1970."""
    milliseconds = max(0, int(moment.timestamp() * 1000))
    return UUID(int=milliseconds << 80 | 0x7 << 76 | 0x2 << 62)


def begins_a_minute_before(event_id: UUID) -> UUID:
    """Return the first id to look at for ids that were made after this one, as clocks may differ a little."""
    return UUID(int=max(0, event_id.int - (60_000 << 80)))


def rfc3339(moment: datetime) -> str:
    """A time in the format of all answers: UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def minted_at(event_id: UUID) -> str:
    """`created_at` as `rfc3339` writes it, several times as fast: ids come by the thousand in a second."""
    seconds, milliseconds = divmod(event_id.int >> 80, 1000)
    return f"{_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


_LEAP_SECOND = re.compile(r"(\d\d:\d\d):60(?:\.\d+)?(?!\d)")


def parse_time(text: str) -> datetime:
    """The RFC 3339 time in `text`, whose fraction may have any length.

    A leap second, `:60`, is read as `:59.999999`, because no `datetime` has one.

    Raises:
        ValueError: the text is not such a time.
    """
    return msgspec.convert(without_leap_second(text), datetime)


def without_leap_second(text: str) -> str:
    """The same RFC 3339 time, in which a leap second is `:59.999999`."""
    return _LEAP_SECOND.sub(r"\1:59.999999", text, count=1)


def parse_id(text: str) -> UUID | None:
    """The UUID in `text`, None if it is not one: an id that cannot exist is an id that does not."""
    try:
        return UUID(text) if len(text) == 36 else None
    except ValueError:
        return None


class PageRequest(NamedTuple):
    """The part of a list that is asked for: at most `limit` items, which come behind the id `after`."""

    after: UUID | None
    limit: int

    @property
    def above(self) -> UUID:
        """The id that all others of the page are above, in a list whose ids go up."""
        return self.after or UUID(int=0)

    @property
    def below(self) -> UUID:
        """The id that all others of the page are below, in a list whose ids go down."""
        return self.after or UUID(int=(1 << 128) - 1)
