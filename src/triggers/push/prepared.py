"""The request of a delivery: its headers and its body, signed for the moment when it is sent. Pure.

The worker and `triggers listen` build their requests here. So this module imports neither a database driver
nor a library for public-key cryptography.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

import msgspec

from triggers import __version__
from triggers.push.signature import Signer

SUBSCRIPTION_HEADER: Final = "triggers-subscription"
GENERATION_HEADER: Final = "triggers-generation"
"""Number of times that the event was sent again to the subscription after its first delivery."""

_AGENT: Final = ("user-agent", f"Triggers/{__version__}")
_FIRST_GENERATION: Final = (GENERATION_HEADER, "0")


class Prepared(msgspec.Struct, frozen=True, gc=False):
    """The headers and the body of a request."""

    headers: list[tuple[str, str]]
    body: bytes


class DeliveryName(Protocol):
    """The event and the generation of a delivery."""

    @property
    def event_id(self) -> UUID: ...
    @property
    def generation(self) -> int: ...


def sign_request(
    delivery: DeliveryName,
    content: tuple[str, bytes],
    signer: Signer,
    fixed: Sequence[tuple[str, str]],
    moment: datetime,
) -> Prepared:
    """Sign a body. `content` is its type and its bytes, `fixed` the headers of every request."""
    content_type, body = content
    return Prepared(
        [
            ("content-type", content_type),
            _AGENT,
            *signer.headers(str(delivery.event_id), int(moment.timestamp()), body),
            *fixed,
            (GENERATION_HEADER, str(delivery.generation)) if delivery.generation else _FIRST_GENERATION,
        ],
        body,
    )
