"""The results of an attempt: the values that `send` returns and `judge` reads.

The parts of this room raise `NoConnection` to each other, and `send` turns it into such a value.
"""

from enum import StrEnum
from typing import Final, TypeAlias

from msgspec import Struct


class Reason(StrEnum):
    """The reason for the outcome of an attempt: one word, recorded with the attempt."""

    # An answer came.
    DELIVERED = "delivered"
    REDIRECT = "redirect"
    GONE = "gone"
    THROTTLED = "throttled"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    # No answer arrived, or only a part of one.
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


class Answered(Struct, frozen=True, gc=False):
    """The endpoint sent a whole response head, or a status and after it something that is not HTTP.

    The status decides, even if the rest could not be read.
    """

    status: int
    text: str
    """The beginning of the body: at most 1 KiB of UTF-8, no NUL."""
    duration_seconds: float
    retry_after: str | None = None
    delivery_control: str | None = None
    """The `webhook-delivery` header."""
    cut: Reason | None = None
    """Why the answer was not read to its end: too_large, slow_body, incomplete or malformed."""


class Failed(Struct, frozen=True, gc=False):
    """No response head came. `detail` may be shown to the tenant: it never holds a resolved address."""

    reason: Reason
    detail: str
    duration_seconds: float
    status: int | None = None
    """The status, if the answer ended after its status and before the end of its headers."""
    stale_connection: bool = False
    """The connection was kept from an earlier request, and closed before any byte of the answer came. Usually
    the endpoint had closed it before it got the request, so the endpoint does not count as failing."""


Result: TypeAlias = Answered | Failed

DETAILS: Final = {
    Reason.DNS: "The host name could not be resolved.",
    Reason.FORBIDDEN_ADDRESS: "Deliveries to the address of this host are not allowed."
    " The operator can allow it with TRIGGERS_OUTBOUND_ALLOW.",
    Reason.CONNECT: "The connection was refused or the host cannot be reached.",
    Reason.CONNECT_TIMEOUT: "The host did not accept a connection in time.",
    Reason.TLS: "TLS could not be agreed with the host.",
    Reason.TLS_TIMEOUT: "The host did not finish the TLS handshake in time.",
    Reason.TIMEOUT: "The endpoint did not answer in time.",
    Reason.SLOW_HEADERS: "The endpoint began to answer and did not finish its headers in time.",
    Reason.SLOW_BODY: "The endpoint did not finish its answer in time.",
    Reason.INCOMPLETE: "The endpoint closed the connection before its answer was whole.",
    Reason.TOO_LARGE: "The headers of the answer are too large.",
    Reason.CLOSED: "The endpoint closed the connection without answering.",
    Reason.MALFORMED: "The answer is not valid HTTP/1.1.",
    Reason.BUSY: "The sender had no room for this connection.",
}
"""The text for the tenant, if there is no more exact one."""


class NoConnection(Exception):
    """There is no connection, so nothing was sent to the endpoint."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail or DETAILS[reason]
