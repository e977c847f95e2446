"""Consumers whose handlers are coroutine functions."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from triggers_client.calls import Options
from triggers_client.consuming.message import Message
from triggers_client.consuming.runs import Runs
from triggers_client.consuming.settings import ConsumerSettings

AsyncHandler = Callable[[Message], Coroutine[Any, Any, object]]


class AsyncConsumer:
    """A handler that consumes an inbox. Calling it calls only the handler, as a test does."""

    def __init__(
        self, options: Options, inbox: str, settings: ConsumerSettings, handler: AsyncHandler
    ) -> None:
        if not inspect.iscoroutinefunction(handler):
            raise TypeError("The handler must be an `async def`. For others use `Triggers`.")
        self._handler = handler
        self._runs = Runs(options, inbox, settings)
        self.__doc__ = handler.__doc__

    async def __call__(self, message: Message) -> object:
        """Call the handler."""
        return await self._handler(message)

    async def run(self) -> None:
        """Consume until SIGTERM, Ctrl-C or `stop()`; then let handlers finish, and release the rest.

        Raises:
            Refused: there is no such inbox, or the key may not use it.
        """
        await self._runs.run(_TaskCalls(self._handler))

    def stop(self, *, now: bool = False) -> None:
        """Stop consuming, from any thread. With `now`, handlers get no time to finish."""
        self._runs.stop(now=now)


class _TaskCalls:
    """Calls of the handler as tasks, which can be cancelled."""

    def __init__(self, handler: AsyncHandler) -> None:
        self._handler = handler

    def begin(self, message: Message) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self._called(message))

    async def _called(self, message: Message) -> object:
        try:
            return await self._handler(message)
        except (SystemExit, KeyboardInterrupt) as error:  # they would end the loop, and release nothing
            raise RuntimeError(f"The handler raised {error!r}.") from error

    def cancel(self, call: asyncio.Future[Any]) -> None:
        call.cancel()
