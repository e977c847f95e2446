"""The command line against a real node and a real database."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from harness import SECRET_KEYS, Node, Tenant, Tenants, eventually, free_port
from triggers import observability
from triggers.cli import app
from triggers.cli.service import open_client
from triggers.domain import TENANT_SCOPES
from triggers.errors import OperatorError, TriggersError
from triggers.node.settings import env_name, settings_list
from triggers.postgres import migrate


class Commands:
    """Runs `triggers …` in a thread, so that the node in the test's loop can answer it."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.environ = environ

    async def __call__(self, *arguments: str, stdin: bytes | None = None) -> str:
        """What it prints."""
        result = await self.run(*arguments, stdin=stdin)
        assert result.exit_code == 0, (arguments, result.output, result.exception)
        return result.stdout

    async def json(self, *arguments: str, stdin: bytes | None = None) -> Any:
        """The one thing that it prints as JSON."""
        return json.loads(await self(*arguments, "--json", stdin=stdin))

    async def lines(self, *arguments: str) -> list[Any]:
        """The list that it prints as JSON, one object per line."""
        return [json.loads(line) for line in (await self(*arguments, "--json")).splitlines()]

    def beside(self) -> Commands:
        """The same without an API key: commands for organisations and keys use the database."""
        return Commands({k: v for k, v in self.environ.items() if k != "TRIGGERS_API_KEY"})

    async def fails(self, *arguments: str, stdin: bytes | None = None) -> str:
        """What it says is wrong."""
        result = await self.run(*arguments, stdin=stdin)
        assert result.exit_code != 0, (arguments, result.output)
        if isinstance(result.exception, TriggersError):
            return result.exception.message
        assert isinstance(result.exception, SystemExit), result.exception
        return result.stderr

    async def run(self, *arguments: str, stdin: bytes | None = None) -> Result:
        runner = CliRunner(env=self.environ)
        return await asyncio.to_thread(runner.invoke, app, list(arguments), input=stdin)


def start(commands: Commands, *arguments: str) -> subprocess.Popen[str]:
    """`triggers …` in a process of its own, for what goes on until it is interrupted."""
    return subprocess.Popen(
        [sys.executable, "-m", "triggers", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, **commands.environ},
    )


@contextmanager
def tailing(commands: Commands, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with start(commands, "inbox", "tail", *arguments) as tail:
        try:
            yield tail
        finally:
            tail.kill()


async def line_of(tail: subprocess.Popen[str]) -> str:
    assert tail.stdout
    return await asyncio.wait_for(asyncio.to_thread(tail.stdout.readline), 30)


@pytest.fixture
def commands(node: Node, tenant: Tenant, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.setattr(observability, "configure_logging", lambda *_: None)
    monkeypatch.delenv("TRIGGERS_API_KEY", raising=False)
    return Commands(
        {
            "TRIGGERS_DATABASE_URL": database_url,
            "TRIGGERS_SECRET_KEYS": SECRET_KEYS,
            "TRIGGERS_URL": node.url,
            "TRIGGERS_API_KEY": tenant.key,
            "COLUMNS": "300",
            "TERM": "dumb",
        }
    )


async def test_console_prints_a_link_that_signs_in(commands: Commands, node: Node, tenant: Tenant) -> None:
    for arguments in (["--print"], []):  # without a terminal no browser is opened
        link = await commands("console", *arguments)
        assert link.startswith(f"{node.url}/console/link?token=")
        opened = await node.sessions.open_with_link(link.strip().rpartition("=")[2])
        assert opened.session.caller.key_id == tenant.key_id
    del commands.environ["TRIGGERS_API_KEY"]
    assert "Set TRIGGERS_API_KEY or --key." in await commands.fails("console")


async def test_help_lists_every_setting(commands: Commands) -> None:
    commands.environ["COLUMNS"] = "80"
    shown = re.sub(r"\s+", " ", await commands("serve", "--help"))
    assert "http://[user:password@]host:port" in shown
    for setting in settings_list():
        assert f"--{setting.name.replace('_', '-')}" in shown
        assert env_name(setting.name) in shown
    assert (await commands("--help")).count("inbox") >= 1
    assert re.match(r"\d+\.\d+", await commands("version"))


async def test_a_flag_wins_over_the_environment(commands: Commands) -> None:
    url = commands.environ["TRIGGERS_DATABASE_URL"]
    assert (await commands("db", "url")).strip() == url
    assert (
        await commands("db", "url", "--database-url", "postgresql://elsewhere/x")
    ).strip() == "postgresql://elsewhere/x"
    assert "TRIGGERS_PORT" in await commands.fails("check", "--port", "many")


async def test_check(commands: Commands, database_url: str) -> None:
    good = await commands("check")
    assert "schema up to date" in good
    assert database_url not in good
    commands.environ["TRIGGERS_REDIS_URL"] = "redis://127.0.0.1:1/0"
    result = await commands.run("check")
    assert result.exit_code != 0
    assert re.search(r"redis\s+Redis does not answer", result.stdout)
    del commands.environ["TRIGGERS_REDIS_URL"]
    commands.environ["TRIGGERS_DATABASE_URL"] = "postgresql://127.0.0.1:1/nowhere"
    result = await commands.run("check")
    assert result.exit_code != 0
    assert "PostgreSQL does not answer" in result.stdout
    environ = commands.environ | {"TRIGGERS_DATABASE_URL": f"{database_url}&connect_timeout=5"}
    assert "no pending migrations" in await Commands(environ)("migrate")
    assert "schema up to date" in await Commands(environ)("check")
    for command in ("check", "migrate", "api", "worker"):
        result = await Commands(environ | {"PGHOSTADDR": "10.0.0.1"}).run(command)
        assert result.exit_code != 0
        assert "PGHOSTADDR" in str(result.exception.message), command


async def test_check_and_the_start_of_a_worker_warn_without_root_certificates(
    commands: Commands, tmp_path: Path
) -> None:
    commands.environ |= {"SSL_CERT_FILE": str(tmp_path / "none"), "SSL_CERT_DIR": str(tmp_path)}

    def checked() -> str:
        with start(commands, "check") as process:
            found, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        return found

    def started() -> list[str]:
        with start(commands, "worker") as process:
            ending = threading.Timer(60, process.terminate)
            ending.start()
            try:
                assert process.stderr is not None
                return list(itertools.takewhile(lambda line: "worker_started" not in line, process.stderr))
            finally:
                ending.cancel()
                process.terminate()

    assert re.search(
        r"ca roots +ok, but with a warning: No CA root certificates", await asyncio.to_thread(checked)
    )
    warnings = [line for line in await asyncio.to_thread(started) if "no_ca_roots" in line]
    assert len(warnings) == 1
    assert "SSL_CERT_FILE" in warnings[0]


async def test_check_finds_what_a_start_would_refuse(
    commands: Commands, node: Node, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def found(*flags: str, exit_code: int = 1) -> str:
        result = await commands.run("check", *flags)
        assert result.exit_code == exit_code, result.output
        return str(result.exception.message if result.exception else "") + result.stdout

    assert "ok, 127.0.0.1 port 0" in await found("--port", "0", exit_code=0)
    in_use = str(httpx.URL(node.url).port)
    assert "is in use." in await found("--port", in_use, exit_code=0), "it may be the service that is checked"
    assert "Cannot listen on 999.1.1.1 port 0" in await found("--host", "999.1.1.1", "--port", "0")
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "OLDEST_SERVER", 99)
        assert "too old" in await found("--port", "0")
    del commands.environ["TRIGGERS_DATABASE_URL"]
    (tmp_path / "file").touch()
    assert "file is not a directory" in await found("--port", "0", "--data-dir", str(tmp_path / "file"))


async def test_a_key_ring_of_another_database_is_refused(
    commands: Commands, client: httpx.AsyncClient
) -> None:
    """A worker with it would own half of the lanes and send nothing of them."""
    made = await client.post("/v1/subscriptions", json={"target_url": "http://127.0.0.1:9/"})
    assert made.status_code == 201, made.text
    right = commands.environ.get("TRIGGERS_SECRET_KEYS", SECRET_KEYS)
    wrong = base64.b64encode(bytes(32)).decode()
    commands.environ["TRIGGERS_SECRET_KEYS"] = f"{wrong},{right}"
    assert "schema up to date" in await commands("check", "--port", "0")
    commands.environ["TRIGGERS_SECRET_KEYS"] = wrong
    result = await commands.run("check", "--port", "0")
    assert result.exit_code != 0
    assert "cannot decrypt the secrets of this database" in result.output
    with start(commands, "worker") as worker:
        assert await asyncio.to_thread(worker.wait, 20) != 0


async def test_a_worker_shows_its_metrics_where_it_is_told_to(commands: Commands) -> None:
    port = free_port()
    with start(commands, "worker", "--worker-metrics-port", str(port)) as worker:
        try:
            async with httpx.AsyncClient() as client:

                async def shown() -> str:
                    try:
                        return (await client.get(f"http://127.0.0.1:{port}/metrics")).text
                    except httpx.ConnectError:
                        return ""

                assert "triggers_lane_groups_owned" in await eventually(shown, 30)
            with start(commands, "worker", "--worker-metrics-port", str(port)) as second:
                said = (await asyncio.to_thread(second.communicate, timeout=30))[1]
            assert second.returncode != 0
            assert f"Cannot show metrics on 127.0.0.1 port {port}" in said
            assert "Traceback" not in said
        finally:
            worker.terminate()
            worker.communicate(timeout=30)


async def test_organisations_and_keys_beside_the_database(
    commands: Commands, node: Node, tmp_path: Path
) -> None:
    commands = commands.beside()
    org = await commands.json("orgs", "create", "acme")
    assert (org["plan"], org["requests_per_minute"]) == ("free", 100)
    assert "already" in await commands.fails("orgs", "create", "acme")
    changed = await commands.json("orgs", "set-plan", "acme", "enterprise", "--requests-per-minute", "9")
    assert (changed["plan"], changed["requests_per_minute"]) == ("enterprise", 9)
    assert "No organisation" in await commands.fails("orgs", "set-plan", "nobody", "pro")
    assert "gold" in await commands.fails("orgs", "create", "b", "--plan", "gold")
    assert [each["name"] for each in await commands.lines("orgs", "list")][1:] == ["acme"]
    assert "acme" in await commands("orgs", "list")
    await commands.json("orgs", "create", "short-lived")
    assert "add --yes" in await commands.fails("orgs", "delete", "short-lived")
    assert "No organisation is called 'short'" in await commands.fails("orgs", "delete", "short", "--yes")
    gone = await commands.json("orgs", "delete", "short-lived", "--yes")
    assert (gone["name"], gone["emptied_at"]) == ("short-lived", None)
    assert (await commands.json("orgs", "delete", gone["id"], "--yes"))["id"] == gone["id"]
    assert [each["name"] for each in await commands.lines("orgs", "list")][1:] == ["acme"]

    made = await commands.json(
        "keys", "create", "--org", "acme", "--live", "--name", "ci", "--expires-in", "90d"
    )
    assert made["key"].startswith("zap_live_")
    assert set(made["scopes"]) == {scope.value for scope in TENANT_SCOPES}
    admin = await commands.json("keys", "create", "--org", "acme", "--scope", "admin", "--scope", "inbox")
    assert admin["scopes"] == ["admin", "inbox"]
    listed = await commands.lines("keys", "list", "--org", "acme")
    assert [each["id"] for each in listed] == [made["id"], admin["id"]]
    assert not any("key" in each for each in listed)
    assert made["key"] not in await commands("keys", "list", "--org", "acme")
    successor = await commands.json("keys", "rotate", made["id"], "--org", "acme", "--overlap", "1h")
    assert successor["key"].startswith("zap_live_")
    assert "not a duration" in await commands.fails(
        "keys", "rotate", made["id"], "--org", "acme", "--overlap", "soon"
    )
    assert (await commands.json("keys", "revoke", made["id"][-8:], "--org", "acme"))["revoked_at"]
    assert "No API key" in await commands.fails("keys", "revoke", org["id"], "--org", "acme")
    assert "No key is called 'cii'. Did you mean 'ci'?" in await commands.fails(
        "keys", "revoke", "cii", "--org", "acme"
    )
    assert "Give --org NAME" in await commands.fails("keys", "list")

    keys = [f"acme_key_number_{n}" for n in range(3)]
    rows = [(key[:12], hashlib.sha256(key.encode()).hexdigest()) for key in keys]
    await commands("keys", "import", "--org", "acme", "--prefix", rows[0][0], "--sha256", rows[0][1])
    file = tmp_path / "rows.csv"
    file.write_text(
        "\ufeffprefix,sha256,name\n" + "".join(f"{p},{h},key {n}\n" for n, (p, h) in enumerate(rows))
    )
    assert (
        len(await commands.lines("keys", "import", "--org", "acme", "--file", str(file), "--scope", "inbox"))
        == 3
    )
    async with node.client() as client:
        for key in keys:

            async def works(key: str = key) -> bool:
                return (await client.get("/v1/org", headers={"x-api-key": key})).status_code == 200

            await eventually(works, 2)
    file.write_text("prefix,sha256\nshort,x\n")
    assert "line 2" in await commands.fails("keys", "import", "--org", "acme", "--file", str(file))
    file.write_text("a,b\n1,2\n")
    assert "first line" in await commands.fails("keys", "import", "--org", "acme", "--file", str(file))
    for unreadable in (b"prefix,sha256\n\xff,x\n", b'prefix,sha256\n"%b",x\n' % (b"x" * 200_000)):
        file.write_bytes(unreadable)
        assert "as CSV in UTF-8" in await commands.fails(
            "keys", "import", "--org", "acme", "--file", str(file)
        )
    assert "either" in await commands.fails("keys", "import", "--org", "acme")
    before = await commands.lines("keys", "list", "--org", "acme")
    for never, why in (("0s", "longer than 0"), ("99999999999d", "at most 100 years"), ("soon", "duration")):
        assert why in await commands.fails("keys", "create", "--org", "acme", "--expires-in", never)
    assert await commands.lines("keys", "list", "--org", "acme") == before


async def test_tables_are_whole_at_any_width(commands: Commands) -> None:
    commands = commands.beside()
    commands.environ["COLUMNS"] = "40"
    org = await commands.json("orgs", "create", "a" * 200)
    name = "[/red] :bug: [bold]" + "n" * 200
    key = await commands.json("keys", "create", "--org", org["name"], "--name", name, "--expires-in", "1d")
    lines = (await commands("orgs", "list")).splitlines()
    assert [org["id"], org["name"]] == lines[-1].split()[:2]
    lines = (await commands("keys", "list", "--org", org["name"])).splitlines()
    assert len(lines) == 2
    for shown in (key["id"], name, key["expires_at"], ", ".join(key["scopes"])):
        assert shown in lines[1]


async def test_sending(commands: Commands, client: httpx.AsyncClient, tmp_path: Path) -> None:
    sent = await commands.json("send", "order.paid", "-", "--dedup-id", "d", stdin=b' { "n" : 1.0 } \n')
    assert (sent["status"], sent["dedup_id"]) == ("accepted", "d")
    assert (await client.get(f"/v1/events/{sent['id']}/payload")).content == b'{ "n" : 1.0 }'
    file = tmp_path / "payload.json"
    file.write_bytes(b"[1]")
    for arguments in ((str(file),), ("--file", str(file)), ("--data", "[1]")):
        told = await commands("send", "a", *arguments)
        assert re.fullmatch(r"accepted [0-9a-f-]{36}\n", told), told
    assert "payload once" in await commands.fails("send", "a", str(file), "--data", "1")
    attributes = ("--source", "/shop", "--subject", "1042", "--ordering-key", "k")
    made = await commands.json("send", "a", "--data", "1", *attributes)
    seen = (await client.get(f"/v1/events/{made['id']}")).json()
    assert (seen["source"], seen["subject"], seen["ordering_key"]) == ("/shop", "1042", "k")
    for malformed in (b"{", b'1,"dedup_id":"zz"', b'1}{"type":"b","payload":2', b"[" * 20_000):
        assert re.match(r"(Not JSON|Nested more)", await commands.fails("send", "a", stdin=malformed))
    for empty in (b"", b" \n"):
        assert "The payload is empty" in await commands.fails("send", "a", stdin=empty)
    big = b"[%b, 1e400]" % (b"9" * 5_000)
    sent = await commands.json("send", "a", stdin=big)
    assert (await client.get(f"/v1/events/{sent['id']}/payload")).content == big
    assert "422" in await commands.fails("send", "", stdin=b"1")
    assert "type before the file" in await commands.fails("send", "--ndjson", "-", stdin=b"1")
    assert "Cannot read" in await commands.fails("send", "a", str(tmp_path / "nowhere"))
    assert "401" in await commands.fails("send", "a", "--key", "zap_live_no", stdin=b"1")
    assert "that `triggers serve` is running" in await commands.fails(
        "send", "a", "--url", "http://127.0.0.1:1", stdin=b"1"
    )

    lines = tmp_path / "lines"
    lines.write_bytes(b"".join(b'{"n":%d}\n\n' % n for n in range(2_500)))
    assert await commands.json("send", "line", str(lines), "--ndjson") == {
        "accepted": 2_500,
        "duplicate": 0,
        "failed": 0,
    }
    spoiled = b'1\n\n{"a":\n4\n5,"dedup_id":"x"\n"%b"\n7' % (b"x" * 300_000)
    result = await commands.run("send", "line", "--ndjson", "--json", stdin=spoiled)
    assert result.exit_code != 0
    assert json.loads(result.stdout) == {"accepted": 3, "duplicate": 0, "failed": 3}
    assert re.findall(r"line (\d+): (\w+)", result.stderr) == [("3", "Not"), ("5", "Not"), ("6", "An")]


async def test_lines_of_which_none_is_accepted_are_each_refused_with_their_reason(commands: Commands) -> None:
    result = await commands.run("send", "", "--ndjson", "--json", stdin=b"1\n2")
    assert result.exit_code != 0
    assert json.loads(result.stdout) == {"accepted": 0, "duplicate": 0, "failed": 2}
    assert re.findall(r"line (\d+): (.+)", result.stderr) == [
        ("1", "Must have 1 to 255 characters, but has 0."),
        ("2", "Must have 1 to 255 characters, but has 0."),
    ]


async def test_a_file_sent_again_with_its_dedup_id_stores_no_second_event(
    commands: Commands, client: httpx.AsyncClient
) -> None:
    lines = b"1\n\n3\nno JSON\n5"
    for accepted, duplicate in ((3, 0), (0, 3)):
        result = await commands.run("send", "a", "--ndjson", "--dedup-id", "file", "--json", stdin=lines)
        counts = {"accepted": accepted, "duplicate": duplicate, "failed": 1}
        assert json.loads(result.stdout) == counts
    events = (await client.get("/v1/events", params={"order": "asc"})).json()["events"]
    assert [event["dedup_id"] for event in events] == ["file/1", "file/3", "file/5"]
    changed = await commands.run("send", "a", "--ndjson", "--dedup-id", "file", "--json", stdin=b"2")
    assert json.loads(changed.stdout) == {"accepted": 0, "duplicate": 0, "failed": 1}
    assert "--dedup-id is empty" in await commands.fails("send", "a", "--dedup-id", "", stdin=b"1")


async def test_the_messages_of_an_inbox(commands: Commands, client: httpx.AsyncClient) -> None:
    posted = [await client.post("/v1/events", json={"type": "a", "payload": n}) for n in range(3)]
    ids = [answer.json()["id"] for answer in posted]
    assert [each["id"] for each in await commands.lines("inbox", "peek")] == ids
    assert [each["id"] for each in await commands.lines("inbox", "list", "--limit", "2")] == ids[:2]
    stuck = await commands.json("inbox", "lease", "--limit", "3", "--consumer", "worker 1")
    [held] = await commands.lines("inbox", "leases")
    assert (held["lease_id"], held["messages"], held["consumer"]) == (stuck["lease_id"], 3, "worker 1")
    assert "worker 1" in await commands("inbox", "leases")
    extended = await commands.json("inbox", "extend", stuck["lease_id"][-8:], "--seconds", "3600")
    assert extended["leased_until"] > stuck["leased_until"]
    revoked = await commands.json("inbox", "revoke", stuck["lease_id"][-6:])
    assert revoked["results"] == [{"id": each, "status": "available"} for each in ids]
    assert await commands.lines("inbox", "leases") == []
    assert "409" in await commands.fails("inbox", "revoke", stuck["lease_id"])
    lease = await commands.json("inbox", "lease", "--limit", "1")
    assert [message["id"] for message in lease["results"]] == ids[:1]
    [leased] = await commands.lines("inbox", "peek", "--status", "leased")
    assert leased["id"] == ids[0]
    released = await commands.json("inbox", "release", lease["lease_id"], "--delay", "0", "--not-counted")
    assert released["results"] == [{"id": ids[0], "status": "available"}]
    counts = [each["message_attributes"]["lease_count"] for each in await commands.lines("inbox", "peek")]
    assert counts == [1, 1, 1], "the lease that was revoked counts, and the one that was released does not"
    acked = await commands.json("inbox", "ack", "--event", ids[0], "--event", ids[1])
    assert acked["acknowledged"] == 2
    assert "either a lease" in await commands.fails("inbox", "ack")
    assert "default inbox" in await commands.fails("inbox", "ack", "--event", ids[0], "--inbox", "b")
    rest = await commands.json("inbox", "lease", "--wait", "60")
    assert [message["id"] for message in rest["results"]] == ids[2:]
    assert "409" in await commands.fails("inbox", "reject", rest["lease_id"], ids[0], "--reason", "poison")
    rejected = await commands.json("inbox", "reject", rest["lease_id"], "--reason", "poison")
    assert rejected["results"] == [{"id": ids[2], "status": "quarantined"}]
    assert "poison" in await commands("inbox", "peek", "--status", "quarantined")
    assert "available" in await commands("inbox", "redrive")
    shown = await commands("inbox", "lease")
    assert re.match(r"lease [0-9a-f-]{36} until .+\n", shown)
    assert re.search(rf"{ids[2]} +a .*2 *\n", shown)
    [held] = await commands.lines("inbox", "leases")
    assert "acked" in await commands("inbox", "ack", held["lease_id"])
    assert "no message is available" in (await commands.run("inbox", "lease")).stderr
    assert "No inbox is called 'nowhere'" in await commands.fails("inbox", "lease", "--inbox", "nowhere")
    assert (await client.post("/v1/inboxes", json={"key": "a?b"})).status_code == 201
    assert (await commands.json("inbox", "lease", "--inbox", "a?b"))["results"] == []


async def test_payloads_are_shown_as_they_were_sent(commands: Commands, client: httpx.AsyncClient) -> None:
    """No number is read, and one that Python refuses to read keeps nothing behind it from being shown."""
    sent = [
        b'{"big":1e400,"f":0.10000000000000000555,"z":1.50, "a":"\\u0000"}',
        b"9" * 5_000,
        b'[1,\r\n "\xc3\xa9"\n]',
    ]
    for payload in sent:
        await client.post("/v1/events", content=b'{"type":"a","payload":%b}' % payload)
    shown = [payload.replace(b"\r", b" ").replace(b"\n", b" ").decode() for payload in sent]
    listed = (await commands("inbox", "peek", "--payload", "--json")).splitlines()
    assert all(f'"payload":{payload}' in line for payload, line in zip(shown, listed, strict=True))
    assert "9" * 5_000 in await commands("inbox", "peek", "--payload")
    leased = (await commands.run("inbox", "lease", "--seconds", "1", "--json")).stdout
    assert all(f'"payload":{payload}' in leased for payload in shown)
    events = (await client.get("/v1/events", params={"order": "asc"})).json()["events"]
    for event, payload in zip(events, sent, strict=True):
        result = await commands.run("events", "payload", event["id"])
        assert result.stdout_bytes == payload
        assert payload.split()[0].decode() in await commands("events", "show", event["id"])


async def test_a_tail_only_looks(commands: Commands, client: httpx.AsyncClient) -> None:
    await client.post("/v1/inboxes", json={"key": "billing", "event_types": ["order.*"]})

    async def post(kind: str, payload: int) -> str:
        answer = await client.post("/v1/events", json={"type": kind, "payload": payload})
        return str(answer.json()["id"])

    with tailing(commands, "--inbox", "billing", "--payload") as tail:
        assert tail.stderr
        assert "Ctrl-C" in await asyncio.to_thread(tail.stderr.readline)
        await post("user.made", 0)
        ids = [await post("order.paid", number) for number in range(1, 4)]
        for number, event_id in enumerate(ids, start=1):
            assert re.fullmatch(rf"\S+  {event_id[-8:]}  order.paid  {number}\n", await line_of(tail))
        tail.send_signal(signal.SIGINT)
        _, said = await asyncio.to_thread(tail.communicate, timeout=30)
        assert (tail.returncode, said) == (0, "")
    listed = (await client.get("/v1/inboxes/billing/messages")).json()["data"]
    assert [(each["id"], each["status"]) for each in listed] == [(each, "available") for each in ids]


@pytest.mark.parametrize("command", ["keys list --org default", "check --port 0", "inbox list", "--help"])
async def test_a_reader_that_went_away_is_no_fault(
    commands: Commands, client: httpx.AsyncClient, tenants: Tenants, command: str
) -> None:
    await tenants.make(name="default")
    await client.post("/v1/events", json={"type": "a", "payload": 1})
    with start(commands.beside() if "--org" in command else commands, *command.split()) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert await asyncio.to_thread(process.wait, 30) == 1
        assert process.stderr.read() == ""


@pytest.mark.parametrize("loaded", ["triggers.cli", "msgspec", "typer"])
def test_an_interrupt_while_it_loads_is_quiet(loaded: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "triggers", "inbox", "tail", "--key", "none"],
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stderr
        for line in process.stderr:
            if line.split("|")[-1].strip().startswith(loaded):
                break
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode in (-signal.SIGINT, 130)
    assert "Traceback" not in said
    assert "Interrupt" not in said


def test_a_key_that_no_header_can_hold_is_one_line() -> None:
    with pytest.raises(OperatorError, match="a character that no key has"):
        open_client("http://127.0.0.1:1", "zap_test_é")
