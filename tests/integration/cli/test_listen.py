"""`triggers listen` in a process of its own, against a real node and a real receiver."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from delivering import Workers
from harness import Node, Tenant, Tenants, eventually
from integration.push.test_delivery_formats import verify
from receiving import FAILED, OK, Hook, Receiver, status
from triggers.cli import app
from triggers.cli.listening import forwarding
from triggers.cli.listening.forwarding import Forwarder, ReceivedEvent
from triggers.domain import Scope
from triggers.errors import TriggersError
from triggers.postgres.clock import DatabaseClock
from triggers.secrets.signing_secrets import generate_secret, read_secret

HOSTILE = "\u202eevil\u2066<b>\x7f\x9b2J"
"""What may stand unescaped in a JSON string, and what a terminal obeys."""


class Listening:
    """A running command: its lines as they come."""

    def __init__(self, process: asyncio.subprocess.Process, banner: str) -> None:
        self.process = process
        self.banner = banner
        self.inbox = re.search(r"the inbox (listen-[\w-]+-[a-z0-9]{6})", banner)[1]  # type: ignore[index]

    async def line(self) -> Any:
        """The next line of the output, decoded."""
        assert self.process.stdout
        return json.loads(await asyncio.wait_for(self.process.stdout.readline(), 30))

    async def said(self) -> str:
        """The next line on the listener itself."""
        return await _said(self.process)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 20)


Listen = Callable[..., Awaitable[Listening]]


async def _said(process: asyncio.subprocess.Process) -> str:
    assert process.stderr
    return (await asyncio.wait_for(process.stderr.readline(), 30)).decode()


@asynccontextmanager
async def started(url: str, key: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`triggers listen …`, killed at the end if it has not ended."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "triggers", "listen", *arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TRIGGERS_URL": url, "TRIGGERS_API_KEY": key},
        limit=1 << 20,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def listening(node: Node, tenant: Tenant, *arguments: str) -> AsyncIterator[Listening]:
    """`triggers listen --json …` that has begun."""
    async with started(node.url, tenant.key, "--json", *arguments) as process:
        banner = await _said(process)
        if "--forward-to" in arguments:
            banner += await _said(process)
        yield Listening(process, banner)


async def send(client: httpx.AsyncClient, payload: Any = 1, **fields: Any) -> str:
    answer = await client.post("/v1/events", json={"type": "order.paid", "payload": payload, **fields})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def deliveries_to(client: httpx.AsyncClient, event_id: str, inbox: str) -> Any:
    found = (await client.get(f"/v1/events/{event_id}")).json()["deliveries"]
    (ours,) = [each for each in found if each["key"] == inbox]
    return ours


async def inboxes(client: httpx.AsyncClient) -> list[str]:
    found = (await client.get("/v1/inboxes", params={"status": "active"})).json()["data"]
    return [each["key"] for each in found]


async def test_a_receiver_gets_what_a_push_subscription_sends_it(
    node: Node,
    tenant: Tenant,
    client: httpx.AsyncClient,
    receiver: Receiver,
    workers: Workers,
    subscribed: Callable[..., Any],
) -> None:
    await workers.start()
    async with Receiver() as pushed, listening(node, tenant, "--forward-to", receiver.url) as command:
        await subscribed(pushed.url)
        body = b'{"type":"order.paid","occurred_at":"2026-01-02T03:04:05Z","payload": %b}'
        body %= b'{"n":1.10,\n "s":"\xc3\xa9"}'
        answer = await client.post("/v1/events", content=body, headers={"content-type": "application/json"})
        event_id = answer.json()["id"]
        line = await command.line()
        assert (line["id"], line["type"], line["status"], line["outcome"]) == (
            *(event_id, "order.paid", 204, "acknowledged"),
        )
        assert line["payload"] == {"n": 1.1, "s": "é"}
        await eventually(lambda: pushed.hooks, 20)
        (ours,), (theirs,) = receiver.hooks, pushed.hooks
        assert ours.body == theirs.body
        varying = {"host", "webhook-signature", "webhook-timestamp", "triggers-subscription"}
        assert set(ours.headers) == set(theirs.headers)
        assert {n: v for n, v in ours.headers.items() if n not in varying} == {
            n: v for n, v in theirs.headers.items() if n not in varying
        }
        secret = re.search(r"Signing secret: (whsec_\S+)", command.banner)
        assert secret
        verify(ours, secret[1])

        async def acknowledged() -> bool:
            return bool((await deliveries_to(client, event_id, command.inbox))["status"] == "acknowledged")

        await eventually(acknowledged)
        note = (await deliveries_to(client, event_id, command.inbox))["note"]
        assert (note["status_code"], note["text"]) == (204, None)
        assert note["duration_ms"] == line["ms"]
        assert await command.end() == 0
    assert await inboxes(client) == ["default"]


async def test_a_receiver_that_refuses_gets_the_event_again_and_then_no_more(
    node: Node, tenant: Tenant, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    secret = generate_secret()
    await send(client, "before")  # the inbox does not exist yet, so this event does not come
    never = ""

    def answer(hook: Hook) -> bytes:
        if hook.id == never:
            return b"HTTP/1.1 500 X\r\ncontent-length: 10\r\n\r\n\x1b[31mno\x00\xe9\xff"
        return FAILED if receiver.counts()[hook.id] == 1 else OK

    receiver.answer = answer
    options = ["--forward-to", receiver.url, "--attempts", "2", "--secret", secret]
    async with listening(node, tenant, *options) as command:
        assert secret not in command.banner
        recovers, never = await send(client, 1), await send(client, 2)
        receiver.hooks.clear()
        lines = [await command.line() for _ in range(4)]
        told = {
            event_id: [(e["status"], e["outcome"], e["attempt"]) for e in lines if e["id"] == event_id]
            for event_id in (recovers, never)
        }
        assert told == {
            recovers: [(500, "released", 1), (204, "acknowledged", 2)],
            never: [(500, "released", 1), (500, "rejected", 2)],
        }
        for hook in receiver.hooks:
            verify(hook, secret)
        times = [hook.at for hook in receiver.hooks if hook.id == recovers]
        assert 4.9 < times[1] - times[0] < 15  # the first delay of the default schedule is 5 s

        async def settled() -> bool:
            return bool((await deliveries_to(client, never, command.inbox))["status"] == "dead")

        await eventually(settled)
        dead = await deliveries_to(client, never, command.inbox)
        assert dead["reason"] == "the receiver of a listener failed: 500"
        assert dead["attempts"] == 0
        assert dead["note"]["status_code"] == 500
        assert dead["note"]["text"].startswith("\x1b[31mno\x00")
        assert await command.end(signal.SIGINT) == 0
    assert await inboxes(client) == ["default"]


async def test_two_listeners_get_every_event_that_they_ask_for(
    node: Node, tenant: Tenant, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    past = await send(client, {"total": 7})
    async with (
        listening(
            node, tenant, "--type", "order.*", "--filter", "payload.total > 5", "--since", "1h"
        ) as some,
        listening(node, tenant, "--concurrency", "1") as all_of_them,
    ):
        assert some.inbox != all_of_them.inbox
        shown = (await client.get(f"/v1/inboxes/{some.inbox}")).json()
        assert (shown["event_types"], shown["filter"]) == (["order.*"], "payload.total > 5")
        first = await some.line()
        assert (first["id"], first["outcome"], first["status"]) == (past, "shown", None)
        await send(client, {"total": 1})
        await send(client, {"total": 9}, type="user.made")
        sent = [await send(client, {"total": 10 + number}) for number in range(5)]
        assert {(await some.line())["id"] for _ in sent} == set(sent)
        assert [(await all_of_them.line())["payload"]["total"] for _ in range(7)] == [
            1,
            9,
            10,
            11,
            12,
            13,
            14,
        ]
        # A listener that is killed leaves its inbox, which expires by itself.
        some.process.kill()
        await some.process.wait()
        assert await all_of_them.end() == 0
    assert await inboxes(client) == ["default", some.inbox]
    left = (await client.get(f"/v1/inboxes/{some.inbox}")).json()["expires_at"]
    assert left is not None
    assert await inboxes(client) == ["default", some.inbox]


async def test_an_inbox_that_somebody_deleted_is_made_again(
    node: Node, tenant: Tenant, client: httpx.AsyncClient
) -> None:
    async with listening(node, tenant) as command:
        await send(client, 1)
        assert (await command.line())["payload"] == 1
        assert (await client.delete(f"/v1/inboxes/{command.inbox}")).status_code == 202
        assert "A new one collects events from now on." in await command.said()
        await send(client, HOSTILE)
        assert command.process.stdout
        raw = (await asyncio.wait_for(command.process.stdout.readline(), 30)).decode()
        assert raw.removesuffix("\n").isprintable()
        assert json.loads(raw)["payload"] == HOSTILE
        assert await command.end() == 0


async def test_what_cannot_work_ends_with_one_line(node: Node, tenants: Tenants, tenant: Tenant) -> None:
    limited = await tenants.make(scopes=[Scope.EVENTS_READ])
    wrong: list[tuple[str, str, list[str], str]] = [
        ("http://127.0.0.1:1", tenant.key, [], "No answer from http://127.0.0.1:1."),
        (node.url, limited.key, [], "403"),
        (node.url, tenant.key, ["--filter", "payload."], "422"),
        (node.url, tenant.key, ["--type", "**"], "422"),
    ]

    async def fails(url: str, key: str, arguments: list[str]) -> str:
        async with started(url, key, *arguments) as process:
            out, said = await asyncio.wait_for(process.communicate(), 60)
            assert (process.returncode, out) == (1, b"")
            return said.decode()

    for url, key, arguments, expected in wrong:
        said = await fails(url, key, arguments)
        assert expected in said
        assert said.count("\n") == 1, said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--since", "yesterday"], "--since must be a time like"),
        (["--forward-to", "localhost:3000"], "--forward-to must be a URL"),
        (["--forward-to", "http://x/", "--secret", "whsec_abc#"], "signing secret"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_asked(arguments: list[str], expected: str) -> None:
    result = CliRunner().invoke(
        app, ["listen", "--key", "zap_test_x", "--url", "http://127.0.0.1:1", *arguments]
    )
    assert isinstance(result.exception, TriggersError)
    assert expected in result.exception.message
    assert "whsec_abc" not in result.exception.message


async def test_keys_at_a_terminal(
    node: Node, tenant: Tenant, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(  # noqa: ASYNC220 - it needs a session of its own
        [sys.executable, "-m", "triggers", "listen", "--forward-to", receiver.url],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**os.environ, "TRIGGERS_URL": node.url, "TRIGGERS_API_KEY": tenant.key},
        start_new_session=True,
        preexec_fn=_take_terminal,  # noqa: PLW1509 - this test has no other thread
    )
    os.close(follower)
    seen = ""

    async def until(text: str) -> str:
        nonlocal seen
        deadline = time.monotonic() + 30
        while text not in seen:
            assert time.monotonic() < deadline, seen
            seen += (await asyncio.to_thread(os.read, leader, 65_536)).decode(errors="replace")
        before, _, seen = seen.partition(text)
        return before

    try:
        await until("Keys: r sends")
        os.write(leader, b"r")
        await until("No event has come yet.")
        event_id = await send(client, {"text": HOSTILE}, type=f"order.{HOSTILE[:6]}")
        await until("204")
        os.write(leader, b"r")
        await until("sent again")
        assert receiver.ids == [event_id] * 2
        os.write(leader, b"d")
        shown = await until("}}")
        assert "\\u202e" in shown
        assert "\\x9b" in shown
        assert not {"\u202e", "\u2066", "\x9b", "\x7f"} & set(shown)
        os.write(leader, b"q")
        assert await asyncio.to_thread(process.wait, 20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    assert await inboxes(client) == ["default"]


def _take_terminal() -> None:
    """Make the terminal on the standard input the one of this session, as a shell does."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.mark.parametrize(
    ("answer", "failure", "code"),
    [
        (None, "no answer in time", None),
        (b"HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\nab", "an answer that came too slowly", 200),
        (b"not http\r\n\r\n", "no valid answer", None),
        (b"HTTP/1.1 200 X\r\ncontent-length: 50000\r\n\r\n" + b"a" * 50_000, None, 200),
        (status(302, "location: http://127.0.0.1:1/"), None, 302),
    ],
)
async def test_the_answers_of_a_receiver(
    receiver: Receiver,
    clock: DatabaseClock,
    monkeypatch: pytest.MonkeyPatch,
    answer: Any,
    failure: Any,
    code: Any,
) -> None:
    monkeypatch.setattr(forwarding, "ATTEMPT_SECONDS", 0.3)
    receiver.answer = lambda _: answer
    forwarder = Forwarder(receiver.url, read_secret(generate_secret()))
    event = ReceivedEvent(id=clock.mint(), type="a", payload=b"1")
    found = await forwarder.send(event, "inbox")
    assert (found.failure, found.status) == (failure, code)
    assert found.is_success == (code == 200)
    assert len(found.text) <= 16 * 1024
    assert len((found.note["text"] or "").encode()) <= 1024
    await receiver.close()
    assert (await forwarder.send(event, "inbox")).failure == "no connection"
    await forwarder.close()


async def test_a_receiver_gets_no_cookies_of_before(receiver: Receiver, clock: DatabaseClock) -> None:
    receiver.answer = lambda _: status(204, "set-cookie: a=b")
    forwarder = Forwarder(receiver.url, read_secret(generate_secret()))
    event = ReceivedEvent(id=clock.mint(), type="a", payload=b"1")
    for _ in range(2):
        assert (await forwarder.send(event, "inbox")).is_success
    assert ["cookie" in hook.headers for hook in receiver.hooks] == [False, False]
    await forwarder.close()


def test_listening_loads_no_database_driver_and_no_public_key_cryptography() -> None:
    program = (
        "import sys, triggers.cli.listening.command\n"
        "heavy = {'asyncpg', 'uvloop', 'cel_expr_python', 'cryptography'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
