"""The processes of a run, and what CPU time they used. Each is ended by its own number."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import psutil

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent
_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """A run cannot be made, or did not do what it was to measure."""


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], T], seconds: float, what: str) -> T:
    """Return what the condition returns once that is true; fail at the deadline, saying for what."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise BenchError(f"No {what} within {seconds:g} seconds.")
        time.sleep(0.02)
    return found


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def program(name: str, package: str) -> str:
    """The path of a program that a Debian package brings."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise BenchError(f"{name} is needed: apt-get install {package}")
    return found


@contextmanager
def place() -> Iterator[Path]:
    """A temporary directory that anyone may enter: root runs PostgreSQL and nginx as other users."""
    path = Path(tempfile.mkdtemp(prefix="triggers-bench-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def clean_up_when_terminated() -> None:
    """Make SIGTERM an exit like any other: otherwise a PostgreSQL would be left behind."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def end(process: subprocess.Popen[bytes], seconds: float = 10) -> None:
    """Ask it to stop, then insist."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time of a process and of the children that it has outlived."""
    with suppress(OSError):
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) * _TICK_SECONDS
    return 0.0


def fill(service: Service, key: str, events: int, kind: str = "bench.filled") -> None:
    """Have so many events accepted, in batches."""
    for begun in range(0, events, 1000):
        batch = [
            {"type": kind, "payload": {"n": number, "text": "x" * 150}}
            for number in range(begun, min(begun + 1000, events))
        ]
        answer = service.must("POST", "/v1/events/batch", batch, key)
        if refused := [item for item in answer["results"] if item["status"] != 201]:
            raise BenchError(f"{len(refused)} of a batch were refused: {refused[0]}")


class Cpu(NamedTuple):
    """CPU seconds used so far; subtract an earlier one."""

    api: float
    worker: float
    postgres: float

    def since(self, earlier: Cpu) -> Cpu:
        return Cpu(*[now - then for now, then in zip(self, earlier, strict=True)])

    def per(self, events: float) -> dict[str, float]:
        """Microseconds for each of so many events, by process."""
        each = {name: seconds / max(events, 1) * 1e6 for name, seconds in self._asdict().items()}
        return {f"{name} µs": micros for name, micros in each.items()}


@contextmanager
def noop(kind: str = "plain") -> Iterator[tuple[str, psutil.Process]]:
    """The no-op app under `plain` uvicorn or `ours`; yields its URL and process."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.noop", str(port), kind])
    try:
        wait_for(lambda: answers(port), 10, "no-op app")
        yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)
    finally:
        end(process)


class Service:
    """`triggers serve` as anyone would start it, in a directory of its own, with its private PostgreSQL.

    With the setting `database_url` it is `triggers api`, on a PostgreSQL that somebody else runs.
    """

    def __init__(self, home: Path, *, checkout: Path = ROOT, **settings: str) -> None:
        """`checkout` is the directory whose code runs, in its own `.venv` if it has one."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data_dir = home / "data"
        self._log = home / "serve.log"
        self._python = _interpreter(checkout)
        self._role = "api" if "database_url" in settings else "serve"
        if self._role == "serve":
            settings["data_dir"] = str(self.data_dir)
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("TRIGGERS_", "PG"))},
            "PYTHONPATH": str(checkout / "src"),
            "TRIGGERS_LOG_FORMAT": "json",
            **{f"TRIGGERS_{name.upper()}": value for name, value in settings.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.key = ""
        self._admin_key = ""
        self._made = 0

    def __enter__(self) -> Service:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [self._python, "-m", "triggers", self._role, "--port", str(self.port)],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            wait_for(self._ready, 60, "ready service")
            made = self.command("keys", "create", "--org", "default", "--json")
            self.key = msgspec.json.decode(made)["key"]
            self.database_url = self.command("db", "url")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        postgres = self.postgres()
        end(self._process, 20)
        for process in postgres:  # only what a serve that had to be killed left behind
            with suppress(psutil.Error):
                process.send_signal(signal.SIGQUIT)
        psutil.wait_procs(postgres, 10)

    def _ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise BenchError(f"serve ended with {self._process.returncode}:\n{self._log.read_text()[-4000:]}")
        answer = self.ask("GET", "/readyz", key=None)
        return answer is not None and answer[0] == 200 and "answers on" in self._log.read_text()

    # ---- asking it -------------------------------------------------------------------------------

    def command(self, *arguments: str) -> str:
        """What another `triggers` command prints."""
        done = subprocess.run(
            [self._python, "-m", "triggers", *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if done.returncode:
            raise BenchError(f"triggers {' '.join(arguments)}: {done.stderr}")
        return done.stdout.strip()

    def ask(self, method: str, path: str, body: Any = None, key: str | None = "") -> tuple[int, Any] | None:
        """Send one request, by default with the service's key. Returns None if there is no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key or self.key}"
        try:
            connection.request(method, path, None if body is None else msgspec.json.encode(body), headers)
            answer = connection.getresponse()
            text = answer.read()
            is_json = "json" in answer.headers.get("content-type", "")
            return answer.status, msgspec.json.decode(text) if is_json else text
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def must(self, method: str, path: str, body: Any = None, key: str | None = "") -> Any:
        """The decoded answer of a request that succeeds."""
        answer = self.ask(method, path, body, key)
        if answer is None or answer[0] >= 300:
            raise BenchError(f"{method} {path}: {answer}")
        return answer[1]

    def organisation(self, plan: str = "enterprise") -> str:
        """A key of a new organisation, by default one without limits."""
        if not self._admin_key:
            made = self.command("keys", "create", "--org", "default", "--scope", "admin", "--json")
            self._admin_key = msgspec.json.decode(made)["key"]
        self._made += 1
        made_org = {"name": f"bench {self._made}", "plan": plan}
        org = self.must("POST", "/v1/admin/orgs", made_org, self._admin_key)
        key = self.must("POST", f"/v1/admin/orgs/{org['id']}/keys", {}, self._admin_key)
        return str(key["key"])

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[bytes]]:
        """One more `triggers worker` on the same database."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [self._python, "-m", "triggers", "worker"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            end(process)

    # ---- what it costs ---------------------------------------------------------------------------

    def cpu(self) -> Cpu:
        """CPU seconds so far. PostgreSQL is everything that works in the data directory."""
        python = self.family()
        api = cpu_seconds(python[0])
        return Cpu(api, sum(map(cpu_seconds, python[1:])), sum(map(cpu_seconds, self.postgres())))

    def family(self) -> list[psutil.Process]:
        """The process that was started, then its others, without PostgreSQL."""
        assert self._process is not None
        serve = psutil.Process(self._process.pid)
        return [serve, *[each for each in serve.children(recursive=True) if not _is_postgres(each)]]

    def api_memory_mib(self) -> dict[str, float]:
        """Resident memory of the process that answers requests, now and at its highest, in MiB."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", status, re.MULTILINE))
        return {"now": int(found["VmRSS"]) / 1024, "highest": int(found["VmHWM"]) / 1024}

    def postgres(self) -> list[psutil.Process]:
        """The processes of its private PostgreSQL."""
        return postgres_processes(self.data_dir)


def postgres_processes(data_dir: Path) -> list[psutil.Process]:
    """The processes of the PostgreSQL whose data lies there."""
    found = []
    for process in psutil.process_iter(["name"]):
        with suppress(psutil.Error):
            if process.info["name"] == "postgres" and process.cwd().startswith(f"{data_dir}/"):
                found.append(process)
    return found


def _interpreter(checkout: Path) -> str:
    own = checkout / ".venv/bin/python"
    return str(own) if own.exists() else sys.executable


def _is_postgres(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return bool(process.name() == "postgres")
    return True
