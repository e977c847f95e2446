"""From nothing to an acknowledged event, as a newcomer does it; restarts, stops, and what goes wrong."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import asyncpg
import msgspec
import psutil
import pytest

from triggers.cli.demo import Receiver

from .processes import TRIGGERS, Service, ask, wait_for


def test_the_printed_curl_is_accepted_listed_and_acknowledged(
    launch: Callable[..., Service], note: Callable[[str], None]
) -> None:
    service = launch(fresh=True)
    note(f"first start to ready: {service.start():.1f} s")
    key = service.first_key()
    assert key not in service.log.read_text(), "a log is kept, and read by many"
    assert f"is in {service.data_dir}/first-key\n" in service.said()
    assert (service.data_dir / "first-key").stat().st_mode & 0o777 == 0o600

    (curl,) = re.findall(r"^ *(curl .*)$", service.said(), re.MULTILINE)
    pasted = subprocess.run(["/bin/sh", "-c", curl], capture_output=True, text=True, check=True, timeout=20)
    assert pasted.stdout.startswith("HTTP/1.1 201 ")
    event_id = msgspec.json.decode(pasted.stdout.rpartition("\n")[2])["id"]

    _, listed = ask(service.port, "/v1/inbox", key)
    assert [(each["id"], each["type"], each["payload"]) for each in listed["events"]] == [
        (event_id, "hello.world", {"n": 1})
    ]
    status, acked = ask(service.port, "/v1/ack", key, {"event_ids": [event_id]})
    assert (status, acked["acknowledged"]) == (200, 1)
    assert ask(service.port, "/v1/inbox", key)[1]["events"] == []

    # What is there outlives a restart; the key is the same, and none is printed again.
    _, kept = ask(service.port, "/v1/events", key, {"type": "kept", "payload": 1.50})
    assert service.stop() == 0
    assert service.postgres_processes() == []
    note(f"restart to ready: {service.start():.1f} s")
    assert "first-key" not in service.said()
    assert "curl" not in service.said()
    _, listed = ask(service.port, "/v1/inbox", key)
    assert [each["id"] for each in listed["events"]] == [kept["id"]]
    assert service.stop() == 0


def test_a_terminal_shows_the_key(launch: Callable[..., Service]) -> None:
    service = launch()
    ours, theirs = pty.openpty()
    with (
        open(ours, "rb", buffering=0) as terminal,
        subprocess.Popen(
            [TRIGGERS, "serve", "--port", str(service.port)],
            env=service.environment,
            stdin=subprocess.DEVNULL,
            stderr=theirs,
        ) as service.process,
    ):
        os.close(theirs)
        said = b""
        while not re.search(rb"/console/link\?token=[\w-]{43}\r\n", said):
            said += terminal.read(4096)
        assert said.index(b"curl") < said.index(b"/console/link?token=")
        key = re.search(rb"zap_test_[\w-]{43}", said)
        assert key
        assert ask(service.port, "/v1/org", key[0].decode())[0] == 200
        for _ in range(2):
            environment = {**service.environment, "TRIGGERS_URL": f"http://127.0.0.1:{service.port}"}
            console = [TRIGGERS, "console", "--print"]
            link = subprocess.run(
                console, env=environment, capture_output=True, text=True, timeout=60, check=False
            )
            assert re.fullmatch(
                rf"http://127\.0\.0\.1:{service.port}/console/link\?token=[\w-]{{43}}\n", link.stdout
            ), link.stderr
        _, listed = ask(service.port, "/v1/keys", key[0].decode())
        assert [each["name"] for each in listed["data"]] == ["first key", "console"]
        assert not (service.data_dir / "first-key").exists()
        service.process.terminate()


def test_a_terminal_shows_requests_and_deliveries(launch: Callable[..., Service]) -> None:
    service, receiver = launch(), Receiver()
    del service.environment["TRIGGERS_LOG_FORMAT"]
    ours, theirs = pty.openpty()
    said = bytearray()

    def listen() -> None:
        with suppress(OSError):  # of a terminal that nobody has open any more
            while True:
                said.extend(os.read(ours, 65_536))

    def shown(pattern: str) -> re.Match[str] | None:
        return re.search(pattern, re.sub(r"\x1b\[\d*m", "", said.decode(errors="replace")))

    command = [TRIGGERS, "serve", "--dev", "--port", str(service.port)]
    with subprocess.Popen(
        command, env=service.environment, stdin=subprocess.DEVNULL, stderr=theirs
    ) as service.process:
        os.close(theirs)
        listener = threading.Thread(target=listen)
        listener.start()
        found = wait_for(lambda: shown(r"zap_test_[\w-]{43}"), 40, "key")
        hook = {"target_url": receiver.url, "name": "billing"}
        assert ask(service.port, "/v1/subscriptions", found[0], hook)[0] == 201
        for number in range(60):
            assert ask(service.port, "/v1/events", found[0], {"type": "a", "payload": number})[0] == 201
        wait_for(lambda: shown(r"\nPOST /v1/events 201 \d+ ms\r\n"), 10, "line of a request")
        wait_for(lambda: shown(r"\n→ billing 204 \d+ ms\r\n"), 10, "line of a delivery")
        wait_for(lambda: shown(r"… and \d+ × POST /v1/events 201"), 10, "sum of requests")
        assert not shown("request_id")
        service.process.terminate()
    listener.join(10)
    receiver.stop()


def test_commands_work_beside_a_running_serve(shared: Service) -> None:
    def run(*arguments: str) -> str:
        done = shared.command(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    made = msgspec.json.decode(run("orgs", "create", "beside", "--json"))
    assert made["plan"] == "free"
    assert "beside" in run("orgs", "list")
    run("orgs", "set-plan", "beside", "business")

    key = msgspec.json.decode(run("keys", "create", "--org", "beside", "--live", "--json"))
    assert key["key"].startswith("zap_live_")
    status, org = ask(shared.port, "/v1/org", key["key"])
    assert status == 200
    assert "beside" in str(org)
    assert "business" in str(org)

    run("keys", "revoke", key["id"], "--org", "beside")
    wait_for(lambda: ask(shared.port, "/v1/org", key["key"])[0] == 401, 2, "refusal of the revoked key")
    listed = msgspec.json.decode(run("keys", "list", "--org", "beside", "--json"))
    assert listed["id"] == key["id"]

    assert run("db", "url").startswith("postgresql://")
    assert "no pending migrations" in run("migrate")
    assert "ok" in run("check")
    wrong = shared.command("keys", "create", "--org", "nobody")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)


def test_a_second_signal_hurries(launch: Callable[..., Service]) -> None:
    """A request that never ends holds up the first SIGTERM, and not the second."""
    service = launch()
    service.start()
    key = service.first_key()
    assert service.process is not None
    with closing(socket.create_connection(("127.0.0.1", service.port), timeout=10)) as slow:
        head = (
            f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
            "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
        )
        slow.sendall(head.encode())
        assert ask(service.port, "/livez")[0] == 200, "it has been read before this was answered"
        service.process.terminate()
        wait_for(lambda: ask(service.port, "/livez") is None, 10, "end of listening")
        assert service.process.poll() is None, "it waits for the request in flight"
        began = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(10) == 0
        assert time.monotonic() - began < 10
    wait_for(lambda: not service.postgres_processes(), 5, "end of PostgreSQL")


def assert_refused(service: Service, *words: str, flags: tuple[str, ...] = ()) -> None:
    """It ends by itself with exit code 1, and one line that says why."""
    process = service.launch(*flags)
    assert process.wait(30) == 1, service.said()
    lines = [line for line in service.said().splitlines() if not line.startswith("{")]
    assert len(lines) == 1, lines
    for word in words:
        assert word in lines[0]


def test_a_demo_that_is_terminated_leaves_nothing_running() -> None:
    demo = subprocess.Popen([TRIGGERS, "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "the API listens on" in line:
                break
        started = psutil.Process(demo.pid).children(recursive=True)
        assert "postgres" in {process.name() for process in started}
        data_dir = Path(started[0].environ()["TRIGGERS_DATA_DIR"])
        demo.terminate()
        _, said = demo.communicate(timeout=40)
    finally:
        demo.kill()
    assert demo.returncode == 143, said
    assert "Traceback" not in said
    wait_for(lambda: not any(process.is_running() for process in started), 10, "end of its processes")
    assert not data_dir.exists()


def test_a_port_in_use(shared: Service, launch: Callable[..., Service]) -> None:
    other = launch(fresh=True)
    assert_refused(other, f"port {shared.port}", "in use", flags=("--port", str(shared.port)))
    assert not other.data_dir.exists(), "nothing was begun"


def test_a_data_directory_in_use(shared: Service, launch: Callable[..., Service]) -> None:
    other = launch()
    assert shared.process is not None
    assert_refused(
        other,
        str(shared.data_dir),
        f"process {shared.process.pid}",
        flags=("--data-dir", str(shared.data_dir)),
    )
    assert ask(shared.port, "/readyz")[0] == 200


async def test_a_newer_schema(launch: Callable[..., Service]) -> None:
    service = launch()
    service.start()
    connection = await asyncpg.connect(service.database_url())
    await connection.execute("insert into schema_migrations values (9999, 'from the future', now())")
    await connection.close()

    def notices() -> bool:
        """The result of the check is kept for half a second, so the first answer may be an old one."""
        status, answer = ask(service.port, "/readyz")
        return status == 503 and "9999" in answer["checks"]["database"]

    wait_for(notices, 10, "a node that is not ready")
    assert service.stop() == 0
    assert_refused(service, "9999", "newer version")
    assert service.postgres_processes() == []


@pytest.mark.parametrize("flags", [("--port", "70000"), ("--log-format", "loud"), ("--dedup-window", "soon")])
def test_a_bad_setting(launch: Callable[..., Service], flags: tuple[str, str]) -> None:
    assert_refused(launch(), flags[1], flags=flags)
