"""The numbers of messages of an inbox, as answers show them."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from triggers.deliveries.undelivered import Backlog
from triggers.http.views import Timestamp, optional_timestamp

Exact = Annotated[bool, Meta(description="False if there are more.")]


class InboxBacklog(msgspec.Struct, kw_only=True):
    """The messages of an inbox, counted up to 1,000 each."""

    messages: Annotated[int, Meta(description="Number of unsettled messages, including leased ones.")]
    messages_exact: Exact
    leased: int
    leased_exact: Exact
    quarantined: int
    quarantined_exact: Exact
    oldest_message: Annotated[
        Timestamp | None, Meta(description="Time when the oldest unsettled message was put into the inbox.")
    ]


def backlog_view(found: Backlog) -> InboxBacklog:
    """The numbers as answers show them."""
    return InboxBacklog(
        messages=found.unsettled.number,
        messages_exact=found.unsettled.exact,
        leased=found.leased.number,
        leased_exact=found.leased.exact,
        quarantined=found.dead.number,
        quarantined_exact=found.dead.exact,
        oldest_message=optional_timestamp(found.oldest_at),
    )
