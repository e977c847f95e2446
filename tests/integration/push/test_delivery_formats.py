"""Real payloads to real receivers: each once, to the byte, signed so that code that is not ours agrees."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import subprocess
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import standardwebhooks
import svix.webhooks
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cloudevents.core.formats.json import JSONFormat

from delivering import RING, States, Subscribe, Workers, post
from harness import Tenant, eventually
from receiving import Hook, Receiver
from triggers.postgres.database import Database
from triggers.secrets.signing_secrets import generate_secret
from triggers.subscriptions import changes as subscription_changes

CORPUS = Path(__file__).parents[2] / "data" / "github-webhooks.jsonl.gz"
NODE = shutil.which("node")
NPM = shutil.which("npm")


class Line(msgspec.Struct):
    type: str
    payload: msgspec.Raw


class Sent(msgspec.Struct):
    """A body of format `standard` or `cloudevents`, with the payload's bytes as they came."""

    id: str
    type: str
    data: msgspec.Raw


def corpus() -> list[Line]:
    lines = [
        msgspec.json.decode(line, type=Line) for line in gzip.decompress(CORPUS.read_bytes()).splitlines()
    ]
    assert len(lines) == 329
    return lines


async def deliver_corpus(
    client: httpx.AsyncClient, receiver: Receiver, states: States
) -> dict[str, tuple[Hook, Line]]:
    """Post every payload; return what came of it by the event's id, each once."""
    lines = corpus()
    body = b"\n".join(msgspec.json.encode(line) for line in lines)
    answer = await client.post(
        "/v1/events/batch", content=body, headers={"content-type": "application/x-ndjson"}
    )
    ids = [each["id"] for each in answer.json()["results"]]
    await eventually(lambda: len(receiver.hooks) >= len(ids), 20)

    async def all_settled() -> bool:
        return await states.pending() == 0

    await eventually(all_settled)
    assert receiver.counts() == dict.fromkeys(ids, 1)
    hooks = {hook.id: hook for hook in receiver.hooks}
    return {event_id: (hooks[event_id], line) for event_id, line in zip(ids, lines, strict=True)}


def verify(hook: Hook, secret: str) -> None:
    """By both packages; and neither takes a body that differs in one byte."""
    for webhook, refusal in (
        (standardwebhooks.Webhook(secret), standardwebhooks.webhooks.WebhookVerificationError),
        (svix.webhooks.Webhook(secret), svix.webhooks.WebhookVerificationError),
    ):
        webhook.verify(hook.body, hook.headers)
        with pytest.raises(refusal):
            webhook.verify(hook.body + b" ", hook.headers)


async def test_standard(
    client: httpx.AsyncClient, receiver: Receiver, subscribed: Subscribe, workers: Workers, states: States
) -> None:
    subscription = await subscribed(receiver.url)
    await workers.start()
    for event_id, (hook, line) in (await deliver_corpus(client, receiver, states)).items():
        sent = msgspec.json.decode(hook.body, type=Sent)
        assert (sent.id, sent.type, bytes(sent.data)) == (event_id, line.type, bytes(line.payload))
        assert hook.headers["content-type"] == "application/json"
        assert hook.headers["user-agent"].startswith("Triggers/")
        assert hook.headers["triggers-subscription"] == str(subscription.id)
        assert hook.headers["triggers-generation"] == "0"
        verify(hook, subscription.secrets[0].secret)
    attempts = await states.attempts(subscription.id)
    assert {(each["outcome"], each["reason"], each["status_code"], each["attempt"]) for each in attempts} == {
        ("delivered", "delivered", 204, 1)
    }
    assert len(attempts) == 329
    assert await states.settled(subscription.id) == {"delivered": 329}


async def test_raw(
    client: httpx.AsyncClient, receiver: Receiver, subscribed: Subscribe, workers: Workers, states: States
) -> None:
    subscription = await subscribed(receiver.url, format="raw", headers={"Authorization": "Bearer x"})
    await workers.start()
    for hook, line in (await deliver_corpus(client, receiver, states)).values():
        assert hook.body == bytes(line.payload)
        assert hook.headers["authorization"] == "Bearer x"
        verify(hook, subscription.secrets[0].secret)


async def test_cloudevents(
    client: httpx.AsyncClient,
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    states: States,
    tenant: Tenant,
) -> None:
    subscription = await subscribed(receiver.url, format="cloudevents")
    await workers.start()
    for event_id, (hook, line) in (await deliver_corpus(client, receiver, states)).items():
        assert bytes(msgspec.json.decode(hook.body, type=Sent).data) == bytes(line.payload)
        event = from_http_event(HTTPMessage(hook.headers, hook.body), JSONFormat())
        assert (event.get_id(), event.get_type()) == (event_id, line.type)
        assert event.get_source() == f"/orgs/{tenant.id}"
        assert event.get_data() == json.loads(bytes(line.payload))
        verify(hook, subscription.secrets[0].secret)


async def test_two_secrets_sign_while_one_is_rotated(
    client: httpx.AsyncClient,
    database: Database,
    receiver: Receiver,
    subscribed: Subscribe,
    workers: Workers,
    tenant: Tenant,
) -> None:
    made = await subscribed(receiver.url)
    await workers.start()
    await post(client, [{}])
    await eventually(lambda: receiver.hooks)
    rotated = await subscription_changes.rotate_secret(
        database,
        RING,
        tenant.id,
        str(made.id),
        subscription_changes.Rotation(lambda _: (generate_secret("v1"), "v1"), timedelta(hours=1)),
    )

    async def twice_signed() -> Hook | None:
        await post(client, [{}])
        signed = [hook for hook in receiver.hooks if " " in hook.headers["webhook-signature"]]
        return signed[0] if signed else None

    hook = await eventually(twice_signed)
    old, new = made.secrets[0].secret, rotated.secrets[0].secret
    assert old != new
    verify(hook, old)
    verify(hook, new)
    assert " " not in receiver.hooks[0].headers["webhook-signature"]


VERIFY_JS = """
const { Webhook } = require("standardwebhooks");
const lines = require("fs").readFileSync(0, "utf8").trim().split("\\n").map((line) => JSON.parse(line));
let verified = 0;
for (const { secret, headers, body } of lines) {
  const text = Buffer.from(body, "base64").toString("utf8");
  new Webhook(secret).verify(text, headers);
  let refused = false;
  try { new Webhook(secret).verify(text + " ", headers); } catch { refused = true; }
  if (!refused) throw new Error("a changed body was taken");
  verified += 1;
}
console.log(verified);
"""


@pytest.mark.skipif(not (NODE and NPM), reason="Node is not installed")
async def test_node_agrees(
    client: httpx.AsyncClient, receiver: Receiver, subscribed: Subscribe, workers: Workers, states: States
) -> None:
    subscription = await subscribed(receiver.url)
    await workers.start()
    delivered = await deliver_corpus(client, receiver, states)
    text = b"\n".join(
        msgspec.json.encode(
            {
                "secret": subscription.secrets[0].secret,
                "headers": {n: v for n, v in hook.headers.items() if n.startswith("webhook-")},
                "body": hook.body,
            }
        )
        for hook, _ in delivered.values()
    )
    assert await asyncio.to_thread(_verify_with_node, text) == "329"


def _verify_with_node(text: bytes) -> str:
    def run(*command: str, **options: Any) -> str:
        done = subprocess.run(command, capture_output=True, check=False, cwd=place, **options)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    assert NODE
    assert NPM
    with tempfile.TemporaryDirectory() as place:
        run(NPM, "install", "--no-audit", "--no-fund", "--ignore-scripts", "standardwebhooks@1", timeout=60)
        return run(NODE, "-e", VERIFY_JS, input=text, timeout=20)
