"""Sends requests, and repeats them where that is safe."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from triggers_client.calls import (
    Answer,
    Call,
    Options,
    failure,
    final,
    is_worth_repeating,
    pause_seconds,
)
from triggers_client.errors import ConnectionFailed, OutcomeUnknown, TriggersError, Unavailable

if TYPE_CHECKING:
    import httpx

_CONNECT_SECONDS = 5.0
_CONNECTIONS = 1_000
_STREAM_SILENCE_SECONDS = 40.0
"""The service sends something at least every 15 seconds."""


class AsyncTransport:
    """The connections of one client. They are opened at the first call."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._http: httpx.AsyncClient | None = None
        self._lock = threading.Lock()

    async def aclose(self) -> None:
        """Close all connections. The next call opens new ones."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def call(self, call: Call) -> Answer:
        """Send a request, repeated for at most `retry_seconds`, and return the answer, which is a 2xx.

        Raises:
            TriggersError: as its subclasses say.
        """
        seconds = self.options.retry_seconds if call.retry_seconds is None else call.retry_seconds
        deadline = time.monotonic() + seconds
        repetitions, sent_before = 0, False
        content = call.content
        while True:
            try:
                return await self._once(call, content)
            except TriggersError as error:
                pause = pause_seconds(error, repetitions)
                if not is_worth_repeating(error, call) or time.monotonic() + pause > deadline:
                    raise final(error, sent_before=sent_before) from error.__cause__
                sent_before |= call.method != "GET" and isinstance(error, (OutcomeUnknown, Unavailable))
            repetitions += 1
            await asyncio.sleep(pause)

    async def lines(self, call: Call, last_event_id: str | None = None) -> AsyncIterator[str]:
        """The lines of an answer that goes on, until it ends."""
        import httpx  # noqa: PLC0415 - slow, so imported at the first call

        timeout = httpx.Timeout(_STREAM_SILENCE_SECONDS, connect=_CONNECT_SECONDS)
        headers = {"x-request-id": call.request_id, "accept": "text/event-stream"}
        if last_event_id is not None:
            headers["last-event-id"] = last_event_id
        try:
            async with self._opened().stream(
                call.method, call.path, params=call.parameters, headers=headers, timeout=timeout
            ) as response:
                if response.status_code != 200:
                    await response.aread()
                    self._checked(response, call)
                async for line in response.aiter_lines():
                    yield line
        except httpx.TransportError as error:
            raise ConnectionFailed(_reason(error), request_id=call.request_id) from error

    async def _once(self, call: Call, content: bytes | None) -> Answer:
        import httpx  # noqa: PLC0415

        seconds = self.options.timeout if call.timeout is None else call.timeout
        try:
            response = await self._opened().request(
                call.method,
                call.path,
                params=call.parameters,
                content=content,
                headers={"x-request-id": call.request_id},
                timeout=httpx.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS)),
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
            raise ConnectionFailed(_reason(error), request_id=call.request_id) from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise OutcomeUnknown(_reason(error), request_id=call.request_id) from error
        return self._checked(response, call)

    def _checked(self, response: httpx.Response, call: Call) -> Answer:
        answer = Answer(
            response.status_code,
            response.content,
            response.headers.get("x-request-id", call.request_id),
            response.headers.get("retry-after"),
        )
        if (error := failure(answer)) is not None:
            raise error
        return answer

    def _opened(self) -> httpx.AsyncClient:
        with self._lock:  # threads may make their first calls at the same time
            if self._http is None:
                self._http = self._new()
            return self._http

    def _new(self) -> httpx.AsyncClient:
        import httpx  # noqa: PLC0415

        return httpx.AsyncClient(
            base_url=self.options.url,
            headers={
                "authorization": f"Bearer {self.options.api_key}",
                "content-type": "application/json",
                "user-agent": "triggers-client-python",
            },
            limits=httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=100),
            trust_env=not self.options.is_local,
        )


def _reason(error: Exception) -> str:
    """Why there was no answer. The texts of httpx name no URL and no header."""
    return f"No answer from the service: {str(error) or type(error).__name__}."
