"""Workers and receivers beside the test's database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest

from delivering import Owner, States, Workers, subscribe
from harness import Tenant
from receiving import Receiver
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database


@pytest.fixture
async def workers(database_url: str) -> AsyncIterator[Workers]:
    """Starts delivery workers on the test's database: `await workers.start()`."""
    async with Workers(database_url) as started:
        yield started


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """An endpoint that says yes until told otherwise."""
    async with Receiver() as listening:
        yield listening


@pytest.fixture
def subscribed(database: Database, clock: DatabaseClock, tenant: Tenant) -> Callable[..., Any]:
    """Makes push subscriptions of the tenant: `await subscribed(url, delays=[1])`."""
    return partial(subscribe, database, clock, tenant)


@pytest.fixture
def states(database: Database) -> States:
    """What the database says of deliveries."""
    return States(database)


@pytest.fixture
async def owner(database: Database, clock: DatabaseClock) -> Owner:
    found = Owner(database, clock)
    await found.take()
    return found
