"""Services that a test may kill, a place for their data that PostgreSQL's user can reach, and notes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from .processes import Service

_notes: list[str] = []
_services: list[Service] = []


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say something, such as a figure or a seed, that is shown at the end even if all went well."""
    return lambda text: _notes.append(f"{request.node.name}: {text}")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _notes:
        terminalreporter.section("acceptance notes")
        for text in _notes:
            terminalreporter.write_line(text)


@pytest.fixture(autouse=True)
def _show_logs() -> Iterator[None]:
    """Where a test fails, the end of what each service said is shown."""
    yield
    for service in _services:
        if service.log.exists():
            print(f"--- the end of {service.log}\n{service.log.read_text(errors='replace')[-8000:]}")


@contextmanager
def _place() -> Iterator[Path]:
    """A directory that anyone may enter, unlike pytest's own: root runs PostgreSQL as another user."""
    path = Path(tempfile.mkdtemp(prefix="triggers-", dir="/tmp"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@pytest.fixture
def launch() -> Iterator[Callable[..., Service]]:
    """Make services that this test alone has: `launch(name=…, database_url=…)`. None is started yet."""
    with ExitStack() as stack:
        place = stack.enter_context(_place())

        def make(**options: Any) -> Service:
            service = Service(place, **options)
            stack.callback(_end, service)
            _services.append(service)
            return service

        yield make


@pytest.fixture(scope="session")
def shared() -> Iterator[Service]:
    """A running service for tests that leave it in peace; each takes a `tenant` of its own."""
    with ExitStack() as stack:
        service = Service(stack.enter_context(_place()))
        stack.callback(_end, service)
        _services.append(service)
        service.start()
        yield service


def _end(service: Service) -> None:
    service.close()
    _services.remove(service)
