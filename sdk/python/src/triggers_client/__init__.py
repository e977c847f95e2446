"""The Python client of Triggers: send events, consume inboxes, receive webhooks."""

from __future__ import annotations

from triggers_client._async.client import AsyncTriggers
from triggers_client._sync.client import Triggers
from triggers_client.consuming.async_consumer import AsyncConsumer
from triggers_client.consuming.message import Message
from triggers_client.consuming.sync_consumer import Consumer
from triggers_client.errors import (
    ConnectionFailed,
    ExtraMissing,
    OutcomeUnknown,
    RateLimited,
    Refused,
    TriggersError,
    Unavailable,
    VerificationFailed,
)
from triggers_client.reports import SendReport, SentItem
from triggers_client.webhooks import Webhook, verify

__version__ = "0.1.0"

__all__ = [
    "AsyncConsumer",
    "AsyncTriggers",
    "ConnectionFailed",
    "Consumer",
    "ExtraMissing",
    "Message",
    "OutcomeUnknown",
    "RateLimited",
    "Refused",
    "SendReport",
    "SentItem",
    "Triggers",
    "TriggersError",
    "Unavailable",
    "VerificationFailed",
    "Webhook",
    "verify",
]
