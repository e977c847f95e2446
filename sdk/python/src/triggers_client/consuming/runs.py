"""One run of a consumer, from its own connections to the last settled message."""

from __future__ import annotations

import asyncio
import dataclasses
import threading

from triggers_client.calls import Options
from triggers_client.consuming.engine import Calls, Engine
from triggers_client.consuming.settings import ConsumerSettings
from triggers_client.consuming.signals import StopSignals

_CALL_SECONDS = 10.0


class Runs:
    """The runs of one consumer, which any thread may stop."""

    def __init__(self, options: Options, inbox: str, settings: ConsumerSettings) -> None:
        # The engine repeats its calls itself, because it knows how long each is of use.
        self._options = dataclasses.replace(options, timeout=_CALL_SECONDS, retry_seconds=0)
        self._inbox = inbox
        self._settings = settings
        self._lock = threading.Lock()
        self._running: list[tuple[asyncio.AbstractEventLoop, Engine]] = []

    async def run(self, calls: Calls) -> None:
        """Consume until a signal or `stop`."""
        from triggers_client._async.inbox import AsyncInboxHandle  # noqa: PLC0415 - it makes consumers itself
        from triggers_client._async.transport import AsyncTransport  # noqa: PLC0415

        transport = AsyncTransport(self._options)
        engine = Engine(AsyncInboxHandle(transport, self._inbox), self._settings, calls)
        entry = (asyncio.get_running_loop(), engine)
        with self._lock:
            self._running.append(entry)
        try:
            with StopSignals(engine):
                await engine.run()
        finally:
            with self._lock:
                self._running.remove(entry)
            await transport.aclose()

    def stop(self, *, now: bool = False) -> None:
        """Stop the runs that go on now."""
        with self._lock:
            for loop, engine in self._running:
                loop.call_soon_threadsafe(lambda engine=engine: engine.stop(now=now))  # type: ignore[misc]
