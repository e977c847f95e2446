"""The result of each event of `send_many`, and how events are put into batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from triggers_client.calls import Answer, envelope, refusal
from triggers_client.decoding import NotOurs, decode
from triggers_client.errors import (
    AnsweredWithProblem,
    OutcomeUnknown,
    RateLimited,
    TriggersError,
    Unavailable,
)
from triggers_client.models import BatchItem

MAX_BATCH_EVENTS = 1_000
MAX_BATCH_BYTES = 5 * 1024 * 1024


@dataclass(frozen=True)
class SentItem:
    """The outcome of one event: its id, or the error.

    `duplicate` is true if an event with this `dedup_id` and this content was stored before.
    """

    index: int
    dedup_id: str
    id: str | None = None
    duplicate: bool = False
    error: TriggersError | None = None


@dataclass(frozen=True)
class SendReport:
    """The outcome of each event, in the order in which they were given."""

    items: list[SentItem]

    @property
    def accepted(self) -> list[SentItem]:
        """The events that are stored."""
        return [item for item in self.items if item.error is None]

    @property
    def failed(self) -> list[SentItem]:
        """The events with an error. After `OutcomeUnknown` or `Unavailable`, an event may be stored or not:
        send it again with the same `dedup_id`.
        """
        return [item for item in self.items if item.error is not None]

    def raise_for_failures(self) -> None:
        """Raise the first error, if there is one."""
        for item in self.failed:
            if item.error is not None:
                raise item.error


@dataclass
class Waiting:
    """An event of `send_many`, encoded, and where it stands among the others."""

    index: int
    dedup_id: str
    content: bytes


def batches(waiting: Iterable[Waiting]) -> Iterator[list[Waiting]]:
    """Cut events into batches that the service takes."""
    batch: list[Waiting] = []
    size = 2
    for each in waiting:
        if batch and (len(batch) == MAX_BATCH_EVENTS or size + len(each.content) + 1 > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 2
        batch.append(each)
        size += len(each.content) + 1
    if batch:
        yield batch


def outcomes(batch: list[Waiting], answer: Answer) -> list[SentItem]:
    """The outcome of each event of a batch, from an answer or a problem with `results`.

    An event of which the answer says nothing may have been stored or not.
    """
    try:
        items = {item.index: item for item in (decode(BatchItem, each) for each in answer.json()["results"])}
    except (KeyError, TypeError, NotOurs, TriggersError):  # another program sent the answer
        items = {}
    return [_outcome(waiting, items.get(place), answer.request_id) for place, waiting in enumerate(batch)]


def _outcome(waiting: Waiting, item: BatchItem | None, request_id: str) -> SentItem:
    if item is None:
        unknown = OutcomeUnknown("The answer has no outcome of this event.", request_id=request_id)
        return SentItem(waiting.index, waiting.dedup_id, error=unknown)
    if item.problem is None:
        return SentItem(waiting.index, waiting.dedup_id, item.id, duplicate=item.status == 200)
    return SentItem(waiting.index, waiting.dedup_id, error=refusal(item.problem, request_id))


def is_for_later(item: SentItem) -> bool:
    """Whether the event may be accepted in a moment."""
    return isinstance(item.error, (RateLimited, Unavailable))


def item_problems(error: TriggersError) -> list[Any] | None:
    """The `results` of a problem that is about a whole batch, if it has them."""
    problem = error.problem if isinstance(error, AnsweredWithProblem) else None
    return None if problem is None else problem.raw.get("results")


def as_object(event: Mapping[str, Any], dedup_id: str) -> dict[str, Any]:
    """An event with its times as text and a `dedup_id`."""
    return {**envelope(event), "dedup_id": dedup_id}
