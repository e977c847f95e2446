"""Secrets at rest: what is sealed opens only in its place, and the key file is whole or absent."""

import base64
import contextlib
import copy
import os
import pickle
import signal
import stat
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggers.errors import KeyMissing, SealBroken, SettingsError
from triggers.secrets.key_ring import KeyRing

ORG = UUID("01900000-0000-7000-8000-000000000001")
SUBSCRIPTION = UUID("01900000-0000-7000-8000-000000000002")
OLD, NEW = bytes(range(32)), bytes(range(32, 64))
OLD_ID = "630dcd29"  # sha256 of bytes 0…31, first four
keys = st.binary(min_size=32, max_size=32)


def in_base64(*ring: bytes) -> str:
    return ",".join(base64.b64encode(key).decode() for key in ring)


def sealed_by(ring: KeyRing, plaintext: bytes = b"whsec_x") -> bytes:
    return ring.encrypt(plaintext, org=ORG, subscription=SUBSCRIPTION, purpose="secrets")


def opened_by(ring: KeyRing, sealed: bytes) -> bytes:
    return ring.decrypt(sealed, org=ORG, subscription=SUBSCRIPTION, purpose="secrets")


# --- sealing -----------------------------------------------------------------------------------------------


@given(st.binary(max_size=500), st.uuids(), st.uuids(), st.lists(keys, min_size=1, max_size=4, unique=True))
def test_what_is_sealed_opens_in_its_place(
    plaintext: bytes, org: UUID, subscription: UUID, ring_keys: list[bytes]
) -> None:
    ring = KeyRing(ring_keys)
    sealed = ring.encrypt(plaintext, org=org, subscription=subscription, purpose="headers")
    assert ring.decrypt(sealed, org=org, subscription=subscription, purpose="headers") == plaintext
    assert ring.is_current(sealed)
    assert len(sealed) == 1 + 4 + 12 + len(plaintext) + 16


def test_the_format_is_the_documented_one() -> None:
    """Made with the primitive itself, so that a change of format cannot pass unseen."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    header, nonce = b"\x02" + bytes.fromhex(OLD_ID), bytes(range(12))
    bound_to = header + ORG.bytes + SUBSCRIPTION.bytes + b"secrets"
    sealed = header + nonce + AESGCM(OLD).encrypt(nonce, b"whsec_x", bound_to)
    assert opened_by(KeyRing([OLD]), sealed) == b"whsec_x"
    assert sealed_by(KeyRing([OLD]))[:5] == header


def in_format_1(plaintext: bytes) -> bytes:
    """Encrypt like earlier versions, which did not bind a value to a purpose."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    header, nonce = b"\x01" + bytes.fromhex(OLD_ID), bytes(range(12))
    bound_to = header + ORG.bytes + SUBSCRIPTION.bytes
    return header + nonce + AESGCM(OLD).encrypt(nonce, plaintext, bound_to)


def test_format_1_is_read_and_is_not_current() -> None:
    ring, sealed = KeyRing([OLD]), in_format_1(b"whsec_x")
    assert opened_by(ring, sealed) == b"whsec_x"
    assert not ring.is_current(sealed)
    assert ring.is_current(sealed_by(ring))


def test_a_value_moved_to_another_column_does_not_open() -> None:
    """Otherwise, a person with the database but without a key could turn known headers into secrets."""
    ring = KeyRing([OLD])
    headers = ring.encrypt(b"{}", org=ORG, subscription=SUBSCRIPTION, purpose="headers")
    with pytest.raises(SealBroken):
        opened_by(ring, headers)
    with pytest.raises(SealBroken):
        opened_by(ring, b"\x01" + headers[1:])


@given(st.data())
def test_no_changed_byte_opens(data: st.DataObject) -> None:
    ring = KeyRing([OLD])
    sealed = bytearray(sealed_by(ring))
    position = data.draw(st.integers(0, len(sealed) - 1))
    sealed[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises((SealBroken, KeyMissing)):
        opened_by(ring, bytes(sealed))


@pytest.mark.parametrize("length", range(34))
def test_no_shortened_value_opens(length: int) -> None:
    ring = KeyRing([OLD])
    with pytest.raises(SealBroken):
        opened_by(ring, sealed_by(ring)[:length])


@given(st.uuids(), st.uuids())
def test_a_value_moved_to_another_row_does_not_open(org: UUID, subscription: UUID) -> None:
    if (org, subscription) == (ORG, SUBSCRIPTION):
        return
    ring = KeyRing([OLD])
    with pytest.raises(SealBroken) as caught:
        ring.decrypt(sealed_by(ring), org=org, subscription=subscription, purpose="secrets")
    assert caught.value.__suppress_context__


def test_organisation_and_subscription_are_not_interchangeable() -> None:
    ring = KeyRing([OLD])
    with pytest.raises(SealBroken):
        ring.decrypt(sealed_by(ring), org=SUBSCRIPTION, subscription=ORG, purpose="secrets")


def test_the_same_text_is_never_sealed_the_same_way() -> None:
    ring = KeyRing([OLD])
    sealed = {sealed_by(ring) for _ in range(1000)}
    assert len({value[5:17] for value in sealed}) == len({value[17:] for value in sealed}) == 1000


def test_an_unknown_format_is_named() -> None:
    ring = KeyRing([OLD])
    with pytest.raises(SealBroken, match="format 3"):
        opened_by(ring, b"\x03" + sealed_by(ring)[1:])


# --- rotation ----------------------------------------------------------------------------------------------


def test_rotation_reads_the_old_key_and_writes_the_new() -> None:
    old, both, new = KeyRing([OLD]), KeyRing([NEW, OLD]), KeyRing([NEW])
    sealed = sealed_by(old)
    assert not both.is_current(sealed)
    again = sealed_by(both, opened_by(both, sealed))
    assert both.is_current(again)
    assert opened_by(new, again) == b"whsec_x"


def test_a_missing_key_is_named_by_its_id() -> None:
    with pytest.raises(KeyMissing, match=OLD_ID) as caught:
        opened_by(KeyRing([NEW]), sealed_by(KeyRing([OLD])))
    assert caught.value.facts == {"key_id": OLD_ID}
    assert_tells_no_key(str(caught.value), OLD, NEW)


def test_is_current_needs_no_key() -> None:
    assert not KeyRing([NEW]).is_current(sealed_by(KeyRing([OLD])))
    with pytest.raises(SealBroken):
        KeyRing([NEW]).is_current(b"short")


# --- settings ----------------------------------------------------------------------------------------------


def assert_tells_no_key(text: str, *ring: bytes) -> None:
    for key in ring:
        for written in (key.hex(), repr(key)[2:-1], base64.b64encode(key).decode(), str(list(key))):
            assert written[:12] not in text


@given(st.lists(keys, min_size=1, max_size=4, unique=True), st.booleans(), st.booleans(), st.booleans())
def test_keys_are_read_in_every_spelling(
    ring_keys: list[bytes], url_safe: bool, padded: bool, spaced: bool
) -> None:
    encode = base64.urlsafe_b64encode if url_safe else base64.b64encode
    parts = [encode(key).decode() for key in ring_keys]
    text = (" , " if spaced else ",").join(part if padded else part.rstrip("=") for part in parts)
    assert KeyRing.from_setting(f"{text}\n" if spaced else text).key_ids == KeyRing(ring_keys).key_ids


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("  \n", "is empty"),
        (in_base64(OLD) + ",", "Key 2 of the key ring has 0 bytes"),
        (in_base64(OLD, NEW, OLD), f"Key 3 of the key ring .{OLD_ID}. occurs twice"),
        (in_base64(OLD[:31]), "Key 1 of the key ring has 31 bytes, but must have 32"),
        (in_base64(OLD, OLD + b"x"), "Key 2 of the key ring has 33 bytes"),
        (in_base64(OLD) + ",not base64!", "Key 2 of the key ring is not valid base64"),
        ("é" * 43, "Key 1 of the key ring is not valid base64"),
        ("A" * 41, "Key 1 of the key ring is not valid base64"),
        (in_base64(OLD).replace("A", "A A", 1), "not valid base64"),
        (OLD.hex(), "has 48 bytes"),
    ],
)
def test_a_bad_setting_is_refused_by_the_place_of_the_key(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        KeyRing.from_setting(text)
    assert_tells_no_key(str(caught.value), OLD, NEW)


@given(st.text(max_size=120))
def test_any_text_is_a_ring_or_a_settings_error(text: str) -> None:
    with contextlib.suppress(SettingsError):
        KeyRing.from_setting(text)


def test_a_ring_needs_a_key() -> None:
    with pytest.raises(SettingsError):
        KeyRing([])


@given(st.lists(keys, min_size=1, max_size=3, unique=True))
def test_a_ring_shows_ids_and_never_keys(ring_keys: list[bytes]) -> None:
    ring = KeyRing(ring_keys)
    assert repr(ring) == str(ring) == f"KeyRing({', '.join(ring.key_ids)})"


def test_a_ring_is_not_to_be_copied_or_stored() -> None:
    for take in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            take(KeyRing([OLD]))


# --- the key file ------------------------------------------------------------------------------------------


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "secret_keys"


def test_the_first_run_makes_a_private_file_and_the_next_reads_it(key_file: Path) -> None:
    first = KeyRing.from_file(key_file)
    content = key_file.read_bytes()
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert [path.name for path in key_file.parent.iterdir()] == [key_file.name]
    assert opened_by(KeyRing.from_file(key_file), sealed_by(first)) == b"whsec_x"
    assert opened_by(KeyRing.from_setting(content.decode()), sealed_by(first)) == b"whsec_x"
    assert key_file.read_bytes() == content


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o777])
def test_the_file_is_private_whatever_the_umask(key_file: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        KeyRing.from_file(key_file)
    finally:
        os.umask(before)
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600


def test_every_file_has_its_own_key(tmp_path: Path) -> None:
    assert KeyRing.from_file(tmp_path / "a").key_ids != KeyRing.from_file(tmp_path / "b").key_ids


def test_a_key_put_in_front_rotates(key_file: Path) -> None:
    sealed = sealed_by(KeyRing.from_file(key_file))
    key_file.write_text(in_base64(NEW) + "," + key_file.read_text())
    both = KeyRing.from_file(key_file)
    assert opened_by(both, sealed) == b"whsec_x"
    assert not both.is_current(sealed)


def test_a_missing_file_is_not_made_unless_asked(key_file: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        KeyRing.from_file(key_file, create=False)
    assert not key_file.exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o666, 0o777])
def test_a_file_open_to_others_is_refused(key_file: Path, mode: int) -> None:
    KeyRing.from_file(key_file)
    key_file.chmod(mode)
    with pytest.raises(SettingsError, match=f"mode {mode:04o}"):
        KeyRing.from_file(key_file)


def test_a_file_of_another_user_is_refused(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    KeyRing.from_file(key_file)
    stranger = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: stranger)
    with pytest.raises(SettingsError, match="belongs to user"):
        KeyRing.from_file(key_file)


@pytest.mark.parametrize("content", [b"", b"\n", b"AAAA", b"\xff" * 44, b"!" * 44])
def test_a_damaged_file_is_refused_and_left_alone(key_file: Path, content: bytes) -> None:
    """A new key in its place would lock out everything that was sealed before."""
    key_file.touch(0o600)
    key_file.write_bytes(content)
    with pytest.raises(SettingsError):
        KeyRing.from_file(key_file)
    assert key_file.read_bytes() == content


def test_only_a_regular_file_of_that_name_is_read(key_file: Path, tmp_path: Path) -> None:
    KeyRing.from_file(tmp_path / "elsewhere")
    key_file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingsError):
        KeyRing.from_file(key_file)
    key_file.unlink()
    key_file.mkdir(mode=0o700)
    with pytest.raises(SettingsError, match="not a regular file"):
        KeyRing.from_file(key_file)
    key_file.rmdir()
    os.mkfifo(key_file, 0o600)
    with pytest.raises(SettingsError, match="not a regular file"):
        KeyRing.from_file(key_file)


def test_a_directory_that_is_missing_is_a_settings_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be created"):
        KeyRing.from_file(tmp_path / "missing" / "keys")


def test_processes_that_start_together_agree_on_the_key(tmp_path: Path) -> None:
    together = 8
    with ThreadPoolExecutor(together) as pool:
        for turn in range(20):
            barrier = Barrier(together)

            def start(path: Path = tmp_path / f"{turn}", barrier: Barrier = barrier) -> tuple[str, ...]:
                barrier.wait()
                return KeyRing.from_file(path).key_ids

            assert len({future.result() for future in [pool.submit(start) for _ in range(together)]}) == 1
    assert len(list(tmp_path.iterdir())) == 20


STEPS = [
    ("os.open", 2),  # the first looks for the file
    ("os.fdopen", 1),
    ("os.fchmod", 1),
    ("os.fsync", 1),
    ("os.link", 1),
    ("pathlib.Path.unlink", 1),
    ("os.fsync", 2),
]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(("call", "turn"), STEPS)
def test_a_kill_at_any_step_leaves_a_whole_file_or_none(
    key_file: Path, call: str, turn: int, moment: str
) -> None:
    dying = textwrap.dedent(f"""
        import os, pathlib, signal, sys
        from triggers.secrets.key_ring import KeyRing
        real, turns = {call}, 0
        def deadly(*args, **kwargs):
            global turns
            turns += 1
            if turns == {turn} and {moment == "before"}:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*args, **kwargs)
            if turns == {turn}:
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        {call} = deadly
        KeyRing.from_file(pathlib.Path(sys.argv[1]))
    """)
    died = subprocess.run([sys.executable, "-c", dying, str(key_file)], check=False)
    assert died.returncode == -signal.SIGKILL
    left = key_file.read_text() if key_file.exists() else None
    ring = KeyRing.from_file(key_file)
    if left is not None:
        assert ring.key_ids == KeyRing.from_setting(left).key_ids
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    for draft in key_file.parent.iterdir():
        assert stat.S_IMODE(draft.stat().st_mode) == 0o600


def test_no_space_left_is_a_settings_error_and_leaves_nothing(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SettingsError, match="No space left"):
        KeyRing.from_file(key_file)
    assert list(key_file.parent.iterdir()) == []
