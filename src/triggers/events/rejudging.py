"""Judges waiting events again after the rules of their organisation have changed, beside the flushes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

import structlog

from triggers import errors
from triggers.events.fair_queues import FairQueues
from triggers.events.matching import Judging
from triggers.events.waiting_event import WaitingEvent
from triggers.fairness.pace import breathe

log = structlog.get_logger()

JUDGING_ROUNDS: Final = 8
"""An event that was judged again more often than this is answered with 503."""


class Rejudging:
    """Judges the queues that were set aside, each in a task of its own.

    The states of a queue: aside → judged again → in turn. Its events are refused if the rules cannot be read
    or keep changing. An event is also refused if there is no memory for its findings.
    """

    def __init__(
        self, judging: Judging, queues: FairQueues, least_bytes: int, done: Callable[[], None]
    ) -> None:
        """`least_bytes`: the minimum memory of an event. `done` is called after a queue was judged."""
        self._judging = judging
        self._queues = queues
        self._least_bytes = least_bytes
        self._done = done
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, org_id: UUID, queue: Sequence[WaitingEvent]) -> None:
        """Begin to judge an organisation's queue again."""
        task = asyncio.create_task(self._judge_again(org_id, queue), name=f"judge {org_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Stop judging."""
        for task in self._tasks:
            task.cancel()

    async def _judge_again(self, org_id: UUID, queue: Sequence[WaitingEvent]) -> None:
        refusal: errors.TriggersError | None = None
        crowded: set[WaitingEvent] = set()
        try:
            await self._judging.refresh(org_id)
            for waiting in tuple(queue):  # later events are matched with the new rules
                self._queues.judge(waiting, await self._judging.judge_paced(waiting.event))
                if not waiting.take_memory(self._least_bytes):
                    crowded.add(waiting)
                waiting.rounds += 1
                await breathe(org_id)
        except errors.TriggersError as error:
            refusal = error
        except Exception as error:  # noqa: BLE001 - every caller must get an answer
            log.error("judging_failed", org_id=str(org_id), error=repr(error))
            refusal = errors.DatabaseUnavailable()
        for waiting in self._queues.take_aside(org_id):
            if waiting in crowded:
                waiting.answer(errors.Overloaded())
            elif refusal is None and waiting.rounds <= JUDGING_ROUNDS:
                self._queues.put(waiting)
            else:
                waiting.answer(refusal or errors.Unavailable("Subscriptions are changing; try again."))
        self._done()
