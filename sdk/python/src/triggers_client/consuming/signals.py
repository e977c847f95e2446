"""SIGTERM and Ctrl-C stop the consumers of this process. The second signal gives handlers no time."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from types import TracebackType
from typing import Any, Protocol

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_running: list[StopSignals] = []
_before: dict[int, Any] = {}


class Stoppable(Protocol):
    """A consumer, as signals stop it."""

    def stop(self, *, now: bool = False) -> None:
        """Stop soon, or at once."""


class StopSignals:
    """While it is entered, in the main thread, the signals stop an engine. Several may be entered."""

    def __init__(self, engine: Stoppable) -> None:
        self._engine = engine
        self._received = 0

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            _running.append(self)
            if len(_running) == 1:
                _install(asyncio.get_running_loop())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self in _running:
            _running.remove(self)
            if not _running:
                _restore(asyncio.get_running_loop())

    def receive(self) -> None:
        """A signal has come."""
        self._received += 1
        self._engine.stop(now=self._received > 1)


def _receive() -> None:
    for each in tuple(_running):
        each.receive()


def _install(loop: asyncio.AbstractEventLoop) -> None:
    for number in _SIGNALS:
        _before[number] = signal.getsignal(number)
        try:
            loop.add_signal_handler(number, _receive)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(_receive))


def _restore(loop: asyncio.AbstractEventLoop) -> None:
    for number, before in _before.items():
        with contextlib.suppress(NotImplementedError):
            loop.remove_signal_handler(number)
        signal.signal(number, before if before is not None else signal.SIG_DFL)
    _before.clear()
