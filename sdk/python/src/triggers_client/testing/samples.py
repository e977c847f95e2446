"""Webhooks as the service would send them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

_SEED_BYTES = 32


@dataclass(frozen=True)
class Sample:
    """A signed request for a receiver."""

    headers: dict[str, str]
    body: bytes


def new_secret() -> str:
    """A secret as `whsec_…`."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def signed_sample(
    secret: str | Sequence[str],
    type: str = "order.created",  # noqa: A002 - the name that the field has everywhere
    data: Any = None,
    *,
    webhook_id: str | None = None,
    sent_at: float | None = None,
) -> Sample:
    """A delivery in the format `standard`, signed with each of the secrets (`whsec_…` or `whsk_…`).

    `sent_at`: seconds since 1970; now by default. Change the headers or the body to test what is refused.
    """
    seconds = int(time.time() if sent_at is None else sent_at)
    name = webhook_id or str(uuid.uuid4())
    when = datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")
    content = {"id": name, "type": type, "timestamp": when.replace("+00:00", "Z"), "data": data}
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    signed = f"{name}.{seconds}.".encode() + body
    keys = [secret] if isinstance(secret, str) else secret
    headers = {
        "content-type": "application/json",
        "webhook-id": name,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(_signature(key, signed) for key in keys),
        "triggers-subscription": str(uuid.UUID(int=0)),
        "triggers-generation": "0",
    }
    return Sample(headers, body)


def _signature(secret: str, signed: bytes) -> str:
    if secret.startswith("whsk_"):
        # An extra: cryptography.
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

        seed = base64.b64decode(secret.removeprefix("whsk_"))[:_SEED_BYTES]
        return "v1a," + base64.b64encode(Ed25519PrivateKey.from_private_bytes(seed).sign(signed)).decode()
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
