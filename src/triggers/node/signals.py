"""Signals and garbage collection, which all long-running processes of the service handle in the same way."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager


class Stopping:
    """SIGTERM and SIGINT: the first asks everything to finish, the second hurries."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signal)

    def _signal(self) -> None:
        if self.asked.is_set():
            self.hurried.set()
        self.asked.set()

    @contextmanager
    def hurrying(self, hurry: Callable[[], Awaitable[None]]) -> Iterator[None]:
        """Call `hurry` if this process is asked to hurry before the block ends."""

        async def wait() -> None:
            await self.hurried.wait()
            await hurry()

        task = asyncio.create_task(wait())
        try:
            yield
        finally:
            task.cancel()


def settle_memory() -> None:
    """Spare the garbage collector what was made at the start: it stays for good.

    Requests make little garbage in cycles, so collecting seldom costs no memory to speak of, and
    a full collection does not walk through all modules, types and routes each time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
