"""Signing secrets of subscriptions, as in Standard Webhooks: made, read and shown. Pure.

whsec_ + base64 of 24 to 64 random bytes        HMAC-SHA256, scheme v1
whsk_  + base64 of seed, or of seed and public  ed25519, scheme v1a
whpk_  + base64 of the 32-byte public key       what receivers of v1a verify with
"""

import binascii
import secrets
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from triggers.errors import Invalid

SYMMETRIC_PREFIX: Final = "whsec_"
PRIVATE_PREFIX: Final = "whsk_"
PUBLIC_PREFIX: Final = "whpk_"
SYMMETRIC_LENGTHS: Final = range(24, 65)
_GENERATED_LENGTH: Final = 32
_SEED_LENGTH: Final = 32
_TEXT_LIMIT: Final = 128

Scheme: TypeAlias = Literal["v1", "v1a"]


class SymmetricSecret(Struct, frozen=True):
    """Key of scheme v1."""

    key: bytes

    def __repr__(self) -> str:
        return "SymmetricSecret(***)"


class AsymmetricSecret(Struct, frozen=True):
    """Key pair of scheme v1a."""

    seed: bytes
    public: bytes

    def __repr__(self) -> str:
        return "AsymmetricSecret(***)"

    @property
    def public_text(self) -> str:
        """The `whpk_…` that receivers verify with."""
        return PUBLIC_PREFIX + _base64(self.public)


SigningSecret: TypeAlias = SymmetricSecret | AsymmetricSecret


def generate_secret(scheme: Scheme = "v1") -> str:
    """A new secret in its text form."""
    if scheme == "v1":
        return SYMMETRIC_PREFIX + _base64(secrets.token_bytes(_GENERATED_LENGTH))
    seed = secrets.token_bytes(_SEED_LENGTH)
    # Seed and public key together: the form that Svix writes and every verifier reads.
    return PRIVATE_PREFIX + _base64(seed + _public_of(seed))


def read_secret(text: str) -> SigningSecret:
    """Reads a secret that a user gave or that was stored; raises Invalid, never showing the secret."""
    if text.startswith(SYMMETRIC_PREFIX):
        key = _decode(text.removeprefix(SYMMETRIC_PREFIX))
        if len(key) not in SYMMETRIC_LENGTHS:
            raise Invalid("A whsec_ secret must be 24 to 64 bytes in base64.")
        return SymmetricSecret(key)
    if text.startswith(PRIVATE_PREFIX):
        key = _decode(text.removeprefix(PRIVATE_PREFIX))
        if len(key) not in {_SEED_LENGTH, 2 * _SEED_LENGTH}:
            raise Invalid("A whsk_ secret must be a 32-byte seed, or a seed and its public key, in base64.")
        seed, given = key[:_SEED_LENGTH], key[_SEED_LENGTH:]
        public = _public_of(seed)
        if given and given != public:
            raise Invalid("The public key in the whsk_ secret does not belong to its seed.")
        return AsymmetricSecret(seed, public)
    raise Invalid("A signing secret must begin with whsec_ (HMAC-SHA256) or whsk_ (ed25519).")


def _public_of(seed: bytes) -> bytes:
    # Commands that sign only with HMAC should not have to load this library.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()


def _decode(text: str) -> bytes:
    # Some libraries hand out secrets without padding.
    if len(text) > _TEXT_LIMIT:
        raise Invalid("The signing secret is too long.")
    padded = text + "=" * (-len(text) % 4)
    try:
        data = binascii.a2b_base64(padded, strict_mode=True)
    except ValueError:
        raise Invalid("The signing secret is not base64 after its prefix.") from None
    # Stray bits after the last byte would let two texts mean one secret.
    if _base64(data) != padded:
        raise Invalid("The signing secret is not canonical base64.")
    return data
