"""Fixtures for pytest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from triggers_client.testing.service import RunningService


@pytest.fixture(scope="session")
def triggers_service() -> Iterator[RunningService]:
    """A service that runs for the whole session. Make inboxes with names of your own for each test."""
    with RunningService() as running:
        yield running
