"""The story a user tries first: serve, subscribe, post real payloads, and verify what arrives."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import standardwebhooks
import svix.webhooks

from harness import eventually
from receiving import Receiver

from .processes import Service
from .test_real_input import corpus, digest


class Sent(msgspec.Struct):
    """The body of a delivery, with the payload's bytes as they came."""

    id: str
    type: str
    data: msgspec.Raw


async def test_real_payloads_arrive_once_each_and_verify(
    launch: Callable[..., Service], note: Callable[[str], None]
) -> None:
    service = launch()
    service.environment["TRIGGERS_OUTBOUND_ALLOW"] = "127.0.0.0/8"
    service.environment["TRIGGERS_OUTBOUND_ALLOW_HTTP"] = "1"
    service.start()
    sent = corpus()
    async with service.client(service.first_key()) as client, Receiver() as receiver:
        made = await client.post("/v1/subscriptions", {"target_url": receiver.url})
        assert made.status == 201, made
        expected = {}
        for line, kind, sha in sent:
            answer = await client.post("/v1/events", line)
            assert answer.status == 201, answer
            expected[answer.json["id"]] = (kind, sha)
        await eventually(lambda: len(receiver.hooks) >= len(expected), 20)
        assert receiver.counts() == dict.fromkeys(expected, 1)
        secret = made.json["secret"]
        for hook in receiver.hooks:
            body = msgspec.json.decode(hook.body, type=Sent)
            assert body.id == hook.id
            assert (body.type, digest(body.data)) == expected[hook.id]
            standardwebhooks.Webhook(secret).verify(hook.body, hook.headers)
            svix.webhooks.Webhook(secret).verify(hook.body, hook.headers)
        shown = await client.get(f"/v1/subscriptions/{made.json['id']}")
        assert shown.json["status"] == "active"
        listed = await client.get(f"/v1/subscriptions/{made.json['id']}/attempts?limit=1000")
        assert listed.status == 200, listed
        assert len(listed.json["data"]) == len(expected)
        note(f"{len(expected)} payloads delivered and verified twice")
