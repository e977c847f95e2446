"""Sends many events in batches, and finds out what became of each."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from triggers_client._async.transport import AsyncTransport
from triggers_client.calls import Answer, Call, pause_seconds
from triggers_client.errors import TriggersError
from triggers_client.reports import (
    SendReport,
    SentItem,
    Waiting,
    as_object,
    batches,
    is_for_later,
    item_problems,
    outcomes,
)


class AsyncBatchSender:
    """One `send_many`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._done: list[SentItem] = []

    async def send(self, events: Iterable[Mapping[str, Any]]) -> SendReport:
        """Send all, and report each."""
        for batch in batches(self._encoded(events)):
            await self._send(batch)
        return SendReport(sorted(self._done, key=lambda item: item.index))

    def _encoded(self, events: Iterable[Mapping[str, Any]]) -> Iterator[Waiting]:
        for index, event in enumerate(events):
            dedup_id = event.get("dedup_id") or uuid.uuid4().hex
            try:
                text = json.dumps(
                    as_object(event, dedup_id), ensure_ascii=False, allow_nan=False, separators=(",", ":")
                )
                content = text.encode()
            except (TypeError, ValueError) as error:
                wrong = TriggersError(f"The event at index {index} is not JSON: {error}")
                self._done.append(SentItem(index, dedup_id, error=wrong))
            else:
                yield Waiting(index, dedup_id, content)

    async def _send(self, batch: list[Waiting]) -> None:
        """Send a batch, and what the service had no room for again, as long as calls are repeated."""
        deadline = time.monotonic() + self._transport.options.retry_seconds
        repetitions = 0
        while batch:
            items = await self._once(batch)
            later = {item.index: item.error for item in items if is_for_later(item) and item.error}
            pause = max((pause_seconds(error, repetitions) for error in later.values()), default=0.0)
            if time.monotonic() + pause > deadline:
                later = {}
            self._done += [item for item in items if item.index not in later]
            batch = [waiting for waiting in batch if waiting.index in later]
            if batch:
                repetitions += 1
                await asyncio.sleep(pause)

    async def _once(self, batch: list[Waiting]) -> list[SentItem]:
        content = b"[" + b",".join(waiting.content for waiting in batch) + b"]"
        try:
            answer = await self._transport.call(
                Call("POST", "/v1/events/batch", encoded=content, repeatable=True)
            )
        except TriggersError as error:
            if (problems := item_problems(error)) is None:
                return [SentItem(waiting.index, waiting.dedup_id, error=error) for waiting in batch]
            answer = Answer(200, json.dumps({"results": problems}).encode(), error.request_id or "")
        return outcomes(batch, answer)
