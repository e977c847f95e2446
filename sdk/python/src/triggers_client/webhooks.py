"""Verifies webhooks, which are signed as Standard Webhooks says. Without I/O."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Protocol

from triggers_client.errors import ExtraMissing, VerificationFailed
from triggers_client.json_text import read_json

TOLERANCE_SECONDS = 300
_MOST_SIGNATURES = 20
_STANDARD = {"id", "type", "timestamp", "data"}
_CLOUD_EVENTS = "application/cloudevents+json"

Check = Callable[[bytes, bytes], bool]


class Headers(Protocol):
    """The headers of a request, such as a dict or the object of a framework."""

    def items(self) -> Iterable[tuple[str, str]]:
        """The names, in upper or lower case, with their values."""


@dataclass(frozen=True)
class Webhook:
    """A webhook whose signature is right. `type` is None in the format `raw`, where `data` is the body."""

    id: str
    type: str | None
    data: Any = field(repr=False)
    sent_at: datetime
    subscription: str
    generation: str
    body: bytes = field(repr=False)

    @property
    def key(self) -> str:
        """The same for all attempts of one delivery, and another one for each replay and subscription.

        The signature covers only the id. Use the rest for nothing but deduplication.
        """
        return f"{self.id}.{self.subscription}.{self.generation}"


def verify(
    headers: Headers, body: bytes, secrets: str | Sequence[str], *, now: float | None = None
) -> Webhook:
    """Return the webhook if one of the secrets signed it within the last five minutes.

    `secrets` begin with `whsec_`, or with `whpk_` for the public key of a subscription that signs with
    `v1a`. While a secret is rotated, give the old and the new one.

    Raises:
        VerificationFailed: it was not signed with one of them, or long ago.
        ExtraMissing: a `whpk_` key is given, and the extra `ed25519` is not installed.
        ValueError: a secret is malformed, or there is none. The message does not show it.
    """
    if not isinstance(body, (bytes, bytearray, memoryview)):
        raise TypeError("The body must be the bytes as they arrived, before anything decodes them.")
    body = bytes(body)
    checks = [_check_of(secret) for secret in ([secrets] if isinstance(secrets, str) else secrets)]
    if not checks:
        raise ValueError("verify needs at least one secret.")
    given = {name.lower(): value for name, value in headers.items()}
    webhook_id, timestamp, signatures = _signed(given)
    seconds = _seconds(timestamp)
    if abs((time.time() if now is None else now) - seconds) > TOLERANCE_SECONDS:
        raise VerificationFailed("The webhook was signed more than five minutes ago, or a clock is wrong.")
    text = f"{webhook_id}.{timestamp}.".encode() + body
    if not any(
        scheme == wanted and check(text, signature)
        for scheme, signature in _decoded(signatures)
        for wanted, check in checks
    ):
        raise VerificationFailed("No signature of the webhook belongs to one of the secrets.")
    return _webhook(webhook_id, seconds, given, body)


def _signed(headers: Mapping[str, str]) -> tuple[str, str, str]:
    try:
        return headers["webhook-id"], headers["webhook-timestamp"], headers["webhook-signature"]
    except KeyError as error:
        raise VerificationFailed(f"The header {error.args[0]} is missing.") from None


def _seconds(timestamp: str) -> int:
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise VerificationFailed("The header webhook-timestamp is not a number of seconds.")
    return int(timestamp)


def _decoded(signatures: str) -> list[tuple[str, bytes]]:
    """The scheme and the bytes of each signature. A stranger may send many, so only some are looked at."""
    found = []
    for each in signatures.split(" ", _MOST_SIGNATURES)[:_MOST_SIGNATURES]:
        scheme, _, text = each.partition(",")
        try:
            found.append((scheme, base64.b64decode(text, validate=True)))
        except (ValueError, binascii.Error):
            continue
    return found


def _check_of(secret: str) -> tuple[str, Check]:
    """The scheme that a secret is for, and the function that checks a text and its signature."""
    if secret.startswith("whpk_"):
        return "v1a", _ed25519_check(_key(secret.removeprefix("whpk_")))
    if secret.startswith("whsk_"):
        raise ValueError("whsk_ is the secret that signs. A receiver needs the public key, whpk_.")
    key = _key(secret.removeprefix("whsec_"))
    return "v1", lambda text, signature: hmac.compare_digest(
        hmac.digest(key, text, hashlib.sha256), signature
    )


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if not key:
        raise ValueError("A secret must be whsec_ or whpk_ and base64.")
    return key


def _ed25519_check(key: bytes) -> Check:
    try:
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    except ImportError:
        raise ExtraMissing(
            "A whpk_ key needs the extra `ed25519`: pip install 'triggers-client[ed25519]'"
        ) from None
    public = Ed25519PublicKey.from_public_bytes(key)

    def check(text: bytes, signature: bytes) -> bool:
        try:
            public.verify(signature, text)
        except InvalidSignature:
            return False
        return True

    return check


def _webhook(webhook_id: str, seconds: int, headers: Mapping[str, str], body: bytes) -> Webhook:
    try:
        found = read_json(body)
    except ValueError:
        raise VerificationFailed("The body of the webhook is not JSON.") from None
    kind, data = _type_and_data(webhook_id, found, headers.get("content-type", ""))
    return Webhook(
        id=webhook_id,
        type=kind,
        data=data,
        sent_at=datetime.fromtimestamp(seconds, timezone.utc),
        subscription=headers.get("triggers-subscription", ""),
        generation=headers.get("triggers-generation", ""),
        body=body,
    )


def _type_and_data(webhook_id: str, found: Any, content_type: str) -> tuple[str | None, Any]:
    """The formats `standard` and `cloudevents` name the type. Otherwise the body is the payload."""
    if not isinstance(found, dict) or found.get("id") != webhook_id:
        return None, found
    if content_type.startswith(_CLOUD_EVENTS) or found.keys() == _STANDARD:
        return found.get("type"), found.get("data")
    return None, found
