"""Signatures against the published vectors and against the libraries that receivers use."""

import base64
from datetime import UTC, datetime

import pytest
import standardwebhooks
import svix
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from triggers.errors import Invalid
from triggers.push.signature import Signer
from triggers.secrets.signing_secrets import (
    AsymmetricSecret,
    SymmetricSecret,
    generate_secret,
    read_secret,
)

MESSAGE = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIMESTAMP = 1614265330
BODY = b'{"test": 2432232314}'
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
WHSK = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
WHPK = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
SEED = "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk="
V1 = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
V1A = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
V1A_SEED = "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag=="


def sign(*secrets: str, body: bytes = BODY) -> str:
    return Signer([read_secret(secret) for secret in secrets]).sign(MESSAGE, TIMESTAMP, body)


@pytest.mark.parametrize(
    ("secrets", "signature"),
    [
        pytest.param([WHSEC], V1, id="v1"),
        pytest.param([WHSK], V1A, id="v1a of seed and public key"),
        pytest.param([SEED], V1A_SEED, id="v1a of a seed"),
        pytest.param([WHSEC, WHSK], f"{V1} {V1A}", id="both, as in the specification's example"),
    ],
)
def test_published_vectors(secrets: list[str], signature: str) -> None:
    assert sign(*secrets) == signature


def test_public_keys() -> None:
    secret = read_secret(WHSK)
    assert isinstance(secret, AsymmetricSecret)
    assert secret.public_text == WHPK
    seed = read_secret(SEED)
    assert isinstance(seed, AsymmetricSecret)
    assert seed.public_text == "whpk_ZlN4eg7dSSqi0moX9hQUk3orrOouK3QVQSlJa248c/g="


@pytest.mark.parametrize("library", [standardwebhooks.Webhook, svix.Webhook])
@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("body", [b"{}", BODY, b'{"n":14.00e2,"s":"\xc3\xa9"}', b'"' + b"x" * 200_000 + b'"'])
def test_receivers_libraries_verify(library: type, position: int, body: bytes) -> None:
    """During a rotation the old and the new secret verify alike, an asymmetric one beside them or not."""
    texts = [generate_secret(), WHSEC]
    signer = Signer([read_secret(text) for text in [*texts, generate_secret("v1a")]])
    headers = dict(signer.headers("0190f3c8", int(datetime.now(UTC).timestamp()), body))
    library(texts[position]).verify(body, headers)
    with pytest.raises(Exception, match=r"(?i)no matching signature"):
        library(texts[position]).verify(body + b" ", headers)
    with pytest.raises(Exception, match=r"(?i)no matching signature"):
        library(generate_secret()).verify(body, headers)


def test_generated_key_pair_verifies() -> None:
    secret = read_secret(generate_secret("v1a"))
    assert isinstance(secret, AsymmetricSecret)
    version, _, signature = Signer([secret]).sign("id", 7, b"body").partition(",")
    assert version == "v1a"
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(secret.public_text.removeprefix("whpk_")))
    public.verify(base64.b64decode(signature), b"id.7.body")


def test_generated_secrets_are_long_and_differ() -> None:
    texts = {generate_secret() for _ in range(100)}
    assert len(texts) == 100
    keys = [read_secret(text) for text in texts]
    assert all(isinstance(key, SymmetricSecret) and len(key.key) == 32 for key in keys)


@pytest.mark.parametrize("length", [24, 32, 63, 64])
def test_every_allowed_length_signs(length: int) -> None:
    text = "whsec_" + base64.b64encode(bytes(range(length))).decode()
    now = int(datetime.now(UTC).timestamp())
    headers = dict(Signer([read_secret(text)]).headers("id", now, b"{}"))
    standardwebhooks.Webhook(text).verify(b"{}", headers)


def test_a_secret_without_padding_is_read() -> None:
    key = base64.b64encode(b"k" * 25).decode()
    assert key.endswith("=")
    assert read_secret("whsec_" + key.rstrip("=")) == read_secret("whsec_" + key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=",
        "WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_",
        "whsec_" + base64.b64encode(b"k" * 23).decode(),
        "whsec_" + base64.b64encode(b"k" * 65).decode(),
        "whsec_" + "A" * 4000,
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa-_",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS\n",
        "whsec_ MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaéé",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwB=",
        "whsk_" + base64.b64encode(b"k" * 31).decode(),
        "whsk_" + base64.b64encode(b"k" * 64).decode(),
    ],
)
def test_bad_secrets_are_refused_and_not_shown(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_secret(text)
    assert len(text) < 8 or text[6:] not in str(caught.value)


def test_stray_bits_are_refused() -> None:
    text = "whsec_" + base64.b64encode(b"k" * 25).decode()
    assert text.endswith("aw==")
    with pytest.raises(Invalid):
        read_secret(text[:-3] + "x==")


def test_secrets_hide_in_logs() -> None:
    assert "MfKQ" not in repr(read_secret(WHSEC))
    assert repr(read_secret(WHSK)) == "AsymmetricSecret(***)"


def test_no_secret_no_signer() -> None:
    with pytest.raises(Invalid):
        Signer([])
