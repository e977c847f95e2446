"""Senders: each takes the next delivery, sends it, and passes its result on to be settled."""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from triggers import observability
from triggers.outbound.client import Outbound
from triggers.postgres.clock import DatabaseClock
from triggers.push import metrics
from triggers.push.attempt import (
    Attempted,
    Outgoing,
    after_a_lost_worker,
    attempt,
    end_unsent,
    never_sent,
    told,
)
from triggers.push.endpoint_health import EndpointHealth
from triggers.push.lane import Lane
from triggers.push.ownership import Ownership
from triggers.push.pacing import Pacing
from triggers.push.settlements import Settlements
from triggers.push.store import Begin, Due, Group, Settlement
from triggers.push.suspects import Counted, Suspects
from triggers.push.target import Target
from triggers.push.under_way import UnderWay
from triggers.subscriptions.shown_name import shown_name
from triggers.terminal import Lines

UNTRUSTED_SECONDS: Final = 0.05
"""Time until a lane is offered again if this worker could not send its delivery."""


class SenderParts(NamedTuple):
    """The parts of the worker that a sender uses."""

    clock: DatabaseClock
    ownership: Ownership
    pacing: Pacing
    under_way: UnderWay
    suspects: Suspects
    outbound: Outbound
    health: EndpointHealth
    settlements: Settlements


class Senders:
    """Sends deliveries. There are as many tasks as slots, and each of them runs `run`."""

    def __init__(self, parts: SenderParts) -> None:
        self._clock, self._ownership, self._pacing, self._under_way = parts[:4]
        self._suspects, self._outbound, self._health, self._settlements = parts[4:]

    async def run(self) -> None:
        """Send one delivery after another, for ever."""
        while True:
            lane, due = await self._pacing.next()
            group = self._ownership.sendable(lane.group)
            if group is None or self._pacing.stopped:
                self._pacing.give_back(lane, due)
                await asyncio.sleep(UNTRUSTED_SECONDS)  # not again before the owner is sure of itself
                self._pacing.offer(lane)
            elif group.probation and self._under_way.any(lane.group):
                self._under_way.hold(lane)
                self._pacing.give_back(lane, due)
            else:
                self._pacing.hold(lane)  # the next one may go when the rate allows, not when this is answered
                self._under_way.begin(lane.group)
                try:
                    await self._send(lane, due, group)
                finally:
                    self._pacing.done(lane)

    async def _send(self, lane: Lane, due: Due, group: Group) -> None:
        """One delivery's turn: end it unsent, or count, attempt, learn and settle it.

        A notice covers all messages that wait in its lane. They share one request, and each is settled.
        """
        target = lane.target
        dues = self._take(lane, due)
        first = bool(dues) and not dues[0].attempts
        suspected, chosen = self._suspects.suspicion.choose(group, lane.id, dues)
        counted = suspected or group.probation
        if counted and dues:
            dues = await self._count_first(lane, group, dues, chosen)
        if not dues:
            return
        due, *companions = dues
        fresh = counted or not (first and target.reuses_connections)
        if companions and not fresh:
            fresh = any(each.attempts for each in companions)
        outgoing = Outgoing(self._clock.mint(), target, due, counted, len(dues), fresh)
        attempted = await attempt(outgoing, self._outbound, self._clock.moment)
        disabling = self._health.learn(lane, target, attempted)
        _measure(attempted)
        if observability.lines is not None:
            _print(observability.lines, target, attempted.settlement)
        last = self._settlements.settle(lane, due, attempted.settlement, disabling)
        for companion in companions:
            settlement = told(Outgoing(self._clock.mint(), target, companion, counted), attempted)
            last = self._settlements.settle(lane, companion, settlement)
        if counted:
            # If the worker dies, each counted delivery that is not settled loses an attempt. Because of this
            # wait, these are at most as many as the lane may have under way.
            await last.recorded()

    def _take(self, lane: Lane, due: Due) -> list[Due]:
        """The delivery and the others that its notice covers. Those without a further attempt are ended."""
        companions = lane.take_companions()
        if companions:
            self._under_way.begin(lane.group, len(companions))
        dues = []
        for each in (due, *companions):
            if (reason := end_unsent(lane.target, each)) is None:
                dues.append(each)
            else:
                settlement = never_sent(lane.target, each, reason, self._clock.moment())
                self._settlements.settle(lane, each, settlement)
        return dues

    async def _count_first(self, lane: Lane, group: Group, dues: list[Due], chosen: int) -> list[Due]:
        """Count the attempts of one request in the database before they are made. Returns those that may go.

        `chosen`: how many of the deliveries were chosen as the first ones of their lane.
        """
        target, now = lane.target, self._clock.moment()
        begins = [Begin(group, due, after_a_lost_worker(target, due, now)) for due in dues]
        answers = await self._suspects.count(begins)
        not_counted = len(answers) - answers.count(Counted.YES)
        self._suspects.suspicion.give_back(group, lane.id, min(chosen, not_counted))
        may_send = self._may_still_send(lane, target, group)
        going = []
        for (_, due, due_again_at), answer in zip(begins, answers, strict=True):
            if answer is Counted.NO:
                self._settlements.postpone(lane, due)
                continue
            lane.ahead.counted(due, due_again_at, now)
            if may_send and answer is Counted.YES:
                going.append(due)
            else:
                self._settlements.take_back(lane, target, due)
        return going

    def _may_still_send(self, lane: Lane, target: Target, group: Group) -> bool:
        """Whether an attempt may begin after a wait, in which ownership and settings may have changed."""
        sendable = self._ownership.sendable(lane.group)
        return (
            not self._pacing.stopped
            and sendable is not None
            and sendable.token == group.token
            and lane.target is target
            and not lane.stale
        )


def _measure(attempted: Attempted) -> None:
    settlement = attempted.settlement
    if settlement.lag_seconds is not None:
        metrics.lag_seconds.observe(settlement.lag_seconds)
    metrics.attempts.count(settlement.outcome, attempted.reason)
    metrics.attempt_seconds.observe(settlement.duration_ms / 1000)


def _print(lines: Lines, target: Target, settlement: Settlement) -> None:
    endpoint = target.endpoint
    name = shown_name(endpoint.name, endpoint.key, endpoint.target_url)
    lines.attempt(name, settlement.status_code, settlement.reason, settlement.duration_ms)
