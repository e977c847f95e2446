"""Consumers whose handlers are ordinary functions. Each message is handled in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import threading
from collections.abc import Callable
from typing import Any

from triggers_client.calls import Options
from triggers_client.consuming.message import Message
from triggers_client.consuming.runs import Runs
from triggers_client.consuming.settings import ConsumerSettings

Handler = Callable[[Message], object]


class Consumer:
    """A handler that consumes an inbox. Calling it calls only the handler, as a test does."""

    def __init__(self, options: Options, inbox: str, settings: ConsumerSettings, handler: Handler) -> None:
        if inspect.iscoroutinefunction(handler):
            raise TypeError("The handler must not be an `async def`. For those use `AsyncTriggers`.")
        self._handler = handler
        self._runs = Runs(options, inbox, settings)
        self.__doc__ = handler.__doc__

    def __call__(self, message: Message) -> object:
        """Call the handler."""
        return self._handler(message)

    def run(self) -> None:
        """Consume until SIGTERM, Ctrl-C or `stop()`; then let handlers finish, and release the rest.

        Only a run in the main thread hears signals.

        Raises:
            Refused: there is no such inbox, or the key may not use it.
        """
        asyncio.run(self._runs.run(_ThreadCalls(self._handler)))

    def stop(self, *, now: bool = False) -> None:
        """Stop consuming, from any thread. With `now`, handlers get no time to finish."""
        self._runs.stop(now=now)


class _ThreadCalls:
    """Calls of the handler in threads. A thread cannot be ended: its handler looks at `lease_lost`."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def begin(self, message: Message) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Any] = loop.create_future()
        context = contextvars.copy_context()

        def call() -> None:
            error = context.run(_error_of, self._handler, message)
            with contextlib.suppress(RuntimeError):  # the consumer gave this call up, and its loop is closed
                loop.call_soon_threadsafe(_resolve, ended, error)

        threading.Thread(target=call, name=f"triggers message {message.id}", daemon=True).start()
        return ended

    def cancel(self, call: asyncio.Future[Any]) -> None:
        """It goes on until its handler looks at `lease_lost`."""


def _error_of(handler: Handler, message: Message) -> BaseException | None:
    try:
        handler(message)
    except StopIteration as error:  # no future can hold one
        return RuntimeError(f"The handler raised {error!r}.")
    except BaseException as error:  # noqa: BLE001 - it is judged, and logged, by the engine
        return error
    return None


def _resolve(ended: asyncio.Future[Any], error: BaseException | None) -> None:
    if ended.done():
        return
    if error is None:
        ended.set_result(None)
    else:
        ended.set_exception(error)
