"""Wrong arguments, wrong environments and full disks: commands print one line, never a traceback."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness import SECRET_KEYS, Node, Tenant, eventually, free_port

KEY = "zap_test_of-nobody"
FULL = "/dev/full"


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and "TRIGGERS" not in k}
    return {**kept, "TRIGGERS_API_KEY": KEY, **more}


def triggers(*arguments: str | bytes, env: dict[str, str], stdin: bytes = b"", **files: Any) -> Any:
    """Run `triggers …` as a process."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | files
    return subprocess.run(
        [sys.executable, "-m", "triggers", *arguments],
        env=env,
        input=stdin,
        timeout=60,
        check=False,
        **streams,
    )


def refusal(done: subprocess.CompletedProcess[bytes]) -> str:
    """The one line with which a command failed."""
    said = done.stderr.decode(errors="replace")
    assert done.returncode == 1, said
    assert said.startswith("triggers: "), said
    assert said.count("\n") == 1, said
    return said


@pytest.mark.parametrize(
    ("arguments", "env", "word"),
    [
        (["inbox", "list"], {"TRIGGERS_API_KEY": "zap_te\rst"}, "TRIGGERS_API_KEY"),
        (["inbox", "list"], {"TRIGGERS_API_KEY": "zap_é"}, "TRIGGERS_API_KEY"),
        (["inbox", "list"], {"TRIGGERS_URL": "nonsense"}, "TRIGGERS_URL"),
        (["inbox", "list"], {"TRIGGERS_URL": "http://[::1"}, "TRIGGERS_URL"),
        (["inbox", "list"], {"TRIGGERS_URL": "http://a..b"}, "TRIGGERS_URL"),
        (
            ["inbox", "list"],
            {"TRIGGERS_URL": "http://user:secret@127.0.0.1:1"},
            "http://127.0.0.1:1: Connection",
        ),
        (["inbox", "list"], {"SSL_CERT_FILE": "/nowhere"}, "SSL_CERT_FILE"),
        (
            ["inbox", "list"],
            {"TRIGGERS_URL": "http://elsewhere.invalid", "ALL_PROXY": "socks5://127.0.0.1:1"},
            "ALL_PROXY",
        ),
        (
            ["inbox", "list"],
            {"TRIGGERS_URL": "http://triggers.invalid", "HTTP_PROXY": "no://x"},
            "HTTP_PROXY",
        ),
        (["send", b"\xff", "/dev/stdin"], {}, "UTF-8"),
        (["events", "list", "--subject", b"\xff"], {}, "cannot be sent"),
        (["serve"], {"TRIGGERS_HOST": "a..b"}, "Cannot listen on a..b"),
        (["serve"], {"TRIGGERS_DATA_DIR": "~nobody-at-all/x"}, "TRIGGERS_DATA_DIR"),
        (["serve"], {"TRIGGERS_DATA_DIR": "/proc/nowhere"}, "/proc/nowhere"),
        (["serve"], {"TRIGGERS_DATABASE_URL_FILE": "/nowhere"}, "No such file"),
        (["serve"], {"TRIGGERS_DATABASE_URL_FILE": sys.executable}, "UTF-8"),
        (["serve"], {"TRIGGERS_OUTBOUND_PROXY": "http://proxy:port"}, "TRIGGERS_OUTBOUND_PROXY"),
        (["serve"], {"TRIGGERS_OUTBOUND_PROXY": "http://[::1"}, "TRIGGERS_OUTBOUND_PROXY"),
        (["worker"], {"TRIGGERS_DATA_DIR": "/nowhere"}, "TRIGGERS_DATABASE_URL"),
        (["worker"], {"TRIGGERS_DATA_DIR": "/nowhere"}, "TRIGGERS_DATA_DIR"),
    ],
)
def test_a_refusal_is_one_line(
    arguments: list[str | bytes], env: dict[str, str], word: str, tmp_path: Path
) -> None:
    settings = {"TRIGGERS_PORT": "0", "TRIGGERS_DATA_DIR": str(tmp_path), **env}
    if "TRIGGERS_DATABASE_URL_FILE" in env:
        del settings["TRIGGERS_DATA_DIR"]
    said = refusal(triggers(*arguments, env=environment(**settings), stdin=b"1"))
    assert word in said
    assert "hunter2" not in said
    assert env.get("TRIGGERS_API_KEY", KEY) not in said
    assert not re.search(r"Errno|Error\b|'\w+' codec", said), "the words of a library"


@pytest.mark.parametrize("parameter", ["://h:port", "://h?unknown=1", "://:hunter2/1@h"])
def test_a_redis_url_that_the_client_refuses(parameter: str, tmp_path: Path) -> None:
    env = environment(
        TRIGGERS_REDIS_URL=f"redis{parameter}", TRIGGERS_DATA_DIR=str(tmp_path), TRIGGERS_PORT="0"
    )
    done = triggers("check", env=env)
    assert b"TRIGGERS_REDIS_URL must be" in done.stdout
    assert b"hunter2" not in done.stdout
    assert refusal(done) == "triggers: The check found errors; they are listed above.\n"


@pytest.fixture
def local(node: Node, tenant: Tenant) -> dict[str, str]:
    """The environment variables with which commands reach the node."""
    return environment(TRIGGERS_URL=node.url, TRIGGERS_API_KEY=tenant.key)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "http://127.0.0.1:1", "nonsense://x"])
async def test_no_proxy_stands_before_a_local_service(local: dict[str, str], proxy: str) -> None:
    for name in ("ALL_PROXY", "HTTP_PROXY", "https_proxy"):
        local[name] = proxy
    done = await asyncio.to_thread(triggers, "inbox", "list", "--json", env=local)
    assert (done.returncode, done.stderr) == (0, b"")


async def test_a_key_that_ends_with_a_line_break_is_a_key(local: dict[str, str]) -> None:
    local["TRIGGERS_API_KEY"] += "\r"
    done = await asyncio.to_thread(triggers, "inbox", "list", "--json", env=local)
    assert (done.returncode, done.stderr) == (0, b"")


async def test_a_byte_order_mark_is_skipped(
    local: dict[str, str], client: httpx.AsyncClient, tmp_path: Path
) -> None:
    file = tmp_path / "payloads"
    for content, more in (("\ufeff[1]", []), ("\ufeff[2]\n\n[3]\n", ["--ndjson"])):
        file.write_text(content, encoding="utf-8")
        for source, stdin in ((str(file), b""), ("-", content.encode())):
            done = await asyncio.to_thread(triggers, "send", "a", source, *more, env=local, stdin=stdin)
            assert done.returncode == 0, done.stderr
    payloads = [event["payload"] for event in (await client.get("/v1/inbox")).json()["events"]]
    assert payloads == [[1], [1], [2], [3], [2], [3]]


@contextmanager
def another_server(status: int, content_type: str, body: bytes) -> Iterator[str]:
    """A server that gives every request the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("location", "https://elsewhere.invalid/")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_DELETE = do_GET  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    "answer",
    [
        (200, "text/html", b"<html>Welcome"),
        (301, "text/html", b"<html>Moved"),
        (502, "text/html", b"<html>Bad gateway"),
        (200, "application/json", b"{}"),
        (200, "application/json", b"[]"),
        (200, "application/json", b"{"),
        (404, "application/json", b'["no"]'),
    ],
)
def test_another_server_is_not_taken_for_the_service(answer: tuple[int, str, bytes]) -> None:
    with another_server(*answer) as url:
        for command in ("inbox list", "replays list", "replays cancel x"):
            said = refusal(triggers(*command.split(), env=environment(TRIGGERS_URL=url)))
            assert "does not come from Triggers. Check --url or TRIGGERS_URL." in said
            assert "<html>" not in said


ESCAPES = "\x1b]0;owned\x07\x9b2J\u202e"


@pytest.mark.parametrize("status", [200, 403])
def test_what_a_hostile_server_answers_does_nothing_to_the_terminal(status: int) -> None:
    """Neither in a table, nor in details, JSON or an error."""
    ids = {"id": ESCAPES, "event_id": ESCAPES, "subscription_id": ESCAPES}
    item = dict.fromkeys(("type", "created_at", "subject", "source", "dedup_id", "ordering_key"), ESCAPES)
    problem = {"detail": ESCAPES, "errors": [{"pointer": ESCAPES, "detail": ESCAPES}]}
    answer = {"events": [ids | item | {"payload_size": 1}], "next_cursor": None, ESCAPES: ESCAPES, **problem}
    with another_server(status, "application/json", json.dumps(answer).encode()) as url:
        for command in ("events list", "orgs show", "events list --json"):
            done = triggers(*command.split(), env=environment(TRIGGERS_URL=url))
            shown = (done.stdout + done.stderr).decode()
            assert done.returncode == (0 if status == 200 else 1), shown
            assert "owned" in shown
            assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown), shown


@pytest.mark.parametrize("command", ["version", "routes", "--help", "check"])
def test_output_on_a_full_disk(command: str, tmp_path: Path) -> None:
    env = environment(TRIGGERS_DATA_DIR=str(tmp_path), TRIGGERS_PORT="0")
    with Path(FULL).open("wb") as full:
        assert "No space left on device" in refusal(triggers(command, env=env, stdout=full))
        assert triggers(command, env=env, stdout=full, stderr=full).returncode == 1


@pytest.mark.parametrize(
    ("command", "code"), [("version <&- >&- 2>&-", 0), ("send a <&-", 1), ("db url 2>&-", 0)]
)
def test_closed_streams(command: str, code: int) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'"{sys.executable}" -m triggers {command}'],
        env=environment(TRIGGERS_DATABASE_URL="postgresql://127.0.0.1/x"),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code, done
    assert b"Traceback" not in done.stderr


async def test_a_character_that_the_output_cannot_encode_is_escaped(database_url: str) -> None:
    env = environment(TRIGGERS_DATABASE_URL=database_url, PYTHONIOENCODING="ascii")
    del env["TRIGGERS_API_KEY"]
    for command in (("orgs", "create", "é"), ("keys", "create", "--org", "é"), ("orgs", "list")):
        done = await asyncio.to_thread(triggers, *command, env=env)
        assert done.returncode == 0, done.stderr
    assert b" \\xe9 " in done.stdout


def test_an_unknown_variable_is_named_with_what_it_may_have_meant() -> None:
    of_kubernetes = {
        "TRIGGERS_SERVICE_HOST": "10.0.0.7",
        "TRIGGERS_PORT": "tcp://10.0.0.7:80",
        "TRIGGERS_PORT_80_TCP_ADDR": "10.0.0.7",
    }
    env = environment(TRIGGERS_APIKEY="x", TRIGGERS_FROBNICATE="", **of_kubernetes)
    for command in ("version", "check"):
        done = triggers(command, env=env)
        assert done.returncode == 0
        assert done.stderr.decode().splitlines() == [
            "triggers: TRIGGERS_APIKEY is not a setting, so it is ignored. Did you mean TRIGGERS_API_KEY?",
            "triggers: TRIGGERS_FROBNICATE is not a setting, so it is ignored.",
        ]
    assert b" port=8080 " in done.stdout


@contextmanager
def api(database_url: str, log: str | Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run `triggers api`, which logs to this file; yield its URL and its process."""
    port = free_port()
    env = environment(TRIGGERS_DATABASE_URL=database_url, TRIGGERS_SECRET_KEYS=SECRET_KEYS)
    command = [sys.executable, "-m", "triggers", "api", "--port", str(port)]
    with Path(log).open("wb") as stderr, subprocess.Popen(command, env=env, stderr=stderr) as process:
        try:
            yield f"http://127.0.0.1:{port}", process
        finally:
            process.terminate()


async def answers(url: str) -> bool:
    try:
        async with httpx.AsyncClient() as client:
            return (await client.get(f"{url}/readyz")).status_code == 200
    except httpx.TransportError:
        return False


async def test_a_service_whose_log_is_on_a_full_disk_goes_on(tenant: Tenant, database_url: str) -> None:
    with api(database_url, FULL) as (url, process):
        await eventually(lambda: answers(url), 30)
        async with httpx.AsyncClient(headers={"authorization": f"Bearer {tenant.key}"}) as client:
            for _ in range(3):  # each request has a line in the log
                assert (await client.get(f"{url}/v1/org")).status_code == 200
        process.terminate()
        assert await asyncio.to_thread(process.wait, 30) == 0


async def test_without_a_data_directory_the_command_that_makes_a_key_is_printed(
    database_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with api(database_url, log) as (url, _):

        async def printed() -> list[str]:
            return re.findall(r"^ *triggers (keys create .*)$", log.read_text(), re.MULTILINE)

        (command,) = await eventually(printed, 30)
        assert "zap_" not in log.read_text()
        env = environment(TRIGGERS_DATABASE_URL=database_url)
        del env["TRIGGERS_API_KEY"]
        done = await asyncio.to_thread(triggers, *command.split(), "--json", env=env)
        assert done.returncode == 0, done.stderr
        key = json.loads(done.stdout)["key"]
        async with httpx.AsyncClient(headers={"authorization": f"Bearer {key}"}) as client:
            assert (await client.get(f"{url}/v1/org")).json()["name"] == "default"
