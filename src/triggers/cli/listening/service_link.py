"""Requests to the service that go on after it was restarted."""

from __future__ import annotations

import asyncio
import functools
import random
import time
from collections.abc import Callable
from typing import Any, Final

import httpx

from triggers.cli.service import checked
from triggers.errors import OperatorError

_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 5.0
_jitter = functools.partial(random.uniform, 0.5, 1)
_BUSY: Final = frozenset({429, 502, 503, 504})
"""Statuses of a service that is restarting or overloaded, or of a proxy in front of it."""


class ServiceLink:
    """Calls the service until it answers. What happens to the connection is told once, not for each request.

    States: up → down (a request failed) → up (the next answer).
    """

    def __init__(self, client: httpx.AsyncClient, tell: Callable[[str], None]) -> None:
        self._client = client
        self._tell = tell
        self._down_since: float | None = None

    async def ask(
        self, method: str, path: str, body: Any = None, *, wait_seconds: float = 0
    ) -> httpx.Response:
        """Return the answer, which may be an error. A request may be repeated after it was carried out.

        `wait_seconds`: time for which the service may hold the request back, in addition to the usual time.
        """
        pauses = 0
        while True:
            began = time.monotonic()
            try:
                answer = await self._client.request(method, path, json=body, timeout=wait_seconds + 10)
            except httpx.TransportError:
                self._lost("The service does not answer.")
            else:
                if answer.status_code not in _BUSY:
                    self._found(began)
                    return answer
                self._lost(f"The service answers {answer.status_code}.")
            await asyncio.sleep(_pause(pauses))
            pauses += 1

    async def ask_once(
        self, method: str, path: str, body: Any = None, *, seconds: float = 10
    ) -> httpx.Response:
        """Return the answer if it is no error.

        Raises:
            OperatorError: there is no answer within `seconds`, or it is an error.
        """
        try:
            async with asyncio.timeout(seconds):
                answer = await self._client.request(method, path, json=body)
        except (httpx.HTTPError, UnicodeError, TimeoutError):
            address = f"{self._client.base_url.scheme}://{self._client.base_url.netloc.decode()}"
            raise OperatorError(
                f"No answer from {address}. Check --url or TRIGGERS_URL, and that `triggers serve` runs."
            ) from None
        return checked(answer)

    def _lost(self, what: str) -> None:
        if self._down_since is None:
            self._down_since = time.monotonic()
            self._tell(f"{what} Trying again.")

    def _found(self, began: float) -> None:
        # A service that is stopping may still answer requests from before.
        if self._down_since is not None and began > self._down_since:
            self._tell(f"The service answers again, after {time.monotonic() - self._down_since:.0f} s.")
            self._down_since = None


def _pause(pauses: int) -> float:
    """Seconds until the next request. Jitter spreads the requests of many listeners after a restart."""
    return min(_FIRST_PAUSE * 2.0 ** min(pauses, 10), _LONGEST_PAUSE) * _jitter()
