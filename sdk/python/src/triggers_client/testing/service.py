"""A `triggers serve` on a free port, with data of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from triggers_client._async.client import AsyncTriggers
from triggers_client._sync.client import Triggers

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_LOG_END = 4_000


class ServiceDidNotStart(RuntimeError):
    """The program ended, or did not answer in time. The message has the end of its log."""


class RunningService:
    """A service for tests. It delivers to http:// URLs of this machine, and leaves nothing behind."""

    url: str
    api_key: str

    def __init__(self, command: Sequence[str] | None = None) -> None:
        """`command` starts the service; by default `triggers serve`, beside this Python or on the PATH."""
        self._command = [*(command or _found())]
        # PostgreSQL does not run as root, so another user must be able to enter the directory.
        self._place = Path(tempfile.mkdtemp(prefix="triggers-"))
        self._place.chmod(0o755)
        self._log = self._place / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RunningService:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def client(self) -> Triggers:
        """A client with the first key."""
        return Triggers(self.url, self.api_key)

    def async_client(self) -> AsyncTriggers:
        """An asynchronous client with the first key."""
        return AsyncTriggers(self.url, self.api_key)

    def stop(self) -> None:
        """Stop the service, and delete its data."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._place, ignore_errors=True)

    def _start(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRIGGERS_", "PG"))}
        data_dir = self._place / "data"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*self._command, "--dev", "--port", str(port)],
                env={**kept, "TRIGGERS_DATA_DIR": str(data_dir), "TRIGGERS_LOG_FORMAT": "json"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        key = data_dir / "first-key"
        self._wait(self._process, key)
        self.api_key = key.read_text().strip()

    def _wait(self, process: subprocess.Popen[bytes], key: Path) -> None:
        """Wait until it is ready, and has written its first key, which may come later."""
        deadline = time.monotonic() + _START_SECONDS
        while not (_answers(f"{self.url}/readyz") and key.exists() and key.stat().st_size):
            if process.poll() is not None or time.monotonic() > deadline:
                end = self._log.read_text(errors="replace")[-_LOG_END:]
                raise ServiceDidNotStart(f"`{' '.join(self._command)}` does not answer. Its log ends:\n{end}")
            time.sleep(0.05)


def _found() -> list[str]:
    beside = Path(sys.executable).with_name("triggers")
    program = str(beside) if beside.exists() else shutil.which("triggers")
    if program is None:
        raise ServiceDidNotStart("There is no program `triggers`. Install triggers-server.")
    return [program, "serve"]


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
