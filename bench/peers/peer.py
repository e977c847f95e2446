"""What is the same for every peer: where it runs, how it is asked, and what its processes use."""

from __future__ import annotations

import http.client
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import asyncpg
import msgspec
import psutil
import redis

from bench.cluster import cluster
from bench.processes import BenchError, answers, cpu_seconds, end, postgres_processes, wait_for

NUMBER = "NUMBER"
"""Stands in a body where the number of the event belongs. A peer delivers `{"probe":<number>}`."""


class Tenant(NamedTuple):
    """How events are posted for one tenant, whose events go to one URL or nowhere."""

    path: str
    headers: Mapping[str, str]
    body: str


class Place(NamedTuple):
    """A fresh home for one peer. Each of the servers is for this peer alone."""

    home: Path
    database_url: str
    data_dir: Path


class Running(Protocol):
    """A peer that answers."""

    place: Place
    port: int
    accepted: int

    def tenant(self, url: str | None) -> Tenant:
        """Make a tenant whose events are delivered to the URL, or to nobody."""

    def processes(self) -> Mapping[str, Sequence[psutil.Process]]:
        """Its processes, by what they do."""

    async def durability(self) -> Mapping[str, str]:
        """What its stores say of how they write."""


class Peer(Protocol):
    """One of the services."""

    name: str
    programs: Mapping[str, str]
    """Environment variables that name its programs, with what each of them is."""
    promise: str
    """What its answer to an event means."""
    events: str
    """The table in its PostgreSQL that has one row for each event."""
    stores_unmatched: bool
    """Whether it stores an event that goes to nobody."""

    def start(self, home: Path) -> AbstractContextManager[Running]:
        """Start it with its stores; end all of it afterwards."""


@contextmanager
def place(home: Path) -> Iterator[Place]:
    """A PostgreSQL for one peer, with its files in the home."""
    with cluster(home) as own:
        yield Place(home, own.url, home / "cluster")


def missing(peer: Peer) -> str:
    """Why the peer cannot be measured: the variables that name no program. Empty if it can."""
    absent = [
        f"{variable} ({what})"
        for variable, what in peer.programs.items()
        if not os.access(os.environ.get(variable, ""), os.X_OK)
    ]
    return f"set {', '.join(absent)} to the path of its program" if absent else ""


def path_of(variable: str) -> str:
    """The absolute path of the program that a variable names."""
    return str(Path(os.environ[variable]).resolve())


@contextmanager
def process(
    place: Place, command: Sequence[str], settings: Mapping[str, str], port: int
) -> Iterator[psutil.Process]:
    """A server that listens on the port, with these settings in its environment and a log in its home."""
    log = place.home / f"{Path(command[0]).name}-{port}.log"
    with log.open("wb") as file:
        started = subprocess.Popen(
            list(command),
            cwd=place.home,
            env={"PATH": os.environ["PATH"], "HOME": str(place.home), "LANG": "C.UTF-8", **settings},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        wait_for(lambda: answers(port) or started.poll() is not None, 90, f"answer of {command[0]}")
        if started.poll() is not None:
            raise BenchError(f"{command[0]} ended with {started.returncode}: {log.read_text()[-3000:]}")
        yield psutil.Process(started.pid)
    finally:
        with suppress(psutil.Error):
            children = psutil.Process(started.pid).children(recursive=True)
            end(started)
            for child in children:
                with suppress(psutil.Error):
                    child.kill()


def command(place: Place, arguments: Sequence[str], settings: Mapping[str, str]) -> str:
    """What a program prints that ends by itself."""
    done = subprocess.run(
        list(arguments),
        cwd=place.home,
        env={"PATH": os.environ["PATH"], "HOME": str(place.home), **settings},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"{' '.join(arguments)}: {done.stdout[-1500:]}{done.stderr[-1500:]}")
    return done.stdout


def ask(port: int, method: str, path: str, headers: Mapping[str, str], body: Any = None) -> Any:
    """The decoded answer of a request that succeeds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, None if body is None else msgspec.json.encode(body), dict(headers))
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    if answer.status >= 300:
        raise BenchError(f"{method} {path}: {answer.status} {text[:1000]!r}")
    return msgspec.json.decode(text) if text else None


def answers_with(port: int, path: str) -> bool:
    """Whether a GET of the path succeeds."""
    with suppress(BenchError, OSError, http.client.HTTPException, msgspec.DecodeError):
        ask(port, "GET", path, {})
        return True
    return False


async def postgres_durability(place: Place) -> dict[str, str]:
    """What PostgreSQL says: the server's settings, and whether a database or role has one of its own."""
    connection = await asyncpg.connect(place.database_url)
    try:
        names = ("server_version", "fsync", "synchronous_commit", "full_page_writes")
        found = {name: await connection.fetchval("select current_setting($1)", name) for name in names}
        own = await connection.fetchval("select string_agg(setconfig::text, ' ') from pg_db_role_setting")
        return found | ({"settings of roles": own} if own else {})
    finally:
        await connection.close()


async def count(place: Place, table: str) -> int:
    """The rows of a table."""
    connection = await asyncpg.connect(place.database_url)
    try:
        return int(await connection.fetchval(f"select count(*) from {table}"))  # noqa: S608 - the name is ours
    finally:
        await connection.close()


def redis_durability(url: str) -> dict[str, str]:
    """What Redis says of when it writes to disk, and its version."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        found = {"redis": str(client.info("server")["redis_version"])}
        for name in ("appendonly", "appendfsync"):
            found[f"redis {name}"] = str(client.config_get(name)[name])
        return found


def go_url(url: str) -> str:
    """The same database for drivers of Go: the directory of the socket is a parameter."""
    who, found, path = _parts(url)
    where = urlencode({"host": found["host"], "port": found["port"], "sslmode": "disable"})
    return f"postgres://{who}@{path}?{where}"


def rust_url(url: str) -> str:
    """The same database for sqlx, which knows no URL without a host: the socket stands in its place."""
    who, found, path = _parts(url)
    return f"postgres://{who}@{quote(found['host'], safe='')}:{found['port']}{path}?sslmode=disable"


def _parts(url: str) -> tuple[str, dict[str, str], str]:
    """User with password, the parameters, and the path."""
    parts = urlsplit(url)
    found = dict(parse_qsl(parts.query))
    who = ":".join(quote(found[name], safe="") for name in ("user", "password") if name in found)
    return who, found, parts.path


def postgres(place: Place) -> list[psutil.Process]:
    """The processes of the peer's PostgreSQL."""
    return postgres_processes(place.data_dir)


def cpu(running: Running) -> dict[str, float]:
    """CPU seconds so far, by what the processes do."""
    return {name: sum(map(cpu_seconds, each)) for name, each in running.processes().items()}


def memory_mib(running: Running) -> dict[str, float]:
    """Memory now, by what the processes do; what several processes share is counted once."""
    found = {}
    for name, each in running.processes().items():
        found[name] = sum(map(_own_bytes, each)) / 2**20
    return found


def _own_bytes(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return int(process.memory_full_info().pss)
    return 0


def family(process: psutil.Process) -> list[psutil.Process]:
    """A process with all that it started."""
    with suppress(psutil.Error):
        return [process, *process.children(recursive=True)]
    return []
