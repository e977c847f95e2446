"""What the accept statement and its flusher do when the outcome is unknown, or when others race."""

from __future__ import annotations

import asyncio
import contextlib
import random
import select
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest

from harness import Node, Tenant, Tenants, eventually
from triggers.domain import Accepted, EventId, NewEvent, OrgId
from triggers.errors import DatabaseUnavailable, DedupConflict, Invalid, Overloaded
from triggers.events import fair_queues, flusher, group_commit
from triggers.events import store as event_store
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Connection, Database
from triggers.postgres.time_bounds import ACCEPT_SECONDS
from triggers.statistics.tally import WHOLE

DAY = timedelta(days=1)


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    opened = await database.connect(ACCEPT_SECONDS)
    yield opened
    await opened.close()


def new_event(
    org_id: OrgId, clock: DatabaseClock, dedup_id: str | None = None, payload: bytes = b"1"
) -> NewEvent:
    return NewEvent(
        org_id=org_id,
        id=EventId(clock.mint()),
        type="a",
        payload=payload,
        dedup_id=dedup_id,
    )


async def counts(database: Database) -> tuple[int, ...]:
    row = await database.row(
        "select (select count(*) from events), (select count(*) from deliveries),"
        " (select count(*) from dedup)"
    )
    assert row is not None
    return tuple(row)


async def subscribe(database: Database, org_id: UUID, number: int) -> None:
    """Give an organisation so many more inboxes, without the trouble of asking for each."""
    await database.fetch(
        "insert into subscriptions (org_id, id, kind, key, status_at, created_at, all_types)"
        " select $1, gen_random_uuid(), 'inbox', 'more ' || n, now(), now(), true"
        " from generate_series(1, $2) n",
        org_id,
        number,
    )
    await database.fetch(
        "update organisations set subscription_count = subscription_count + $2 where id = $1", org_id, number
    )


async def store(connection: Connection, clock: DatabaseClock, batch: list[NewEvent]) -> list[UUID]:
    """Store a batch; return the ids that it did not store."""
    return (await event_store.accept(connection, clock, event_store.Batch(batch), DAY)).missing


async def test_accept_is_repeatable(
    connection: Connection, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    batch = [new_event(tenant.id, clock, f"d{n}" if n % 2 else None) for n in range(10)]
    assert await store(connection, clock, batch) == []
    before = await counts(database)
    assert before == (10, 10, 5)
    missing = await store(connection, clock, batch)
    assert set(missing) == {event.id for event in batch}
    found = await event_store.resolve(connection, batch)
    assert all(found[event.id].stored for event in batch)
    assert await counts(database) == before


@pytest.mark.parametrize("meanwhile", ["nothing", "the dedup_id expired", "another took it over"])
async def test_a_repeated_accept_is_answered_as_the_first_time(
    node: Node,
    database: Database,
    clock: DatabaseClock,
    connection: Connection,
    tenant: Tenant,
    meanwhile: str,
    soon: bool,
) -> None:
    """The first accept of an event was committed, but the node does not know it and accepts it again."""
    event = new_event(tenant.id, clock, "d")
    assert await store(connection, clock, [event]) == []
    if soon:  # after another that was stored already
        twice = [new_event(tenant.id, clock, "twice") for _ in range(2)]
        assert [(await node.acceptor.accept(each)).duplicate for each in twice] == [False, True]
    if meanwhile != "nothing":
        await database.fetch("update dedup set expires_at = now()")
    if meanwhile == "another took it over":
        assert await store(connection, clock, [new_event(tenant.id, clock, "d")]) == []
    before = await counts(database)
    accepted = await node.acceptor.accept(event)
    assert (accepted.id, accepted.duplicate) == (event.id, False)
    assert await counts(database) == before


async def test_two_batches_never_wait_in_a_ring(
    database: Database, clock: DatabaseClock, tenants: Tenants, connection: Connection
) -> None:
    tenants_ids = [(await tenants.make()).id for _ in range(4)]
    second = await database.connect(ACCEPT_SECONDS)
    rng = random.Random(7)
    try:
        for _ in range(20):
            keys = [(org_id, f"{rng.random()}") for org_id in tenants_ids for _ in range(40)]
            batches = []
            for _ in range(2):
                rng.shuffle(keys)
                batches.append([new_event(org_id, clock, dedup_id) for org_id, dedup_id in keys])
            missing = await asyncio.gather(
                store(connection, clock, batches[0]),
                store(second, clock, batches[1]),
            )
            lost = [
                [e for e in batch if e.id in set(gone)] for batch, gone in zip(batches, missing, strict=True)
            ]
            assert len(lost[0]) + len(lost[1]) == len(keys), "each key has exactly one winner"
            for batch in lost:
                found = await event_store.resolve(connection, batch)
                winners = {e.id for b in batches for e in b} - {e.id for b in lost for e in b}
                assert all(found[e.id].winner in winners for e in batch)
    finally:
        await second.close()


async def test_what_a_batch_leaves_over_is_not_mistaken_for_a_duplicate(
    connection: Connection, node: Node, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    """An event beyond the bound of deliveries whose dedup_id names an event of long ago."""
    old = new_event(tenant.id, clock, "last")
    assert await store(connection, clock, [old]) == []
    await database.fetch("update dedup set expires_at = now()")
    await subscribe(database, tenant.id, 999)
    batch = [new_event(tenant.id, clock, f"d{n}") for n in range(20)] + [new_event(tenant.id, clock, "last")]
    outcomes = await node.acceptor.accept_many(batch)
    assert [outcome.id for outcome in outcomes] == [event.id for event in batch]
    assert not any(outcome.duplicate for outcome in outcomes)
    row = await database.row(
        "select max(n) from (select count(*) as n from deliveries group by accepted_at) as t"
    )
    assert row is not None
    assert row[0] == event_store.FLUSH_DELIVERIES


async def test_an_event_for_more_subscribers_than_a_batch_makes_deliveries(
    connection: Connection, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    await subscribe(database, tenant.id, event_store.FLUSH_DELIVERIES)
    first, second = new_event(tenant.id, clock), new_event(tenant.id, clock)
    assert await store(connection, clock, [first, second]) == [second.id]
    assert (await counts(database))[:2] == (1, event_store.FLUSH_DELIVERIES + 1)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that were used, in order."""
    tried: list[str] = []

    class Noting(dict[str, str]):
        def __getitem__(self, name: str) -> str:
            tried.append(name)
            return super().__getitem__(name)

    monkeypatch.setattr(event_store, "_SQL", Noting(event_store._SQL))
    return tried


@pytest.fixture(params=[60.0, 0.0], ids=["soon after", "later"])
def soon(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a batch comes while the obstacle that another met is still expected."""
    monkeypatch.setattr(flusher, "OBSTACLE_SECONDS", request.param)
    return bool(request.param)


async def test_a_batch_is_not_tried_whole_just_after_one_that_did_not_fit(
    node: Node,
    clock: DatabaseClock,
    tenant: Tenant,
    monkeypatch: pytest.MonkeyPatch,
    tried: list[str],
    soon: bool,
) -> None:
    monkeypatch.setattr(event_store, "FLUSH_DELIVERIES", 0)
    first = ["accept_all", "accept_some"]
    for expected in (first, ["accept_some"] if soon else first):
        tried.clear()
        assert isinstance(await node.acceptor.accept(new_event(tenant.id, clock)), Accepted)
        assert tried == expected


async def test_after_a_dedup_id_that_was_taken_others_are_looked_up_first(
    node: Node, clock: DatabaseClock, tenant: Tenant, tried: list[str], soon: bool
) -> None:
    stored = await node.acceptor.accept(new_event(tenant.id, clock, "a"))
    assert tried == ["accept_all"]
    first = ["accept_all", "accept_some", "resolve"]
    for expected in (first, ["taken", "accept_all"] if soon else first):
        tried.clear()
        batch = [new_event(tenant.id, clock, "a"), new_event(tenant.id, clock)]
        again, new = await node.acceptor.accept_many(batch)
        assert again == Accepted(stored.id, True)
        assert new == Accepted(batch[1].id, False)
        assert tried == expected


async def test_nothing_is_stored_for_an_organisation_that_does_not_exist(
    connection: Connection, database: Database, clock: DatabaseClock, tenant: Tenant
) -> None:
    ours, nobodys = new_event(tenant.id, clock), new_event(OrgId(clock.mint()), clock)
    assert await store(connection, clock, [ours, nobodys]) == [nobodys.id]
    assert (await counts(database))[:2] == (1, 1)


# ---- organisations in turn ------------------------------------------------------------------------


async def test_the_bound_of_deliveries_is_shared_by_organisations(
    connection: Connection,
    database: Database,
    clock: DatabaseClock,
    tenants: Tenants,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_store, "FLUSH_DELIVERIES", 20_000)
    large, small = await tenants.make(), await tenants.make()
    await subscribe(database, large.id, 999)
    costly = [new_event(large.id, clock) for _ in range(21)]
    batch = [*costly, *(new_event(small.id, clock) for _ in range(30))]
    assert set(await store(connection, clock, batch)) == {event.id for event in costly[19:]}


@pytest.fixture
def flushes(monkeypatch: pytest.MonkeyPatch) -> list[list[UUID]]:
    """What each flush has stored, in the order of its batch."""
    accept = event_store.accept
    stored: list[list[UUID]] = []

    async def recording(
        connection: Connection, clock: DatabaseClock, batch: event_store.Batch, *rest: Any, **more: Any
    ) -> Any:
        receipt = await accept(connection, clock, batch, *rest, **more)
        stored.append([event.id for event in batch.events if event.id not in receipt.missing])
        return receipt

    monkeypatch.setattr(event_store, "accept", recording)
    return stored


async def test_some_are_left_for_the_next_flush_where_few_wait(
    node: Node, clock: DatabaseClock, tenant: Tenant, flushes: list[list[UUID]]
) -> None:
    """So that there are callers to be answered while it is stored; of many there are anyway."""
    for count, sizes in [(32, [32]), (33, [32, 1]), (64, [32, 32]), (65, [65])]:
        flushes.clear()
        await asyncio.gather(*[node.acceptor.accept(new_event(tenant.id, clock)) for _ in range(count)])
        assert [len(stored) for stored in flushes] == sizes


async def test_whatever_one_has_waiting_the_next_flush_stores_what_others_have(
    node: Node,
    database: Database,
    clock: DatabaseClock,
    tenants: Tenants,
    flushes: list[list[UUID]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large, small, late = [await tenants.make() for _ in range(3)]
    await subscribe(database, large.id, 9)
    monkeypatch.setattr(fair_queues, "FLUSH_ROWS", 20)
    monkeypatch.setattr(fair_queues, "FLUSH_ROWS_OF_FEW", 20)
    monkeypatch.setattr(event_store, "FLUSH_DELIVERIES", 40)
    costly = [new_event(large.id, clock) for _ in range(60)]
    cheap = [new_event(small.id, clock) for _ in range(10)]
    waiting = [node.acceptor.accept(event) for event in [*costly, *cheap]]
    await eventually(lambda: flushes)
    came_late = new_event(late.id, clock)
    begun = len(flushes)  # and perhaps another batch was taken by now
    waiting.append(node.acceptor.accept(came_late))
    assert [outcome.duplicate for outcome in await asyncio.gather(*waiting)] == [False] * 71
    assert {event.id for event in cheap} <= set(flushes[0])
    assert came_late.id in [*flushes[begun], *flushes[begun + 1]]
    assert [each for flush in flushes for each in flush if each in {event.id for event in costly}] == [
        event.id for event in costly
    ]
    assert node.acceptor.waiting == (0, 0)


async def test_events_over_the_bound_have_their_turns_among_small_ones(
    node: Node,
    database: Database,
    clock: DatabaseClock,
    tenants: Tenants,
    flushes: list[list[UUID]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small, *large = [await tenants.make() for _ in range(3)]
    for each in large:
        await subscribe(database, each.id, 9)
    monkeypatch.setattr(fair_queues, "FLUSH_ROWS", 4)
    monkeypatch.setattr(fair_queues, "FLUSH_ROWS_OF_FEW", 4)
    monkeypatch.setattr(event_store, "FLUSH_DELIVERIES", 5)
    cheap = [new_event(small.id, clock) for _ in range(30)]
    costly = [new_event(each.id, clock) for _ in range(2) for each in large]
    await asyncio.gather(*[node.acceptor.accept(event) for event in [*cheap, *costly]])
    stored_in = {each: n for n, flush in enumerate(flushes) for each in flush}
    assert [stored_in[event.id] for event in costly] == [2, 4, 6, 8], "one in every second flush"
    assert all(any(event.id in flush for event in cheap) for flush in flushes[:9])
    assert all(set(flush) <= {event.id for event in cheap} for flush in flushes[1:8:2]), "of the others alone"


async def test_turns_left_overs_duplicates_and_poison_keep_each_organisations_order(
    node: Node,
    database: Database,
    clock: DatabaseClock,
    tenants: Tenants,
    flushes: list[list[UUID]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fair_queues, "FLUSH_ROWS", 16)
    monkeypatch.setattr(fair_queues, "FLUSH_ROWS_OF_FEW", 16)
    monkeypatch.setattr(event_store, "FLUSH_DELIVERIES", 25)
    await database.fetch("alter table events add constraint poison check (type <> 'poison')")
    made = [await tenants.make() for _ in range(4)]
    for n, tenant in enumerate(made):
        await subscribe(database, tenant.id, 4 * n)
    rng = random.Random(5)
    events = []
    for _ in range(250):
        org_id = made[rng.choice((0, 0, 1, 2, 3, 3, 3))].id
        event = new_event(org_id, clock, rng.choice((None, None, "a", "b", "c")))
        event.type = "poison" if rng.random() < 0.05 else "a"
        events.append(event)
    outcomes = await asyncio.gather(*[node.acceptor.accept(event) for event in events])
    winners: dict[tuple[UUID, str], UUID] = {}
    for event, outcome in zip(events, outcomes, strict=True):
        winner = winners.get((event.org_id, event.dedup_id)) if event.dedup_id else None
        if event.type == "poison":
            assert isinstance(outcome, DedupConflict if winner else Invalid)
        else:
            assert outcome == Accepted(winner or event.id, winner is not None)
            if event.dedup_id:
                winners.setdefault((event.org_id, event.dedup_id), event.id)
    assert DedupConflict in map(type, outcomes)
    stored = [each for flush in flushes for each in flush]
    for tenant in made:
        alone = [e.id for e in events if e.org_id == tenant.id and e.type == "a" and e.dedup_id is None]
        assert [each for each in stored if each in set(alone)] == alone
    assert node.acceptor.waiting == (0, 0)


# ---- waiting too long -----------------------------------------------------------------------------


async def test_who_has_waited_too_long_is_told_so_and_not_stored(
    node: Node, database: Database, clock: DatabaseClock, tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept, answers = event_store.accept, asyncio.Event()

    async def hanging(*args: Any, **more: Any) -> event_store.Receipt:
        await answers.wait()
        return await accept(*args, **more)

    monkeypatch.setattr(event_store, "accept", hanging)
    made = [await tenants.make() for _ in range(3)]
    first = node.acceptor.accept(new_event(made[0].id, clock))
    await eventually(lambda: node.acceptor.waiting == (0, 0))
    events = [new_event(tenant.id, clock, f"{n}") for n in range(400) for tenant in made]
    waiting = [node.acceptor.accept(event) for event in events]
    with monkeypatch.context() as patched:
        patched.setattr(group_commit, "MAX_WAIT_SECONDS", 0.0)
        answers.set()
        refused = await asyncio.gather(*waiting)
    assert {(type(each), each.message) for each in refused} == {(Overloaded, group_commit._TOO_LATE)}
    assert isinstance(await first, Accepted)
    assert node.acceptor.waiting == (0, 0)
    assert await counts(database) == (1, 1, 0)
    again = [new_event(event.org_id, clock, event.dedup_id) for event in events]
    outcomes = await asyncio.gather(*[node.acceptor.accept(event) for event in again])
    assert outcomes == [Accepted(event.id, False) for event in again]


@pytest.mark.parametrize("lost", [False, True], ids=["left over", "left over, and perhaps stored before"])
async def test_what_may_be_stored_is_never_said_not_to_be(
    node: Node,
    database: Database,
    clock: DatabaseClock,
    tenant: Tenant,
    monkeypatch: pytest.MonkeyPatch,
    lost: bool,
) -> None:
    accept, calls = event_store.accept, 0

    async def losing(*args: Any, **more: Any) -> event_store.Receipt:
        nonlocal calls
        calls += 1
        monkeypatch.setattr(group_commit, "MAX_WAIT_SECONDS", 0.0)
        if lost and calls == 1:
            raise ConnectionResetError
        return await accept(*args, **more)

    monkeypatch.setattr(event_store, "accept", losing)
    monkeypatch.setattr(event_store, "FLUSH_DELIVERIES", 2)
    waiting = [
        node.acceptor.accept(new_event(tenant.id, clock, dedup_id)) for dedup_id in ("a", "b", "c", "c")
    ]
    outcomes = [type(outcome) for outcome in await asyncio.gather(*waiting)]
    assert outcomes == ([Accepted] * 4 if lost else [Accepted, Accepted, Overloaded, Overloaded])
    assert (await counts(database))[0] == (3 if lost else 2)


# ---- the outcome of COMMIT lost -------------------------------------------------------------------


class Proxy:
    """A way to PostgreSQL that can be cut at the instant of an answer.

    The next `cuts` messages of clients that hold `marker` are carried out (or, with `before`,
    not even passed on) and the connection is closed in place of the answer.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        options = parse_qs(parts.query)
        self._socket = f"{options['host'][0]}/.s.PGSQL.{options['port'][0]}"
        self._target = f"{parts.path}?user={options['user'][0]}"
        self.marker = b""
        self.cuts = 0
        self.before = False
        self.done = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"postgresql://127.0.0.1:{self._listening.getsockname()[1]}{self._target}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """End, once everybody who was connected has gone."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self._threads.append(threading.Thread(target=self._serve, args=[connection]))
                self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        cut = False
        with client, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError):
            server.connect(self._socket)
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    data = ready.recv(1 << 20)
                    if not data:
                        return
                    if ready is server:
                        if not cut:
                            client.sendall(data)
                        elif data[-6:-5] == b"Z":  # ready for the next query: this one is committed
                            return
                        continue
                    if self.cuts and self.marker in data:
                        self.cuts -= 1
                        self.done += 1
                        cut = True
                        if self.before:
                            return
                    server.sendall(data)


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    between = Proxy(database_url)
    yield between
    between.close()


@pytest.mark.parametrize("before", [False, True], ids=["after the commit", "before it arrived"])
@pytest.mark.parametrize("dedup_id", [None, "d"])
async def test_a_cut_at_the_instant_of_commit_is_not_noticed(
    proxy: Proxy,
    make_node: Callable[..., Any],
    database: Database,
    tenant: Tenant,
    before: bool,
    dedup_id: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Else the second event is looked up before it is stored again, and that look-up finds it.
    monkeypatch.setattr(flusher, "OBSTACLE_SECONDS", 0.0)
    node: Node = await make_node(url=proxy.url)
    monkeypatch.setattr(node.acceptor.tally, "_now", lambda: 0.0)  # no minute ends meanwhile
    async with node.client(tenant) as client:
        # The statement is known to the connection from now on, so that one message carries it out.
        assert (await client.post("/v1/events", json={"type": "a", "payload": "warm"})).status_code == 201
        proxy.marker, proxy.cuts, proxy.before = b"unmistakable", 1, before
        body = {"type": "a", "payload": "unmistakable", "dedup_id": dedup_id}
        answer = await client.post("/v1/events", json=body)
        assert proxy.done == 1
        assert answer.status_code == 201, answer.text
        assert answer.json()["duplicate"] is False
        assert await counts(database) == (2, 2, 1 if dedup_id else 0)
        listed = (await client.get("/v1/inbox")).json()["events"]
        assert [event["id"] for event in listed][1:] == [answer.json()["id"]]
        counted = node.acceptor.tally.counted()[tenant.id, WHOLE]
        assert (counted.accepted, counted.duplicate) == (2, 0), "once, although it was stored in two tries"

        proxy.cuts = 2
        body = {"type": "a", "payload": "unmistakable too", "dedup_id": "again"}
        lost = await client.post("/v1/events", json=body)
        assert lost.status_code == 503, "tried once more, then left to the caller"
        assert int(lost.headers["retry-after"]) >= 1
        retried = await client.post("/v1/events", json=body)
        assert retried.status_code == (201 if before else 200)
        assert (await counts(database))[:2] == (3, 3)
        assert counted.duplicate == (0 if before else 1)


async def test_what_is_committed_is_answered_whatever_becomes_of_the_rest(
    node: Node, tenant: Tenant, clock: DatabaseClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node loses its connection as it asks why one event of a batch was not stored."""
    old = new_event(tenant.id, clock, "twice")
    assert await node.acceptor.accept_many([old]) == [Accepted(old.id, False)]

    async def broken(*_: Any) -> Any:
        raise ValueError("a bug")

    monkeypatch.setattr(event_store, "resolve", broken)
    new, again = new_event(tenant.id, clock), new_event(tenant.id, clock, "twice")
    outcomes = await node.acceptor.accept_many([new, again])
    assert outcomes[0] == Accepted(new.id, False)
    assert isinstance(outcomes[1], DatabaseUnavailable)
