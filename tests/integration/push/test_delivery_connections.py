"""Which connection an attempt uses, and what happens if the endpoint has just closed it."""

from __future__ import annotations

import httpx
import pytest

from delivering import NEVER_AGAIN, States, Subscribe, Workers, post
from harness import eventually
from receiving import OK, Hook, Receiver, status
from triggers.postgres.database import Row


class Closing(Receiver):
    """An endpoint that closes each connection at its second request, without a byte of an answer.

    `every`: it does so at the first request too, once it has answered one.
    """

    def __init__(self, *, every: bool = False, first: bytes = OK) -> None:
        super().__init__(self._answer)
        self.used: list[int] = []
        """The number of the connection of each request."""
        self._every = every
        self._first = first

    def _answer(self, hook: Hook) -> bytes | None:
        connection = id(hook.writer)
        again = connection in self.used
        self.used.append(connection)
        if again or (self._every and hook.number > 0):
            hook.writer.close()
            return None
        return self._first


def told(attempts: list[Row]) -> list[tuple[int, str, str]]:
    return [(each["attempt"], each["outcome"], each["reason"]) for each in attempts]


async def test_a_stale_connection_costs_an_attempt_and_the_next_is_made_at_once(
    client: httpx.AsyncClient, states: States, subscribed: Subscribe, workers: Workers
) -> None:
    async with Closing() as receiver:
        subscription = await subscribed(receiver.url, delays=[3_600, 3_600])
        await workers.start()
        (warming,) = await post(client, [{}])
        await eventually(lambda: states.settled(subscription.id))
        (late,) = await post(client, [{}])

        async def both() -> bool:
            return await states.settled(subscription.id) == {"delivered": 2}

        await eventually(both)
    assert receiver.ids == [warming, late, late]
    assert receiver.used[0] == receiver.used[1] != receiver.used[2]
    first, *others = await states.attempts(subscription.id)
    assert told([first]) == [(1, "delivered", "delivered")]
    assert told(others) == [(1, "retry", "closed"), (2, "delivered", "delivered")]


async def test_neither_breaker_nor_failing_since_learns_of_stale_connections(
    client: httpx.AsyncClient, states: States, subscribed: Subscribe, workers: Workers
) -> None:
    """There are more of them in a row than open a breaker. The receiver closes used connections."""
    async with Closing() as receiver:
        subscription = await subscribed(receiver.url, max_concurrency=1, delays=[3_600, 3_600])
        running = await workers.start()
        for number in range(1, 31):
            await post(client, [{}])

            async def delivered() -> bool:
                return await states.settled(subscription.id) == {"delivered": number}  # noqa: B023

            await eventually(delivered)
        attempts = await states.attempts(subscription.id)
        assert sum(each["reason"] == "closed" for each in attempts) >= 10
        (lane,) = [lane for lane in running.worker.lanes if lane.id[1] == subscription.id]
        assert (lane.breaker.failures, lane.breaker.failing_since, lane.breaker.open) == (0, None, False)


async def test_at_once_only_one_time(
    client: httpx.AsyncClient, states: States, subscribed: Subscribe, workers: Workers
) -> None:
    """The second attempt uses a new connection, so a close there counts against the endpoint."""
    async with Closing(every=True) as receiver:
        subscription = await subscribed(receiver.url, delays=[3_600, 60, 60])
        running = await workers.start()
        await post(client, [{}])
        await eventually(lambda: states.settled(subscription.id))
        await post(client, [{}])

        async def twice() -> bool:
            return len(await states.attempts(subscription.id)) == 3

        await eventually(twice)
        _, first, second = await states.attempts(subscription.id)
        assert told([first, second]) == [(1, "retry", "closed"), (2, "retry", "closed")]
        assert (first["retry_at"] - second["retry_at"]).total_seconds() < -40, "the schedule goes on"
        (lane,) = [lane for lane in running.worker.lanes if lane.id[1] == subscription.id]
        assert lane.breaker.failures == 1
        assert lane.breaker.failing_since is not None


@pytest.mark.parametrize(("delays", "deadline"), [([], None), ([60.0], 30.0)])
async def test_without_a_further_attempt_in_its_schedule_a_delivery_gets_a_new_connection(
    client: httpx.AsyncClient,
    states: States,
    subscribed: Subscribe,
    workers: Workers,
    delays: list[float],
    deadline: float | None,
) -> None:
    async with Closing() as receiver:
        subscription = await subscribed(receiver.url, delays=delays, deadline=deadline, max_concurrency=1)
        await workers.start()
        await post(client, [{}] * 20)

        async def delivered() -> bool:
            return await states.settled(subscription.id) == {"delivered": 20}

        await eventually(delivered, 10)
        assert len(receiver.hooks) == 20
        assert len(await states.attempts(subscription.id)) == 20


async def test_a_retry_gets_a_new_connection(
    client: httpx.AsyncClient, states: States, subscribed: Subscribe, workers: Workers
) -> None:
    """This also holds after an answer: its connection is kept, but may lead to the one faulty server."""
    async with Closing(first=status(500)) as receiver:
        subscription = await subscribed(receiver.url, delays=[0.05, 0.05, *NEVER_AGAIN])
        await workers.start()
        await post(client, [{}])

        async def thrice() -> bool:
            return len(await states.attempts(subscription.id)) == 3

        await eventually(thrice)
        assert len(set(receiver.used)) == 3
