"""The profile `lease`: consumers that lease messages of an inbox and acknowledge them."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final
from uuid import uuid4

import msgspec

from triggers.bench_client.connection import HttpAnswer, LoadConnection
from triggers.bench_client.load import Measured, exchange, open_connections
from triggers.bench_client.progress import RunProgress
from triggers.bench_client.recording import Recording
from triggers.bench_client.service import MeasuredService, object_in
from triggers.bench_client.workload import Call, Workload
from triggers.errors import OperatorError

LEASE: Final = "lease messages"
SETTLE: Final = "acknowledge a lease"
_BATCH: Final = 500
_PATIENCE_SECONDS: Final = 60
_PAUSE_SECONDS: Final = 0.02


class LeaseRun:
    """An inbox of its own, filled with events of its own type, and its consumers."""

    def __init__(self, service: MeasuredService, progress: RunProgress) -> None:
        run = uuid4().hex[:12]
        self._service = service
        self._progress = progress
        self._key = f"triggers-bench-{run}"
        self._workload = Workload(service, f"triggers-bench.lease-{run}")
        self._sent: set[str] = set()
        self._left: set[str] = set()

    async def run(self, messages: int, consumers: int, messages_per_lease: int) -> Measured:
        """Lease and acknowledge so many messages. The inbox is deleted afterwards.

        Raises:
            OperatorError: the service refused a step, or messages are missing.
        """
        wanted = {"key": self._key, "event_types": [self._workload.event_type]}
        await self._service.ask("POST", "/v1/inboxes", wanted)
        try:
            await self._fill(messages)
            return await self._consume(consumers, messages_per_lease)
        finally:
            await self._service.try_ask("DELETE", f"/v1/inboxes/{self._key}")

    async def _fill(self, messages: int) -> None:
        self._progress.begin("lease: sending the messages", messages)
        for first in range(0, messages, _BATCH):
            events = [
                msgspec.Raw(self._workload.event(number))
                for number in range(first, min(first + _BATCH, messages))
            ]
            answer = await self._service.ask("POST", "/v1/events/batch", events)
            refused = [each for each in answer["results"] if each["status"] not in {200, 201}]
            if refused:
                raise OperatorError(f"{len(refused)} events of a batch were refused: {refused[0]['status']}.")
            self._sent.update(each["id"] for each in answer["results"])
            self._progress.done += len(events)
        self._left = set(self._sent)

    async def _consume(self, consumers: int, messages_per_lease: int) -> Measured:
        measured = Measured("lease")
        self._progress.begin("lease", len(self._left))
        body = msgspec.json.encode({"lease_limit": messages_per_lease, "lease_seconds": 60})
        opened = await open_connections(self._service, consumers)
        try:
            measured.begin()
            async with (
                asyncio.timeout(_PATIENCE_SECONDS + len(self._sent) / 100),
                asyncio.TaskGroup() as group,
            ):
                for connection in opened:
                    group.create_task(self._consumer(connection, self._call(LEASE, "lease", body), measured))
            measured.end()
            measured.note = (
                f"{len(self._sent):,} messages, {len(self._sent) / measured.seconds:,.0f} a second"
            )
        except TimeoutError:
            raise OperatorError(f"{len(self._left)} messages were not leased in time.") from None
        finally:
            for connection in opened:
                connection.abort()
        return measured

    async def _consumer(self, connection: LoadConnection, lease: Call, measured: Measured) -> None:
        while self._left:
            leased: list[HttpAnswer] = []
            tried, began = Recording(), time.perf_counter()
            await exchange(connection, lease._replace(answered=leased.append), began, tried)
            if not leased:
                raise OperatorError(f"A lease failed: {_reasons(tried)}.")
            took, found = time.perf_counter() - began, object_in(leased[0])
            if found.get("lease_id") is None:
                await asyncio.sleep(
                    _PAUSE_SECONDS
                )  # other consumers hold the rest; an empty lease is no result
                continue
            measured.recordings[LEASE].add(took)
            await self._settle(connection, found, measured)

    async def _settle(self, connection: LoadConnection, lease: dict[str, Any], measured: Measured) -> None:
        """Acknowledge those messages of a lease that this run sent. Others stay leased for a minute."""
        ids = [each["id"] for each in lease["results"] if each["id"] in self._sent]
        if not ids:
            return
        body = msgspec.json.encode({"lease_id": lease["lease_id"], "message_ids": ids})
        settled: list[HttpAnswer] = []
        call = self._call(SETTLE, "ack", body)._replace(answered=settled.append)
        await exchange(connection, call, time.perf_counter(), measured.recordings[SETTLE])
        if not settled:
            raise OperatorError(f"An acknowledgement failed: {_reasons(measured.recordings[SETTLE])}.")
        self._left.difference_update(ids)
        self._progress.done = self._progress.total - len(self._left)

    def _call(self, endpoint: str, action: str, body: bytes) -> Call:
        path = f"/v1/inboxes/{self._key}/messages/{action}"
        return Call(endpoint, self._service.request("POST", path, body))


def _reasons(recording: Recording) -> str:
    return ", ".join(recording.errors)
