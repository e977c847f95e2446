"""Runs the delivery worker as a process beside the API, because together they need more than one processor.

A pair of datagram sockets connects the two processes. The API sends events that were just stored, and hints
about lanes that may have due deliveries. The worker sends its metrics, and the names of its parts that fail.
A datagram may be lost: the worker also looks for due deliveries itself, and it sends its metrics again.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from uuid import UUID

import msgspec
import structlog

from triggers.background import Background
from triggers.domain import LaneId
from triggers.events.handover import Handover
from triggers.node.settings import ENV_PREFIX, Settings, env_name
from triggers.postgres.connection_parameters import VARIABLES

log = structlog.get_logger()

SOCKET_ENV = "TRIGGERS_WORKER_SOCKET"
LANES_A_DATAGRAM = 1_000
DATAGRAM_BYTES = 128 * 1024
"""Maximum size of a datagram, which fits into the buffer of every socket."""
AGAIN_SECONDS = 0.01
_FULL = (errno.EAGAIN, errno.ENOBUFS)
RESTART_SECONDS = (0.1, 0.5, 2.0, 5.0)
STEADY_SECONDS = 60.0
POLL_SECONDS = 0.1


class Hint(msgspec.Struct, tag="hint", array_like=True):
    """Lanes that may have something due: the bytes of the organisation's and the subscription's id each."""

    lanes: list[bytes]


class Stored(msgspec.Struct, tag="stored", array_like=True):
    """The events that a flush stored."""

    handover: Handover


class Said(msgspec.Struct, array_like=True):
    """The report of a worker to the process that started it: its metrics, and the parts that fail."""

    metrics: bytes
    trouble: dict[str, str]


_encode = msgspec.msgpack.Encoder().encode
_hear = msgspec.msgpack.Decoder(Said).decode
_decode = msgspec.msgpack.Decoder(Hint | Stored).decode


class WorkerProcess:
    """Starts the worker, starts it again when it dies, and carries hints to it."""

    def __init__(self, settings: Settings, url: str, secret_keys: str) -> None:
        self._said = Said(b"", {})
        self._environ = _environ(settings, url, secret_keys)
        self._process: subprocess.Popen[bytes] | None = None
        self._ours: socket.socket | None = None
        self._stopping = False
        self._unheard: set[LaneId] = set()
        self._again: asyncio.TimerHandle | None = None  # when the socket was full
        self._background = Background()

    @property
    def metrics(self) -> bytes:
        """The metrics that the worker sent last."""
        return self._said.metrics

    @property
    def trouble(self) -> dict[str, str]:
        """The parts of the worker that fail, by its last report, or the fact that it has died."""
        dead = {"worker": "has died, and is started again"}
        return self._background.trouble | (dead if self._dead else self._said.trouble)

    @property
    def _dead(self) -> bool:
        return self._process is None or self._process.poll() is not None

    async def start(self) -> None:
        """Start the worker and watch it."""
        self._spawn()
        self._background.run("worker process", self._watch())

    def hint(self, lanes: Sequence[LaneId]) -> None:
        """Tell the worker that these lanes may have due deliveries. This never waits."""
        self._unheard.update(lanes)
        if self._again is None:
            self._say_unheard()

    def hand_over(self, handover: Handover) -> bool:
        """Give the worker deliveries that were just stored. This never waits. False if there is no room."""
        return handover.payload_bytes <= DATAGRAM_BYTES and self._say(Stored(handover))

    async def stop(self) -> None:
        """Ask the worker to finish, and wait until it has. The second call kills it."""
        hurry, self._stopping = self._stopping, True
        await self._background.stop()
        if self._process is not None and not self._dead:
            self._process.send_signal(signal.SIGTERM)
            if hurry:
                self._process.kill()
        while not self._dead:  # noqa: ASYNC110 - a process has no event to wait for
            await asyncio.sleep(POLL_SECONDS)
        self._close()

    def _say_unheard(self) -> None:
        self._again = None
        while self._unheard:
            some = [self._unheard.pop() for _ in range(min(len(self._unheard), LANES_A_DATAGRAM))]
            if not self._say(Hint([org_id.bytes + lane_id.bytes for org_id, lane_id in some])):
                self._unheard.update(some)
                self._again = asyncio.get_running_loop().call_later(AGAIN_SECONDS, self._say_unheard)
                return

    def _say(self, message: Hint | Stored) -> bool:
        """Send a message. False if there is no room for it. If the worker has died, nothing is sent, because
        the next worker looks at all lanes."""
        if self._ours is None:
            return True
        data = _encode(message)
        try:
            return len(data) <= DATAGRAM_BYTES and self._ours.send(data) > 0
        except OSError as error:
            return error.errno not in _FULL

    async def _watch(self) -> None:
        """Start the worker, and start it again whenever it dies."""
        deaths = 0
        born = time.monotonic()
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if not self._dead:
                continue
            code = None if self._process is None else self._process.returncode
            deaths = 0 if time.monotonic() - born > STEADY_SECONDS else deaths
            wait = RESTART_SECONDS[min(deaths, len(RESTART_SECONDS) - 1)]
            log.error("worker_died", exit_code=code, restart_in_seconds=wait)
            deaths += 1
            await asyncio.sleep(wait)
            try:
                self._spawn()
            except OSError as error:  # no memory, or too many processes: try again later
                self._process = None
                log.error("worker_not_started", error=repr(error))
            born = time.monotonic()

    def _spawn(self) -> None:
        self._close()
        self._unheard.clear()  # a new worker looks at all lanes
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ours = ours
        with theirs:
            ours.setblocking(False)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "triggers.node.work"],
                env=self._environ | {SOCKET_ENV: f"{theirs.fileno()} {os.getpid()}"},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C reaches serve alone, which then stops the worker in good order
            )
        asyncio.get_running_loop().add_reader(ours, self._receive, ours)

    def _receive(self, ours: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._said = _hear(ours.recv(1 << 20))

    def _close(self) -> None:
        if self._ours is not None:
            asyncio.get_running_loop().remove_reader(self._ours)
            self._ours.close()
            self._ours = None


class ParentSocket:
    """The worker's end: receives hints, sends metrics, and notices when the parent process has died."""

    def __init__(self, passed: str) -> None:
        """`passed` is the value of SOCKET_ENV, or empty for a worker that no `serve` started."""
        self._hint: Callable[[Sequence[LaneId]], None]
        self._hand_over: Callable[[Handover], None]
        number, _, parent = passed.partition(" ")
        self._socket = socket.socket(fileno=int(number)) if number else None
        self._parent = int(parent or 0)  # from the parent, which may have died before this process could look

    def listen(self, hint: Callable[[Sequence[LaneId]], None], hand_over: Callable[[Handover], None]) -> None:
        """Call these with the hints and the handovers of the parent from now on."""
        self._hint = hint
        self._hand_over = hand_over
        if self._socket is not None:
            self._socket.setblocking(False)
            asyncio.get_running_loop().add_reader(self._socket, self._receive)

    @property
    def has_parent(self) -> bool:
        """Whether a `serve` started this process as its worker."""
        return self._socket is not None

    @property
    def orphaned(self) -> bool:
        """Whether the process that started this one as its worker has died."""
        return self._socket is not None and os.getppid() != self._parent

    def say(self, metrics: bytes, trouble: dict[str, str]) -> None:
        """Let the parent show these metrics, and which parts of the worker fail."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.send(_encode(Said(metrics, trouble)))

    def _receive(self) -> None:
        assert self._socket is not None
        try:
            message = _decode(self._socket.recv(2 * DATAGRAM_BYTES))
        except OSError:
            return
        if isinstance(message, Stored):
            self._hand_over(message.handover)
        else:
            self._hint([(UUID(bytes=each[:16]), UUID(bytes=each[16:])) for each in message.lanes])


def _environ(settings: Settings, url: str, secret_keys: str) -> dict[str, str]:
    """The environment that gives the worker this process's settings, however they were given here."""
    # The variables of PostgreSQL's programs are for a database of the operator, not for a private one.
    unwanted = frozenset() if settings.database_url else VARIABLES
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(ENV_PREFIX) and name not in unwanted
    }
    given = {name: getattr(settings, name) for name in settings.__struct_fields__}
    given |= {"database_url": url, "secret_keys": secret_keys, "data_dir": None, "worker_metrics_port": None}
    # The worker needs the URL of the database, and `dev` cannot be combined with it. So the worker gets the
    # settings that `dev` stands for.
    policy = settings.outbound_policy()
    allowed = ",".join(map(str, policy.allow)) or None
    given |= {"dev": None, "outbound_allow": allowed, "outbound_allow_http": policy.allow_http}
    return environ | {
        env_name(name): str(int(value) if isinstance(value, bool) else value)
        for name, value in given.items()
        if value is not None
    }
