"""Runs a listener: leases messages, sends them to the receiver, settles them, and obeys keys and signals.

The life of a message: leased → sent → its line is printed → acknowledged, released or rejected. If the
listener dies in between, the lease ends, and the inbox expires.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import msgspec

from triggers.cli.listening import keyboard
from triggers.cli.listening.event_lines import EventLines, Handled, Outcome
from triggers.cli.listening.forwarding import ATTEMPT_SECONDS, Forwarder, ReceivedEvent, ReceiverAnswer
from triggers.cli.listening.service_link import ServiceLink
from triggers.cli.listening.temporary_inbox import HeldMessage, TemporaryInbox
from triggers.cli.service import decode
from triggers.domain import parse_time
from triggers.push.retry import DEFAULT_SCHEDULE

_PAUSE_SECONDS: Final = 0.3
"""Between two leases of a slot that found nothing, because a service that is stopping answers at once."""
_SIGNALS: Final = ("SIGINT", "SIGTERM", "SIGHUP")


class Limits(msgspec.Struct, frozen=True):
    """How many messages are handled at once, and the number of attempts before a message is rejected."""

    concurrency: int
    attempts: int


class _DeliveryShown(msgspec.Struct):
    subscription_id: str
    generation: int


class _EventShown(msgspec.Struct):
    """The fields of an event that a lease does not contain."""

    occurred_at: str | None
    deliveries: list[_DeliveryShown]


class EventListener:
    """Handles the messages of one inbox until it is stopped. Without a forwarder it only prints them."""

    def __init__(
        self,
        link: ServiceLink,
        inbox: TemporaryInbox,
        forwarder: Forwarder | None,
        lines: EventLines,
        limits: Limits,
    ) -> None:
        self._link = link
        self._inbox = inbox
        self._forwarder = forwarder
        self._lines = lines
        self._limits = limits
        self._stop = asyncio.Event()

    async def run(
        self, begin: Callable[[], Coroutine[Any, Any, None]], open_event: Callable[[str], None] | None
    ) -> None:
        """Begin, and listen until a signal or the key `q` comes. Then delete the inbox, however it ended.

        `open_event` shows an event in the console. None: there is no terminal, so no keys are read.
        """
        tasks: list[asyncio.Task[Any]] = []
        with _stopped_by_signals(self._stop):
            try:
                tasks.append(asyncio.create_task(self._stop.wait()))
                tasks.append(asyncio.create_task(begin()))
                await _first_of(tasks)
                if not self._stop.is_set():
                    tasks = [tasks[0], *self._work(open_event)]
                    await _first_of(tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await self._end()

    def _work(self, open_event: Callable[[str], None] | None) -> list[asyncio.Task[Any]]:
        work: list[Coroutine[Any, Any, None]] = [self._slot() for _ in range(self._limits.concurrency)]
        work.append(self._inbox.keep())
        if open_event is not None:
            work.append(self._obey_keys(open_event))
        return [asyncio.create_task(each) for each in work]

    async def _slot(self) -> None:
        while True:
            held = await self._inbox.lease()
            if held is None:
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                await self._handle(held)

    async def _handle(self, held: HeldMessage) -> None:
        event = await self._event_of(held)
        attempt = held.message.message_attributes.lease_count
        if self._forwarder is None:
            self._lines.show(Handled(event=event, answer=None, outcome=Outcome.SHOWN, attempt=attempt))
            await self._inbox.settle(held, "ack")
            return
        # After an outage the lease may be over, and the message leased by another slot.
        if held.left_seconds < ATTEMPT_SECONDS and not await self._inbox.extend(held):
            return
        answer = await self._forwarder.send(event, self._inbox.id)
        outcome, fields, remark = self._judge(answer, attempt)
        self._lines.show(Handled(event=event, answer=answer, outcome=outcome, attempt=attempt, remark=remark))
        if not await self._inbox.settle(held, _VERBS[outcome], note=answer.note, **fields):
            self._lines.tell(f"The lease of {str(event.id)[-8:]} had ended. The message may come again.")

    def _judge(self, answer: ReceiverAnswer, attempt: int) -> tuple[Outcome, dict[str, Any], str]:
        """The outcome of an answer, the fields of the request that settles the message, and words for it."""
        most = self._limits.attempts
        if answer.is_success:
            return Outcome.ACKNOWLEDGED, {}, ""
        if attempt >= most:
            reason = f"the receiver of a listener failed: {answer.in_short}"
            return Outcome.REJECTED, {"reason": reason}, f"rejected after attempt {attempt} of {most}"
        delays = DEFAULT_SCHEDULE.delays
        delay = delays[min(attempt, len(delays)) - 1]
        return (
            Outcome.RELEASED,
            {"delay_seconds": delay},
            f"again in {delay:g} s, attempt {attempt} of {most}",
        )

    async def _event_of(self, held: HeldMessage) -> ReceivedEvent:
        """The event of a message. Its time and generation are known only if the key may read the event."""
        message = held.message
        occurred_at: datetime | None = None
        generation = 0
        if self._forwarder is not None:
            answer = await self._link.ask("GET", f"/v1/events/{message.id}")
            if answer.is_success:
                shown = decode(answer, _EventShown)
                occurred_at = parse_time(shown.occurred_at) if shown.occurred_at else None
                ours = [each for each in shown.deliveries if each.subscription_id == self._inbox.id]
                generation = max((each.generation for each in ours), default=0)
        return ReceivedEvent(
            id=message.id,
            type=message.message_attributes.event_type or "",
            payload=bytes(message.payload),
            generation=generation,
            occurred_at=occurred_at,
        )

    async def _obey_keys(self, open_event: Callable[[str], None]) -> None:
        async for key in keyboard.keys():
            if key == "q":
                self._stop.set()
            elif key in "rdo" and (latest := self._lines.latest) is not None:
                await self._obey(key, latest, open_event)
            elif key in "rdo":
                self._lines.tell("No event has come yet.")

    async def _obey(self, key: str, latest: ReceivedEvent, open_event: Callable[[str], None]) -> None:
        match key:
            case "r":
                await self._send_again(latest)
            case "d":
                self._lines.show_body(self._body_of(latest))
            case _:
                await asyncio.to_thread(open_event, str(latest.id))

    async def _send_again(self, event: ReceivedEvent) -> None:
        if self._forwarder is None:
            self._lines.tell("There is no receiver. Start the command with --forward-to.")
            return
        answer = await self._forwarder.send(event, self._inbox.id)
        self._lines.show(
            Handled(event=event, answer=answer, outcome=Outcome.SENT_AGAIN, attempt=0, remark="sent again")
        )

    def _body_of(self, event: ReceivedEvent) -> bytes:
        if self._forwarder is None:
            return event.payload
        return self._forwarder.prepare(event, self._inbox.id).body

    async def _end(self) -> None:
        if self._inbox.id and not await self._inbox.delete():
            self._lines.tell(
                f"The inbox {self._inbox.key} could not be deleted. It expires within two minutes."
            )
        if self._forwarder is not None:
            await self._forwarder.close()


_VERBS: Final = {Outcome.ACKNOWLEDGED: "ack", Outcome.RELEASED: "release", Outcome.REJECTED: "reject"}


async def _first_of(tasks: list[asyncio.Task[Any]]) -> None:
    """Wait until one of the tasks ends, and raise its error if it failed."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


@contextmanager
def _stopped_by_signals(stop: asyncio.Event) -> Iterator[None]:
    """Have signals set an event instead of ending the process. Windows has no such handlers."""
    loop = asyncio.get_running_loop()
    known = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    known = [each for each in known if signal.getsignal(each) is not signal.SIG_IGN]  # as after `nohup`
    try:
        for each in known:
            loop.add_signal_handler(each, stop.set)
    except NotImplementedError:
        known = []
    try:
        yield
    finally:
        for each in known:
            loop.remove_signal_handler(each)
