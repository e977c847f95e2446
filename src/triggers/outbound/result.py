"""What one attempt came to: the values that `send` returns and `judge` reads."""

from enum import StrEnum
from typing import Final, TypeAlias

from msgspec import Struct


class Reason(StrEnum):
    """Why an attempt ended as it did: one word, recorded with the attempt."""

    # An answer came.
    DELIVERED = "delivered"
    REDIRECT = "redirect"
    GONE = "gone"
    THROTTLED = "throttled"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    # None came, or not all of it.
    INVALID = "invalid"
    DNS = "dns"
    FORBIDDEN_ADDRESS = "forbidden_address"
    CONNECT = "connect"
    CONNECT_TIMEOUT = "connect_timeout"
    TLS = "tls"
    TLS_TIMEOUT = "tls_timeout"
    TIMEOUT = "timeout"
    SLOW_HEADERS = "slow_headers"
    SLOW_BODY = "slow_body"
    TOO_LARGE = "too_large"
    CLOSED = "closed"
    INCOMPLETE = "incomplete"
    MALFORMED = "malformed"
    PROXY = "proxy"
    BUSY = "busy"
    INTERNAL = "internal"


NOT_THE_ENDPOINT: Final = frozenset({Reason.PROXY, Reason.BUSY, Reason.INTERNAL})
"""Faults of ours or of the operator's proxy: no ground to open a breaker or to disable a subscription."""


class Answered(Struct, frozen=True):
    """The endpoint sent a whole response head. Its status decides, whatever became of the body."""

    status: int
    text: str
    """The beginning of the body: at most 1 KiB of UTF-8, no NUL."""
    duration_seconds: float
    retry_after: str | None = None
    delivery_control: str | None = None
    """The `webhook-delivery` header."""
    cut: Reason | None = None
    """Why the body was not read to its end: too_large, slow_body, incomplete or malformed."""


class Failed(Struct, frozen=True):
    """No response head came. `detail` may be shown to the tenant: it never holds a resolved address."""

    reason: Reason
    detail: str
    duration_seconds: float


Result: TypeAlias = Answered | Failed
