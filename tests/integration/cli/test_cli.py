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
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from harness import SECRET_KEYS, Node, Tenant, Tenants, eventually, free_port
from triggers.cli import app, options
from triggers.cli.service import open_client
from triggers.domain import TENANT_SCOPES
from triggers.errors import OperatorError, TriggersError
from triggers.node.settings import env_name, settings_list
from triggers.postgres import migrate
from triggers.postgres.database import Database


class Commands:
    """Runs `triggers …` in a thread, so that the node in the test's loop can answer it."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.environ = environ

    async def __call__(self, *arguments: str, stdin: bytes | None = None) -> str:
        """What it prints."""
        result = await self.run(*arguments, stdin=stdin)
        assert result.exit_code == 0, (arguments, result.output, result.exception)
        return result.stdout

    async def json(self, *arguments: str) -> Any:
        return json.loads(await self(*arguments, "--json"))

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
    monkeypatch.setattr(options, "configure_logging", lambda *_: None)
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


async def test_organisations_and_keys(commands: Commands, node: Node, tmp_path: Path) -> None:
    org = await commands.json("orgs", "create", "acme")
    assert (org["plan"], org["requests_per_minute"]) == ("free", 100)
    assert "already" in await commands.fails("orgs", "create", "acme")
    changed = await commands.json("orgs", "set-plan", "acme", "enterprise", "--requests-per-minute", "9")
    assert (changed["plan"], changed["requests_per_minute"]) == ("enterprise", 9)
    assert "No organisation" in await commands.fails("orgs", "set-plan", "nobody", "pro")
    assert "gold" in await commands.fails("orgs", "create", "b", "--plan", "gold")
    assert [each["name"] for each in await commands.json("orgs", "list")][1:] == ["acme"]
    assert "acme" in await commands("orgs", "list")

    made = await commands.json(
        "keys", "create", "--org", "acme", "--live", "--name", "ci", "--expires-in", "90d"
    )
    assert made["key"].startswith("zap_live_")
    assert set(made["scopes"]) == {scope.value for scope in TENANT_SCOPES}
    admin = await commands.json("keys", "create", "--org", "acme", "--scope", "admin", "--scope", "inbox")
    assert admin["scopes"] == ["admin", "inbox"]
    listed = await commands.json("keys", "list", "--org", "acme")
    assert [each["id"] for each in listed] == [made["id"], admin["id"]]
    assert not any("key" in each for each in listed)
    assert made["key"] not in await commands("keys", "list", "--org", "acme")
    successor = await commands.json("keys", "rotate", made["id"], "--org", "acme", "--overlap", "1h")
    assert successor["key"].startswith("zap_live_")
    assert "not a duration" in await commands.fails(
        "keys", "rotate", made["id"], "--org", "acme", "--overlap", "soon"
    )
    assert (await commands.json("keys", "revoke", made["id"], "--org", "acme"))["revoked_at"]
    assert "No API key" in await commands.fails("keys", "revoke", org["id"], "--org", "acme")
    assert "not the id" in await commands.fails("keys", "revoke", "x", "--org", "acme")

    keys = [f"acme_key_number_{n}" for n in range(3)]
    rows = [(key[:12], hashlib.sha256(key.encode()).hexdigest()) for key in keys]
    await commands("keys", "import", "--org", "acme", "--prefix", rows[0][0], "--sha256", rows[0][1])
    file = tmp_path / "rows.csv"
    file.write_text(
        "\ufeffprefix,sha256,name\n" + "".join(f"{p},{h},key {n}\n" for n, (p, h) in enumerate(rows))
    )
    assert (
        len(await commands.json("keys", "import", "--org", "acme", "--file", str(file), "--scope", "inbox"))
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
    before = await commands.json("keys", "list", "--org", "acme")
    for never, why in (("0s", "longer than 0"), ("99999999999d", "at most 100 years"), ("soon", "duration")):
        assert why in await commands.fails("keys", "create", "--org", "acme", "--expires-in", never)
    assert await commands.json("keys", "list", "--org", "acme") == before


async def test_tables_are_whole_at_any_width(commands: Commands) -> None:
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
    sent = json.loads(
        await commands("send", "order.paid", "-", "--dedup-id", "d", stdin=b' { "n" : 1.0 } \n')
    )
    assert (sent["status"], sent["dedup_id"]) == ("accepted", "d")
    assert (await client.get(f"/v1/events/{sent['id']}/payload")).content == b'{ "n" : 1.0 }'
    file = tmp_path / "payload.json"
    file.write_bytes(b"[1]")
    assert json.loads(await commands("send", "a", str(file)))["type"] == "a"
    for malformed in (b"{", b'1,"dedup_id":"zz"', b'1}{"type":"b","payload":2', b"[" * 20_000):
        assert re.match(r"(Not JSON|Nested more)", await commands.fails("send", "a", stdin=malformed))
    for empty in (b"", b" \n"):
        assert "The payload is empty" in await commands.fails("send", "a", stdin=empty)
    big = b"[%b, 1e400]" % (b"9" * 5_000)
    sent = json.loads(await commands("send", "a", stdin=big))
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
    assert json.loads(await commands("send", "line", str(lines), "--ndjson")) == {
        "accepted": 2_500,
        "duplicate": 0,
        "failed": 0,
    }
    spoiled = b'1\n\n{"a":\n4\n5,"dedup_id":"x"\n"%b"\n7' % (b"x" * 300_000)
    result = await commands.run("send", "line", "--ndjson", stdin=spoiled)
    assert result.exit_code != 0
    assert json.loads(result.stdout) == {"accepted": 3, "duplicate": 0, "failed": 3}
    assert re.findall(r"line (\d+): (\w+)", result.stderr) == [("3", "Not"), ("5", "Not"), ("6", "An")]


async def test_lines_of_which_none_is_accepted_are_each_refused_with_their_reason(commands: Commands) -> None:
    result = await commands.run("send", "", "--ndjson", stdin=b"1\n2")
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
        result = await commands.run("send", "a", "--ndjson", "--dedup-id", "file", stdin=lines)
        counts = {"accepted": accepted, "duplicate": duplicate, "failed": 1}
        assert json.loads(result.stdout) == counts
    events = (await client.get("/v1/events", params={"order": "asc"})).json()["events"]
    assert [event["dedup_id"] for event in events] == ["file/1", "file/3", "file/5"]
    changed = await commands.run("send", "a", "--ndjson", "--dedup-id", "file", stdin=b"2")
    assert json.loads(changed.stdout) == {"accepted": 0, "duplicate": 0, "failed": 1}
    assert "--dedup-id is empty" in await commands.fails("send", "a", "--dedup-id", "", stdin=b"1")


async def test_reading_an_inbox(commands: Commands, client: httpx.AsyncClient) -> None:
    posted = [await client.post("/v1/events", json={"type": "a", "payload": n}) for n in range(3)]
    ids = [answer.json()["id"] for answer in posted]
    listed = [json.loads(line) for line in (await commands("inbox", "list")).splitlines()]
    assert [event["id"] for event in listed] == ids
    assert len((await commands("inbox", "list", "--limit", "2")).splitlines()) == 2
    stuck = json.loads(await commands("inbox", "lease", "--limit", "3", "--consumer", "worker 1"))
    held = json.loads(await commands("inbox", "leases"))
    assert (held["lease_id"], held["messages"], held["consumer"]) == (stuck["lease_id"], 3, "worker 1")
    revoked = json.loads(await commands("inbox", "revoke", stuck["lease_id"]))
    assert revoked["results"] == [{"id": each, "status": "available"} for each in ids]
    assert await commands("inbox", "leases") == ""
    assert "409" in await commands.fails("inbox", "revoke", stuck["lease_id"])
    lease = json.loads(await commands("inbox", "lease", "--limit", "1"))
    assert [message["id"] for message in lease["results"]] == ids[:1]
    assert json.loads((await commands("inbox", "list", "--status", "leased")).strip())["id"] == ids[0]
    assert json.loads(await commands("inbox", "ack", *ids[:2]))["acknowledged"] == 2
    assert len((await commands("inbox", "list")).splitlines()) == 1
    rest = json.loads(await commands("inbox", "lease", "--wait", "60"))
    assert [message["id"] for message in rest["results"]] == ids[2:]
    assert "409" in await commands.fails("inbox", "reject", rest["lease_id"], ids[0], "--reason", "poison")
    rejected = json.loads(await commands("inbox", "reject", rest["lease_id"], "--reason", "poison"))
    assert rejected["results"] == [{"id": ids[2], "status": "quarantined"}]
    assert json.loads(await commands("inbox", "list", "--status", "quarantined"))["id"] == ids[2]
    assert "404" in await commands.fails("inbox", "lease", "--inbox", "nowhere")
    assert (await client.post("/v1/inboxes", json={"key": "a?b"})).status_code == 201
    assert json.loads(await commands("inbox", "lease", "--inbox", "a?b"))["results"] == []


async def test_a_list_of_large_payloads_goes_on_behind_the_first_page(
    commands: Commands, client: httpx.AsyncClient
) -> None:
    payload = "x" * 250_000
    ids = [
        (await client.post("/v1/events", json={"type": "a", "payload": payload})).json()["id"]
        for _ in range(40)
    ]
    first = (await client.get("/v1/inbox", params={"limit": 39})).json()
    assert len(first["events"]) < 39
    listed = (await commands("inbox", "list", "--limit", "39")).splitlines()
    assert [json.loads(line)["id"] for line in listed] == ids[:39]


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

    def hold(text: str) -> bool:
        lines = text.splitlines()
        return all(f'"payload":{payload}' in line for payload, line in zip(shown, lines, strict=True))

    assert hold(await commands("inbox", "list"))
    leased = (await commands.run("inbox", "lease", "--seconds", "1")).stdout_bytes
    assert all(b'"payload":' + payload in leased for payload in sent)
    with tailing(commands) as tail:
        assert hold("".join([await line_of(tail) for _ in sent]))

        async def acknowledged() -> bool:
            return '"events":[]' in (await client.get("/v1/inbox")).text

        await eventually(acknowledged)


@pytest.mark.parametrize("keep", [False, True])
async def test_tailing_an_inbox(commands: Commands, client: httpx.AsyncClient, keep: bool) -> None:
    with tailing(commands, *["--keep"] * keep) as tail:
        ids = []
        for number in range(3):
            answer = await client.post("/v1/events", json={"type": "a", "payload": number})
            ids.append(answer.json()["id"])
            assert json.loads(await line_of(tail))["id"] == ids[-1]

        async def settled() -> bool:
            listed = (await client.get("/v1/inbox")).json()["events"]
            return [event["delivery_status"] for event in listed] == (["leased"] * 3 if keep else [])

        await eventually(settled)
        tail.send_signal(signal.SIGINT)
        _, said = await asyncio.to_thread(tail.communicate, timeout=30)
        assert "Traceback" not in said

        async def given_back() -> bool:
            listed = (await client.get("/v1/inbox", params={"status": "available"})).json()["events"]
            return [event["id"] for event in listed] == (ids if keep else [])

        await eventually(given_back)


async def test_a_tail_that_prints_longer_than_its_lease_prints_again(
    commands: Commands, client: httpx.AsyncClient, database: Database
) -> None:
    """The test does not read the output for a while, and the payload is larger than a pipe."""
    await client.post("/v1/events", json={"type": "a", "payload": "x" * 250_000})
    with tailing(commands) as tail:
        await eventually(partial(end_leases, database), 30)
        for _ in range(2):
            assert len(await line_of(tail)) > 250_000

        async def acknowledged() -> bool:
            return '"events":[]' in (await client.get("/v1/inbox")).text

        await eventually(acknowledged)
        assert tail.stderr
        assert "They may come again." in await asyncio.to_thread(tail.stderr.readline)


async def test_a_tail_gives_back_what_it_holds_beside_leases_that_have_ended(
    commands: Commands, client: httpx.AsyncClient, database: Database
) -> None:
    with tailing(commands, "--keep") as tail:
        ids = []
        for number in range(2):
            answer = await client.post("/v1/events", json={"type": "a", "payload": number})
            ids.append(answer.json()["id"])
            assert json.loads(await line_of(tail))["id"] == ids[-1]
            if number == 0:
                assert await end_leases(database)
                assert json.loads(await line_of(tail))["id"] == ids[0]
        tail.send_signal(signal.SIGINT)
        _, said = await asyncio.to_thread(tail.communicate, timeout=30)
        assert (tail.returncode, said) == (0, "")
        listed = (await client.get("/v1/inbox", params={"status": "available"})).json()["events"]
        assert [event["id"] for event in listed] == ids


async def end_leases(database: Database) -> bool:
    """Whether there were leases to end."""
    rows = await database.fetch(
        "update deliveries set due_at = now() where status = 'leased' and due_at > now() returning 1"
    )
    return len(rows) > 0


@pytest.mark.parametrize("keep", [False, True])
async def test_what_a_tail_could_not_print_is_given_back(
    commands: Commands, client: httpx.AsyncClient, keep: bool
) -> None:
    with tailing(commands, *["--keep"] * keep) as tail:
        await client.post("/v1/events", json={"type": "a", "payload": 1})
        assert json.loads(await line_of(tail))["payload"] == 1
        assert tail.stdout
        tail.stdout.close()
        await client.post("/v1/events", json={"type": "a", "payload": 2})
        assert await asyncio.to_thread(tail.wait, 30) == 1
        assert tail.stderr
        assert tail.stderr.read() == ""
        listed = (await client.get("/v1/inbox", params={"status": "available"})).json()["events"]
        assert [event["payload"] for event in listed] == [1, 2][not keep :]


@pytest.mark.parametrize("command", ["keys list --org default", "check --port 0", "inbox list", "--help"])
async def test_a_reader_that_went_away_is_no_fault(
    commands: Commands, client: httpx.AsyncClient, tenants: Tenants, command: str
) -> None:
    await tenants.make(name="default")
    await client.post("/v1/events", json={"type": "a", "payload": 1})
    with start(commands, *command.split()) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert await asyncio.to_thread(process.wait, 30) == 1
        assert process.stderr.read() == ""


@pytest.mark.parametrize("loaded", ["triggers.cli", "starlette", "uvloop", "rich.console"])
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
