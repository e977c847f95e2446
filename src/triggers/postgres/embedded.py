"""The private PostgreSQL that `triggers serve` runs if no database is configured.

PostgreSQL is a child process in a session of its own. So Ctrl-C in a terminal reaches only `serve`, which
then shuts PostgreSQL down cleanly. If `serve` is killed, PostgreSQL keeps running, and the next start stops
it before it starts its own. So each start has the same state, without connections of the dead `serve`.
"""

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import quote, urlencode

import asyncpg
import platformdirs
import psutil  # type: ignore[import-untyped]  # it carries no types
import structlog

from triggers.errors import DataDirectoryError, OperatorError
from triggers.postgres.connection_parameters import driver_arguments
from triggers.postgres.embedded_access import ROLE
from triggers.postgres.embedded_cluster import SUPERUSER
from triggers.postgres.embedded_home import EmbeddedHome
from triggers.postgres.embedded_socket import PORT

log = structlog.get_logger()

DATABASE = "triggers"
_NO_RIGHTS = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
_POLL_SECONDS = 0.03
_LONGEST_PAUSE_SECONDS = 5.0
_STEADY_SECONDS = 60.0


def default_data_dir() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/triggers")
    return platformdirs.user_data_path("triggers", appauthor=False)


def running_url(data_dir: Path) -> str:
    """The URL of the PostgreSQL that a living `serve` runs in `data_dir`, for the commands beside it."""
    home = EmbeddedHome(data_dir)
    if not _answers(home):
        raise DataDirectoryError(
            f"No `triggers serve` is running in {home.data_dir}. Start one there, set TRIGGERS_DATA_DIR to"
            " the directory of a running one, or set TRIGGERS_DATABASE_URL to the URL of your own PostgreSQL."
        )
    return _url(home)


class DirectoryState(NamedTuple):
    """The state of a data directory: whether it contains data, and the URL if a `serve` runs with it."""

    has_data: bool
    url: str | None


def inspect(data_dir: Path) -> DirectoryState:
    """Raise DataDirectoryError where `EmbeddedPostgres.start` would, as far as files tell; change nothing."""
    home = EmbeddedHome(data_dir)
    with _naming_the_directory(home):
        return DirectoryState(home.require_usable(), _url(home) if _answers(home) else None)


class EmbeddedPostgres:
    """One PostgreSQL over one data directory, from one `start` to one `stop`."""

    def __init__(self, data_dir: Path) -> None:
        self._home = EmbeddedHome(data_dir)
        self._lock: int | None = None
        self._command: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = asyncio.Event()

    @property
    def url(self) -> str:
        return _url(self._home)

    async def start(self) -> str:
        """Take the directory, make what is missing, and return the URL once connections are accepted.

        Raises DataDirectoryError, or OperatorError if `stop` came first, having left nothing running.
        """
        try:
            with _naming_the_directory(self._home):
                self._lock = self._home.lock()
                await _end_remains(self._home)
                self._command = await asyncio.to_thread(self._home.prepare)
                await self._launch()
                await self._create_database()
        except BaseException:
            await self.stop()
            raise
        return self.url

    async def run(self) -> None:
        """Start PostgreSQL again whenever it dies, until `stop`.

        The cluster is never made anew here: a volume that vanished must not come
        back as an empty database.
        """
        pause_seconds = 0.0
        while True:
            watched_since = time.monotonic()
            exit_code = await self._exited()
            if self._stopping.is_set():
                return
            died = time.monotonic()
            if died - watched_since > _STEADY_SECONDS:
                pause_seconds = 0.0
            log.error("postgres_died", exit_code=exit_code, restart_in_seconds=pause_seconds)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_seconds)
            pause_seconds = min(max(pause_seconds * 2, 0.1), _LONGEST_PAUSE_SECONDS)
            try:
                await _end_remains(self._home)
                await self._launch()
            except (OSError, OperatorError) as error:
                if self._stopping.is_set():
                    return
                log.error("postgres_restart_failed", error=str(error))
            else:
                log.warning("postgres_restarted", seconds=round(time.monotonic() - died, 3))

    async def stop(self, *, immediate: bool = False) -> None:
        """Stop in good order; called again with `immediate` it stops at once, and the next start recovers."""
        self._stopping.set()
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT if immediate else signal.SIGINT)
            await self._exited()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _launch(self) -> None:
        began = time.time()
        with tempfile.TemporaryFile() as output:
            process = self._spawn(output)
            while not self._home.cluster.is_ready(process.pid):
                if process.poll() is not None:
                    self._require_wanted()
                    output.seek(0)
                    said = output.read().decode(errors="replace").strip()
                    logged = self._home.last_log_lines(since=began)
                    reason = f"{said}\n{logged}".strip()
                    raise DataDirectoryError(f"PostgreSQL did not start in {self._home.data_dir}:\n{reason}")
                await asyncio.sleep(_POLL_SECONDS)

    def _spawn(self, output: IO[bytes]) -> subprocess.Popen[bytes]:
        # Not asyncio's subprocess: uvloop's cannot change the user, asyncio's kills what it loses sight of.
        self._require_wanted()
        self._process = subprocess.Popen(
            self._command,
            stdout=output,
            stderr=output,
            cwd=self._home.path,
            **self._home.account.process_options(),
        )
        return self._process

    def _require_wanted(self) -> None:
        if self._stopping.is_set():
            raise OperatorError("Stopped while PostgreSQL was starting.")

    async def _exited(self) -> int:
        if self._process is None:
            raise RuntimeError("start() comes first")
        while (exit_code := self._process.poll()) is None:  # noqa: ASYNC110 - a process has no event to wait for
            await asyncio.sleep(_POLL_SECONDS)
        return exit_code

    async def _create_database(self) -> None:
        """The service's role is no superuser: an injected statement must not reach files or programs."""
        url = _url(self._home, user=SUPERUSER, database=SUPERUSER)
        connection = await asyncpg.connect(**driver_arguments(url))
        try:
            async with connection.transaction():
                if not await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", ROLE):
                    await connection.execute(f"CREATE ROLE {ROLE} LOGIN")
                    # The service sees its own failed statements; here they would only fill the disk,
                    # and their details quote what people sent us.
                    await connection.execute(f"ALTER ROLE {ROLE} SET log_min_messages = log")
                # An earlier release gave the role more rights.
                await connection.execute(f"ALTER ROLE {ROLE} {_NO_RIGHTS}")
            if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
            if self._home.access.needs_password:
                password = secrets.token_hex(32)
                async with connection.transaction():
                    for role in (SUPERUSER, ROLE):
                        await connection.execute(f"ALTER ROLE {role} PASSWORD '{password}'")
                self._home.access.keep_password(password)
                await connection.execute("SELECT pg_reload_conf()")
        finally:
            await connection.close()


@contextmanager
def _naming_the_directory(home: EmbeddedHome) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataDirectoryError(
            f"The data directory {home.data_dir} cannot be used: {error.strerror} ({error.filename}). "
            "Check its owner, its mode and how it is mounted, or choose another with --data-dir."
        ) from error


def _answers(home: EmbeddedHome) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(home.socket_directory.socket))
        except PermissionError:
            raise DataDirectoryError(
                f"The `triggers serve` of {home.data_dir} belongs to another user. Run this as that user."
            ) from None
        except OSError:
            return False
    if (user := home.access.serving_user()) not in (None, os.geteuid()):
        raise DataDirectoryError(
            f"The `triggers serve` of {home.data_dir} belongs to user {user}. Run this as that user, "
            "because no other user can connect to its PostgreSQL."
        )
    return True


def _url(home: EmbeddedHome, *, user: str = ROLE, database: str = DATABASE) -> str:
    # This sets everything that libpq and our driver would otherwise take from PG* variables.
    named: dict[str, str | int] = {
        "host": str(home.socket_directory.path),
        "port": PORT,
        "user": user,
        "sslmode": "disable",
        "target_session_attrs": "any",
        "gsslib": "gssapi",
    }
    if password := home.access.password():
        named["password"] = password
    return f"postgresql:///{database}?{urlencode(named, quote_via=quote)}"


async def _end_remains(home: EmbeddedHome) -> None:
    """End what a killed `serve`, or a killed postmaster, left running on this cluster."""
    for request, patience_seconds in ((signal.SIGINT, 20), (signal.SIGQUIT, 10)):
        postmaster = next((left for left in _remains(home) if left.pid == home.cluster.recorded_pid()), None)
        if postmaster is None:
            break
        log.warning("postgres_left_behind", process_id=postmaster.pid, signal=request.name)
        _send(postmaster, request)
        await _all_gone(home, patience_seconds)
    # Backends without a postmaster hold its shared memory until they notice, which a busy one does late.
    # They can commit nothing more that recovery would not find in the log.
    for orphan in _remains(home):
        _send(orphan, signal.SIGKILL)
    if not await _all_gone(home, 10):
        left = ", ".join(str(process.pid) for process in _remains(home))
        raise DataDirectoryError(
            f"PostgreSQL processes of {home.data_dir} cannot be ended ({left}). Kill them."
        )
    if (recorded := home.cluster.recorded_pid()) and psutil.pid_exists(recorded):
        home.forget_recorded_pid()


def _remains(home: EmbeddedHome) -> list[psutil.Process]:
    """Told by name and working directory: after a reboot the number in postmaster.pid may be anyone's."""
    found = []
    for process in psutil.process_iter(["name"]):
        with suppress(psutil.Error):  # it ended, or belongs to someone else
            if process.info["name"] == "postgres" and process.cwd() == str(home.cluster.path):
                found.append(process)
    return found


def _send(process: psutil.Process, request: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(request)


async def _all_gone(home: EmbeddedHome, patience_seconds: float) -> bool:
    deadline = time.monotonic() + patience_seconds
    while _remains(home):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL_SECONDS)
    return True
