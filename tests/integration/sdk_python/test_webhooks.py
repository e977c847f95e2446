"""Webhooks are verified as the service signs them, and receivers of frameworks handle each once."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import django
import fastapi
import flask
import httpx
import pytest
from django.conf import settings
from starlette.applications import Starlette

from triggers.push.signature import Signer
from triggers.secrets.signing_secrets import AsymmetricSecret, generate_secret, read_secret
from triggers_client import ExtraMissing, VerificationFailed, Webhook, verify
from triggers_client.receivers.seen import SeenInMemory
from triggers_client.testing import new_secret, signed_sample

BODY = b'{"id":"e","type":"order.paid","timestamp":"2026-01-01T00:00:00.000Z","data":{"n":1}}'


def signed_by_the_service(*secrets: str, body: bytes = BODY, at: float | None = None) -> dict[str, str]:
    """The headers of an attempt, made by the code that push uses."""
    signer = Signer([read_secret(secret) for secret in secrets])
    headers = dict(signer.headers("e", int(at or time.time()), body))
    return {**headers, "triggers-subscription": "s", "triggers-generation": "0"}


def public(secret: str) -> str:
    found = read_secret(secret)
    assert isinstance(found, AsymmetricSecret)
    return found.public_text


def test_what_the_service_signs_is_verified() -> None:
    old, new, other = generate_secret(), generate_secret(), generate_secret()
    headers = signed_by_the_service(new, old)
    for secrets in (old, new, [other, new], [old]):
        webhook = verify({name.title(): value for name, value in headers.items()}, BODY, secrets)
        assert (webhook.id, webhook.type, webhook.data) == ("e", "order.paid", {"n": 1})
        assert webhook.key == "e.s.0"
    with pytest.raises(VerificationFailed):
        verify(headers, BODY, other)
    with pytest.raises(ValueError, match="at least one secret"):
        verify(headers, BODY, [])
    with pytest.raises(VerificationFailed):
        verify(headers, BODY + b" ", new)


def test_a_number_with_any_number_of_digits_is_read() -> None:
    secret = generate_secret()
    body = BODY.replace(b'{"n":1}', b'{"n":%s}' % (b"9" * 5_000))
    assert body != BODY
    webhook = verify(signed_by_the_service(secret, body=body), body, secret)
    assert webhook.data == {"n": Decimal("9" * 5_000)}


def test_ed25519() -> None:
    secret = generate_secret("v1a")
    headers = signed_by_the_service(secret)
    assert verify(headers, BODY, public(secret)).id == "e"
    assert verify(headers, BODY, [generate_secret(), public(secret)]).id == "e"
    with pytest.raises(VerificationFailed):
        verify(headers, BODY, public(generate_secret("v1a")))
    with pytest.raises(ValueError, match="public key") as refused:
        verify(headers, BODY, secret)
    assert secret not in str(refused.value)


def test_without_the_extra_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.startswith("cryptography")]:
        monkeypatch.setitem(sys.modules, name, None)
    secret = generate_secret()
    assert verify(signed_by_the_service(secret), BODY, secret).id == "e"
    with pytest.raises(ExtraMissing, match=r"triggers-client\[ed25519\]"):
        verify(signed_by_the_service(secret), BODY, "whpk_" + base64.b64encode(bytes(32)).decode())


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-timestamp": str(int(time.time()) - 301)},
        {"webhook-timestamp": str(int(time.time()) + 400)},
        {"webhook-timestamp": "١٢٣"},
        {"webhook-timestamp": "9" * 400},
        {"webhook-id": "f"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,é v1a,AA== v1"},
        {"webhook-signature": "v2,AAAA " * 10_000},
        {"webhook-signature": None},
    ],
)
def test_a_forged_request_is_refused(change: dict[str, str | None]) -> None:
    secret = new_secret()
    headers = {**signed_by_the_service(secret), **change}
    kept = {name: value for name, value in headers.items() if value is not None}
    with pytest.raises(VerificationFailed):
        verify(kept, BODY, secret)


def test_an_old_request_is_refused_by_the_clock() -> None:
    secret = new_secret()
    headers = signed_by_the_service(secret, at=1_000_000_000)
    assert verify(headers, BODY, secret, now=1_000_000_299).id == "e"
    with pytest.raises(VerificationFailed):
        verify(headers, BODY, secret, now=1_000_000_301)
    with pytest.raises(TypeError):
        verify(headers, BODY.decode(), secret)  # type: ignore[arg-type]


def test_the_formats() -> None:
    secret = new_secret()
    raw = b'{"id":"x","data":1}'
    found = verify(signed_by_the_service(secret, body=raw), raw, secret)
    assert (found.type, found.data) == (None, {"id": "x", "data": 1})
    cloud = json.dumps({"specversion": "1.0", "id": "e", "source": "/", "type": "t", "data": [1]}).encode()
    headers = {**signed_by_the_service(secret, body=cloud), "content-type": "application/cloudevents+json"}
    assert verify(headers, cloud, secret).data == [1]


def test_samples_are_what_the_service_would_send() -> None:
    secret, pair = new_secret(), generate_secret("v1a")
    sample = signed_sample([secret, pair], "order.paid", {"n": 1})
    for each in (secret, public(pair)):
        assert verify(sample.headers, sample.body, each).data == {"n": 1}


# ---- receivers ---------------------------------------------------------------------------------------

Receive = Callable[[dict[str, str], bytes], int]


def _asgi(app: Any) -> Receive:
    def receive(headers: dict[str, str], body: bytes) -> int:
        async def post() -> int:
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return (await client.post("/hooks", headers=headers, content=body)).status_code

        return asyncio.run(post())

    return receive


def starlette_app(handler: Any, secret: str, seen: Any) -> Receive:
    from triggers_client.receivers.starlette import receiver

    async def handle(webhook: Webhook) -> None:
        handler(webhook)

    app = Starlette()
    app.add_route("/hooks", receiver(secret, seen=seen)(handle), methods=["POST"])
    return _asgi(app)


def fastapi_app(handler: Any, secret: str, seen: Any) -> Receive:
    from triggers_client.receivers.starlette import receiver

    app = fastapi.FastAPI()
    app.add_api_route("/hooks", receiver(secret, seen=seen)(handler), methods=["POST"])
    return _asgi(app)


def flask_app(handler: Any, secret: str, seen: Any) -> Receive:
    from triggers_client.receivers.flask import receiver

    app = flask.Flask("test")
    app.add_url_rule("/hooks", view_func=receiver(secret, seen=seen)(handler), methods=["POST"])
    return lambda headers, body: app.test_client().post("/hooks", headers=headers, data=body).status_code


def django_app(handler: Any, secret: str, seen: Any) -> Receive:
    if not settings.configured:
        settings.configure(ROOT_URLCONF=(), ALLOWED_HOSTS=["*"], LOGGING_CONFIG=None)
        django.setup()
    from django.test import RequestFactory

    from triggers_client.receivers.django import receiver

    view = receiver(secret, seen=seen)(handler)

    def receive(headers: dict[str, str], body: bytes) -> int:
        request = RequestFactory(enforce_csrf_checks=True).post(
            "/hooks", data=body, content_type=headers["content-type"], headers=headers
        )
        try:
            return view(request).status_code
        except ValueError:
            return 500

    return receive


@pytest.mark.parametrize("make", [starlette_app, fastapi_app, flask_app, django_app])
def test_a_receiver_handles_each_delivery_once(make: Callable[..., Receive]) -> None:
    handled: list[str] = []
    fails = [True]

    def handler(webhook: Webhook) -> None:
        handled.append(webhook.data["n"])
        if fails.pop() if fails else False:
            raise ValueError("not yet")

    secret = new_secret()
    receive = make(handler, secret, SeenInMemory())
    first = signed_sample(secret, data={"n": 1})
    assert receive(first.headers, first.body) == 500
    assert receive(first.headers, first.body) == 204  # forgotten, because the handler raised
    assert receive(first.headers, first.body) == 204  # not handled again
    assert handled == [1, 1]
    replayed = {**first.headers, "triggers-generation": "1"}
    assert receive(replayed, first.body) == 204
    assert handled == [1, 1, 1]
    forged = signed_sample(new_secret(), data={"n": 2})
    assert receive(forged.headers, forged.body) == 401
    assert handled == [1, 1, 1]


def test_memory_of_what_was_seen_is_bounded() -> None:
    def is_new(seen: SeenInMemory, key: str) -> bool:
        if found := seen.claim(key):
            seen.finish(key)
        return found

    seen = SeenInMemory(most=2)
    assert [is_new(seen, key) for key in "abcab"] == [True, True, True, True, True]
    assert not is_new(seen, "b")
    briefly = SeenInMemory(seconds=0)
    assert [is_new(briefly, "a"), is_new(briefly, "a")] == [True, True]


@pytest.mark.parametrize("make", [starlette_app, fastapi_app, flask_app, django_app])
def test_a_second_attempt_is_not_answered_with_success_while_the_first_is_handled(
    make: Callable[..., Receive],
) -> None:
    """The service gives an attempt up after a while. The handler of the first one may still fail."""
    secret = new_secret()
    seen = SeenInMemory()
    first = signed_sample(secret)
    key = verify(first.headers, first.body, secret).key
    receive = make(lambda _: None, secret, seen)
    assert seen.claim(key)  # as the first attempt does
    assert receive(first.headers, first.body) == 503
    seen.forget(key)
    assert receive(first.headers, first.body) == 204
