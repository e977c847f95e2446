"""A well-behaved organisation beside the attack: it posts, receives and reads its inbox."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Self

from acceptance.processes import Service
from acceptance.wire import NotSent, Unknown
from receiving import Receiver

POST_EVERY_SECONDS = 0.1
CALL_TIMEOUT_SECONDS = 20.0
MESSAGES = "/v1/inboxes/default/messages"


class Victim:
    """Posts an event ten times a second. Each that was answered 201 has to arrive twice: at the
    organisation's endpoint, and in its inbox, from where it is acknowledged."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._key = service.tenant()
        self._receiver = Receiver()
        self._tasks: list[asyncio.Task[None]] = []
        self.accepted: list[str] = []
        self.acknowledged: set[str] = set()
        self.outcomes: Counter[str] = Counter()
        """Of the posts: the status, or what came in the place of an answer."""

    async def __aenter__(self) -> Self:
        await self._receiver.__aenter__()
        async with self._service.client(self._key, timeout=CALL_TIMEOUT_SECONDS) as client:
            made = await client.post("/v1/subscriptions", {"target_url": self._receiver.url})
            assert made.status == 201, made
        self._tasks = [asyncio.create_task(self._post()), asyncio.create_task(self._read())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._receiver.close()

    async def stop_posting(self) -> None:
        """Post no more; receiving and reading go on."""
        posting = self._tasks[0]
        posting.cancel()
        await asyncio.wait({posting})
        if not posting.cancelled():
            posting.result()  # it ends by itself only by an error

    def missing(self) -> tuple[int, int]:
        """How many accepted events have not arrived at the endpoint, and how many are not acknowledged."""
        accepted = set(self.accepted)
        return len(accepted - set(self._receiver.ids)), len(accepted - self.acknowledged)

    async def _post(self) -> None:
        number = 0
        async with self._service.client(self._key, timeout=CALL_TIMEOUT_SECONDS) as client:
            while True:
                number += 1
                try:
                    answer = await client.post("/v1/events", {"type": "victim", "payload": {"n": number}})
                except (NotSent, Unknown) as error:
                    self.outcomes[type(error).__name__] += 1
                else:
                    self.outcomes[str(answer.status)] += 1
                    if answer.status == 201:
                        self.accepted.append(answer.json["id"])
                await asyncio.sleep(POST_EVERY_SECONDS)

    async def _read(self) -> None:
        async with self._service.client(self._key, timeout=CALL_TIMEOUT_SECONDS) as client:
            while True:
                try:
                    lease = await client.post(f"{MESSAGES}/lease", {"lease_limit": 100, "lease_seconds": 30})
                    if lease.status == 201:
                        acked = await client.post(f"{MESSAGES}/ack", {"lease_id": lease.json["lease_id"]})
                        if acked.status == 201:
                            self.acknowledged.update(each["id"] for each in acked.json["results"])
                            continue
                except (NotSent, Unknown):
                    pass
                await asyncio.sleep(0.2)
