"""Standard Webhooks signatures over the exact bytes that are sent. Pure.

The signed text is `{webhook-id}.{webhook-timestamp}.{body}`. Every current secret of a subscription adds one
signature, so a receiver verifies with the old or the new one while a secret is rotated.
"""

import binascii
import hashlib
from collections.abc import Sequence
from typing import Protocol

from triggers.errors import Invalid
from triggers.secrets.signing_secrets import AsymmetricSecret, SigningSecret, SymmetricSecret

_BLOCK = hashlib.sha256().block_size
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))


class _Key(Protocol):
    def sign(self, prefix: bytes, body: bytes) -> str: ...


class Signer:
    """Signs for one subscription. It is kept until the secrets change, because preparing the keys is slow."""

    __slots__ = ("_keys",)

    def __init__(self, secrets: Sequence[SigningSecret]) -> None:
        """`secrets`: the current one first, then those still valid after a rotation."""
        if not secrets:
            raise Invalid("A subscription is signed with at least one secret.")
        self._keys: list[_Key] = [_key_of(secret) for secret in secrets]

    def sign(self, message_id: str, timestamp: int, body: bytes) -> str:
        """The value of `webhook-signature`. `message_id` must not contain a full stop."""
        prefix = f"{message_id}.{timestamp}.".encode()
        keys = self._keys
        if len(keys) == 1:
            return keys[0].sign(prefix, body)
        return " ".join([key.sign(prefix, body) for key in keys])

    def headers(self, message_id: str, timestamp: int, body: bytes) -> list[tuple[str, str]]:
        """The three headers of an attempt."""
        return [
            ("webhook-id", message_id),
            ("webhook-timestamp", str(timestamp)),
            ("webhook-signature", self.sign(message_id, timestamp, body)),
        ]


class _HmacKey:
    """HMAC-SHA256 from two prepared hashes: `hmac` takes about twice as long for a small body."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        padded = key.ljust(_BLOCK, b"\0")  # a key is at most 64 bytes, so it is never hashed first
        self._inner = hashlib.sha256(padded.translate(_INNER))
        self._outer = hashlib.sha256(padded.translate(_OUTER))

    def sign(self, prefix: bytes, body: bytes) -> str:
        inner = self._inner.copy()
        inner.update(prefix)
        inner.update(body)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return "v1," + binascii.b2a_base64(outer.digest(), newline=False).decode()


class _Ed25519Key:
    __slots__ = ("_private",)

    def __init__(self, seed: bytes) -> None:
        # Commands that sign only with HMAC should not have to load this library.
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

        self._private = Ed25519PrivateKey.from_private_bytes(seed)

    def sign(self, prefix: bytes, body: bytes) -> str:
        return "v1a," + binascii.b2a_base64(self._private.sign(prefix + body), newline=False).decode()


def _key_of(secret: SigningSecret) -> _Key:
    match secret:
        case SymmetricSecret(key=key):
            return _HmacKey(key)
        case AsymmetricSecret(seed=seed):
            return _Ed25519Key(seed)
