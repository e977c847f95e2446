"""The keys that encrypt what must be readable again: subscription secrets and header values.

A sealed value is

    format (1 byte, 0x02) · key id (4 bytes) · nonce (12 bytes) · AES-256-GCM ciphertext and tag

and is bound to its organisation, its subscription and its purpose: it cannot be decrypted in another row or
column. The associated data of AES-GCM is the format, the key id, the two ids and the purpose. Values of
format 1, which are not bound to a purpose, are still read. The first key of a ring encrypts, all of them
decrypt. To rotate, put a new key in front, re-encrypt every value that is not `is_current`, then drop the old
key.

96-bit nonces are random: a key is good for 2^32 sealed values (NIST SP 800-38D), which no node comes near.
"""

import base64
import binascii
import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal, TypeAlias
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from triggers.errors import KeyMissing, SealBroken, SettingsError

SETTING: Final = "TRIGGERS_SECRET_KEYS"
KEY_BYTES: Final = 32
_MAX_FILE_BYTES: Final = 64 * 1024
_WITHOUT_PURPOSE: Final = b"\x01"
_FORMAT: Final = b"\x02"
_ID_BYTES: Final = 4
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_HEADER_BYTES: Final = len(_FORMAT) + _ID_BYTES + _NONCE_BYTES

Purpose: TypeAlias = Literal["secrets", "headers"]
"""The purpose of a sealed value: it holds the signing secrets of a subscription, or its own headers."""


class KeyRing:
    """Keys by id; the first one encrypts."""

    __slots__ = ("_ciphers", "_current_id")

    def __init__(self, keys: Iterable[bytes]) -> None:
        """Raises SettingsError unless these are different keys of 32 bytes, at least one."""
        self._ciphers: dict[bytes, AESGCM] = {}
        for position, key in enumerate(keys, start=1):
            if len(key) != KEY_BYTES:
                raise SettingsError(
                    f"Key {position} of the key ring has {len(key)} bytes, but must have {KEY_BYTES}."
                )
            key_id = _key_id(key)
            if key_id in self._ciphers:
                raise SettingsError(f"Key {position} of the key ring ({key_id.hex()}) occurs twice.")
            self._ciphers[key_id] = AESGCM(key)
        if not self._ciphers:
            raise SettingsError("The key ring contains no key.")
        self._current_id = next(iter(self._ciphers))

    @classmethod
    def from_setting(cls, text: str) -> "KeyRing":
        """From comma-separated keys in base64, standard or URL-safe, with or without padding.

        Raises SettingsError, which names a key by its place and never repeats it.
        """
        if not text.strip():
            raise SettingsError(f"{SETTING} is empty. `openssl rand -base64 32` makes a key.")
        return cls([_decoded(part, position) for position, part in enumerate(text.split(","), start=1)])

    @classmethod
    def from_file(cls, path: Path, *, create: bool = True) -> "KeyRing":
        """Read a key ring from a file with keys as in the setting. `create`: make a missing file.

        Without this file, the secrets that it encrypted are lost, so back it up with the database.
        """
        try:
            return cls.from_setting(_read_private(path))
        except FileNotFoundError:
            if not create:
                raise SettingsError(f"The key file {path} does not exist.") from None
        _create_private(path, base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
        return cls.from_setting(_read_private(path))  # perhaps another process's, if that was first

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self.key_ids)})"

    def __reduce__(self) -> str:
        raise TypeError("A key ring is not to be copied or stored.")

    @property
    def key_ids(self) -> tuple[str, ...]:
        """In the order of the ring, in hex. An id is the start of a hash: it tells nothing about the key."""
        return tuple(key_id.hex() for key_id in self._ciphers)

    def encrypt(self, plaintext: bytes, *, org: UUID, subscription: UUID, purpose: Purpose) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        header = _FORMAT + self._current_id
        bound_to = _bound_to(header, org, subscription, purpose)
        return header + nonce + self._ciphers[self._current_id].encrypt(nonce, plaintext, bound_to)

    def decrypt(self, sealed: bytes, *, org: UUID, subscription: UUID, purpose: Purpose) -> bytes:
        """Raises KeyMissing with the id of the key to bring back, or SealBroken."""
        key_id = _key_id_of(sealed)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise KeyMissing(
                f"A stored secret was encrypted with key {key_id.hex()}, which is not in the key ring "
                f"({', '.join(self.key_ids)}). Add it to {SETTING} again, after the first key.",
                key_id=key_id.hex(),
            )
        header, nonce = sealed[: 1 + _ID_BYTES], sealed[1 + _ID_BYTES : _HEADER_BYTES]
        try:
            bound_to = _bound_to(header, org, subscription, purpose)
            return cipher.decrypt(nonce, sealed[_HEADER_BYTES:], bound_to)
        except InvalidTag:
            raise SealBroken(org=str(org), subscription=str(subscription)) from None

    def is_current(self, sealed: bytes) -> bool:
        """Whether it was encrypted with the first key, in the newest format. If not, rotation must re-encrypt
        it."""
        return _key_id_of(sealed) == self._current_id and sealed.startswith(_FORMAT)


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()[:_ID_BYTES]


def _key_id_of(sealed: bytes) -> bytes:
    if len(sealed) < _HEADER_BYTES + _TAG_BYTES:
        raise SealBroken(f"A stored secret has {len(sealed)} bytes, which is too short.")
    if not sealed.startswith((_WITHOUT_PURPOSE, _FORMAT)):
        raise SealBroken(f"A stored secret has the format {sealed[0]}, which this version does not know.")
    return sealed[1 : 1 + _ID_BYTES]


def _bound_to(header: bytes, org: UUID, subscription: UUID, purpose: Purpose) -> bytes:
    place = header + org.bytes + subscription.bytes
    return place if header.startswith(_WITHOUT_PURPOSE) else place + purpose.encode()


def _decoded(part: str, position: int) -> bytes:
    standard = part.strip().translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise SettingsError(f"Key {position} of the key ring is not valid base64.") from None


def _read_private(path: Path) -> str:
    """Raises FileNotFoundError, and SettingsError when others could read the file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SettingsError(f"The key file {path} cannot be read: {error.strerror}.") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SettingsError(f"The key file {path} is not a regular file.")
        if status.st_uid != os.geteuid():
            raise SettingsError(
                f"The key file {path} belongs to user {status.st_uid}, not to the user of this process."
            )
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            mode = stat.S_IMODE(status.st_mode)
            raise SettingsError(
                f"The key file {path} can be read by other users (mode {mode:04o}). Run `chmod 600` on it."
            )
        content = os.read(descriptor, _MAX_FILE_BYTES)
    finally:
        os.close(descriptor)
    try:
        return content.decode("ascii")
    except UnicodeDecodeError:
        raise SettingsError(f"The key file {path} does not hold base64 text.") from None


def _create_private(path: Path, content: bytes) -> None:
    """All of the file or none of it, whenever the process dies; an existing file is left as it is.

    It is written and synced under a name of its own and then linked, which, unlike a rename, never replaces:
    of two processes that start together both use the key of the first.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
            os.fchmod(file.fileno(), 0o600)  # a umask may have taken our own right to read
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        _sync_directory(path.parent)
    except OSError as error:
        raise SettingsError(f"The key file {path} cannot be created: {error.strerror}.") from None
    finally:
        draft.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
