"""Real processes: `triggers serve` and the PostgreSQL under it, started, killed and cleaned up by number."""

from __future__ import annotations

import http.client
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import psutil

from harness import SECRET_KEYS, free_port

from .wire import Client

TRIGGERS = Path(sys.executable).with_name("triggers")
T = TypeVar("T")
_numbers = itertools.count(1)


def wait_for(condition: Callable[[], T], seconds: float, what: str) -> T:
    """Return what the condition returns once that is true; fail at the deadline, saying for what."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"no {what} within {seconds:g} seconds"
        time.sleep(0.01)
    return found


def ask(port: int, path: str, key: str | None = None, body: Any = None, method: str | None = None) -> Any:
    """One request outside any event loop: the status and the decoded JSON, or None for no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    if body is not None:
        headers["Content-Type"] = "application/json"
    try:
        connection.request(
            method or ("GET" if body is None else "POST"),
            path,
            None if body is None else msgspec.json.encode(body),
            headers,
        )
        answer = connection.getresponse()
        text = answer.read()
        is_json = "json" in answer.headers.get("content-type", "")
        return answer.status, msgspec.json.decode(text) if is_json else text
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


class Service:
    """One `triggers serve`, which may be started and ended many times on its port and its data.

    With `database_url` it is a `triggers api`, a further node on a PostgreSQL that is someone else's.
    """

    def __init__(self, place: Path, name: str = "serve", database_url: str | None = None) -> None:
        self.place = place
        self.port = free_port()
        self.data_dir = place / f"{name}-data"
        self.log = place / f"{name}.log"
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("TRIGGERS_", "PG"))},
            "TRIGGERS_LOG_FORMAT": "json",
        }
        if database_url is None:
            self._command = "serve"
            self.environment["TRIGGERS_DATA_DIR"] = str(self.data_dir)
        else:
            self._command = "api"
            self.environment["TRIGGERS_DATABASE_URL"] = database_url
            self.environment["TRIGGERS_SECRET_KEYS"] = SECRET_KEYS
        self.process: subprocess.Popen[bytes] | None = None
        self.orphans: list[psutil.Process] = []
        self._admin_key: str | None = None
        self._said_before = 0

    # ---- life and death --------------------------------------------------------------------------

    def launch(self, *flags: str) -> subprocess.Popen[bytes]:
        """Start the process, and wait for nothing."""
        self._said_before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [TRIGGERS, self._command, "--port", str(self.port), *flags],
                env=self.environment,
                cwd=self.place,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self.process

    def start(self, *flags: str, seconds: float = 40) -> float:
        """Start it; return after how many seconds it was ready."""
        began = time.monotonic()
        self.launch(*flags)
        self.wait_ready(seconds)
        return time.monotonic() - began

    def wait_ready(self, seconds: float = 40) -> None:
        """Wait until it says so, on /readyz and in words; fail at once if the process has ended."""

        def ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, f"serve ended with {self.process.returncode}:\n{self.said()}"
            answer = ask(self.port, "/readyz")
            return answer is not None and answer[0] == 200 and "answers on" in self.said()

        wait_for(ready, seconds, "ready service")

    def kill(self) -> None:
        """SIGKILL. Its children, PostgreSQL aside, become `orphans`, who have to notice it by themselves."""
        assert self.process is not None
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.process.pid).children()
            self.orphans += [child for child in children if child.name() != "postgres"]
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 40) -> int:
        """SIGTERM; return the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(seconds)

    def close(self) -> None:
        """Leave nothing behind, whatever state it is in."""
        if self.process is not None:
            self.kill()
        for orphan in self.orphans:
            with suppress(psutil.NoSuchProcess):
                orphan.kill()
        if (postmaster := self.postmaster_pid()) is not None:
            self.signal_postgres(signal.SIGCONT)  # a stopped one would not notice
            with suppress(ProcessLookupError):
                os.kill(postmaster, signal.SIGQUIT)
        deadline = time.monotonic() + 10
        while self.postgres_processes():
            if time.monotonic() > deadline:
                self.signal_postgres(signal.SIGKILL)
            time.sleep(0.02)

    def signal_postgres(self, number: signal.Signals) -> None:
        """Send a signal to every process of PostgreSQL."""
        for process in self.postgres_processes():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    # ---- what is where ---------------------------------------------------------------------------

    def api_pid(self) -> int | None:
        """The process that listens: `serve` itself, or a child of it; None while there is none."""
        assert self.process is not None
        serve = psutil.Process(self.process.pid)
        for process in (serve, *serve.children(recursive=True)):
            with suppress(psutil.Error):
                for connection in process.net_connections("tcp"):
                    if connection.status == psutil.CONN_LISTEN and connection.laddr.port == self.port:
                        return process.pid
        return None

    def living_orphans(self) -> list[psutil.Process]:
        """Children of killed processes that have not noticed yet."""
        found = []
        for orphan in self.orphans:
            with suppress(psutil.NoSuchProcess):
                if orphan.is_running() and orphan.status() != psutil.STATUS_ZOMBIE:
                    found.append(orphan)
        return found

    def postmaster_pid(self) -> int | None:
        """The living postmaster that the data directory names."""
        living = {process.pid for process in self.postgres_processes()}
        with suppress(FileNotFoundError, ValueError, IndexError):
            named = int((self.data_dir / "postgresql/cluster/postmaster.pid").read_text().split()[0])
            return named if named in living else None
        return None

    def postgres_processes(self) -> list[psutil.Process]:
        """PostgreSQL's processes that work in the data directory."""
        found = []
        for process in psutil.process_iter(["name"]):
            with suppress(psutil.Error):
                if process.info["name"] == "postgres" and process.cwd().startswith(f"{self.data_dir}/"):
                    found.append(process)
        return found

    def said(self) -> str:
        """What it wrote since it was started last."""
        with self.log.open("rb") as log:
            log.seek(self._said_before)
            return log.read().decode(errors="replace")

    # ---- the command line, and tenants -----------------------------------------------------------

    def command(self, *arguments: str, seconds: float = 30) -> subprocess.CompletedProcess[str]:
        """Another `triggers` command with the same environment."""
        return subprocess.run(
            [TRIGGERS, *arguments],
            env=self.environment,
            cwd=self.place,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def database_url(self) -> str:
        """The URL that `triggers db url` prints."""
        asked = self.command("db", "url")
        assert asked.returncode == 0, asked.stderr
        return asked.stdout.strip()

    def first_key(self) -> str:
        """The key that the first run wrote to a file, because its output was not a terminal."""
        return (self.data_dir / "first-key").read_text().strip()

    def admin_key(self) -> str:
        """A key with the scope `admin`, of the organisation of the first run."""
        if self._admin_key is None:
            made = self.command("keys", "create", "--org", "default", "--scope", "admin", "--json")
            assert made.returncode == 0, made.stderr
            self._admin_key = str(msgspec.json.decode(made.stdout)["key"])
        return self._admin_key

    def tenant(self, plan: str = "enterprise", **more: Any) -> str:
        """A key of a new organisation."""
        admin = self.admin_key()
        name = f"org {os.getpid()} {next(_numbers)}"
        status, org = ask(self.port, "/v1/admin/orgs", admin, {"name": name, "plan": plan, **more})
        assert status == 201, org
        status, key = ask(self.port, f"/v1/admin/orgs/{org['id']}/keys", admin, {})
        assert status == 201, key
        return str(key["key"])

    def client(self, key: str | None, *, timeout: float = 30) -> Client:
        """A client of one connection."""
        return Client(self.port, key, timeout=timeout)
