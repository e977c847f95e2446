"""Clients of a real node, with the key of a tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from harness import Node, Tenant
from relaying import Relay
from triggers_client import AsyncTriggers, Triggers


@pytest.fixture
async def triggers(node: Node, tenant: Tenant) -> AsyncIterator[AsyncTriggers]:
    """The asynchronous half. It repeats for a second at most."""
    async with AsyncTriggers(node.url, tenant.key, retry_seconds=1) as client:
        yield client


@pytest.fixture
def blocking(node: Node, tenant: Tenant) -> Triggers:
    """The synchronous half, for threads: the node answers in the test's own loop."""
    return Triggers(node.url, tenant.key, retry_seconds=1)


@pytest.fixture
async def relay(node: Node) -> AsyncIterator[Relay]:
    """A way to the node that the test can cut."""
    async with Relay(int(node.url.rpartition(":")[2])) as relay:
        yield relay
