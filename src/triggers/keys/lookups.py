"""Looks up secrets that callers send: API keys, and the tokens of sessions and links.

Anybody can send any number of secrets that do not exist. They wait in another queue than secrets that were
valid before, so they delay only each other. All kinds of secrets share the same bounds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from triggers.errors import Unavailable
from triggers.fairness.room import acting_for

MAX_REMEMBERED = 50_000
MAX_LOOKUPS = 4
LOOKUP_SECONDS = 3.0
MAX_LOOKUPS_WAITING = 1_000

T = TypeVar("T")


class _Queue:
    """Running look-ups: one for all requests with the same secret. A few of them query the database."""

    def __init__(self) -> None:
        self.tasks: dict[bytes, asyncio.Task[Any]] = {}
        self.slots = asyncio.Semaphore(MAX_LOOKUPS)


class Lookups:
    """The look-ups of this process."""

    def __init__(self) -> None:
        self._known_once: set[bytes] = set()  # secrets that were valid before
        self._known = _Queue()
        self._strangers = _Queue()

    async def run(self, digest: bytes, look_up: Callable[[], Awaitable[T | None]]) -> T | None:
        """Look up the secret with this SHA-256, once for all requests that wait for it.

        Raises:
            Unavailable: too many others wait, or the database does not answer.
        """
        queue = self._known if digest in self._known_once else self._strangers
        task: asyncio.Task[T | None] | None = queue.tasks.get(digest)
        if task is None:
            if len(queue.tasks) >= MAX_LOOKUPS_WAITING:
                raise Unavailable("Too many unknown API keys are being looked up at once. Try again.")
            task = asyncio.create_task(self._run(digest, look_up, queue.slots))
            queue.tasks[digest] = task
            task.add_done_callback(lambda _: queue.tasks.pop(digest, None))
        return await asyncio.shield(task)

    async def _run(
        self, digest: bytes, look_up: Callable[[], Awaitable[T | None]], slots: asyncio.Semaphore
    ) -> T | None:
        acting_for.set(None)  # other organisations may wait for it too
        try:
            async with asyncio.timeout(LOOKUP_SECONDS), slots:
                found = await look_up()
        except TimeoutError:
            raise Unavailable("The API key cannot be looked up: the database does not answer.") from None
        if found is None:
            self._known_once.discard(digest)
        else:
            self.note_valid(digest)
        return found

    def note_valid(self, digest: bytes) -> None:
        """Note that a secret is valid, so that its next look-up does not wait behind unknown secrets."""
        make_room(self._known_once, digest)
        self._known_once.add(digest)


def make_room(remembered: dict[bytes, Any] | set[bytes], digest: bytes) -> None:
    """Forget all remembered secrets if there is no room for another one."""
    if len(remembered) >= MAX_REMEMBERED and digest not in remembered:
        remembered.clear()
