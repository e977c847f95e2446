"""Services that a test may kill, a place for their data that PostgreSQL's user can reach, and notes."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness import SECRET_KEYS
from looking import chromium
from triggers.postgres import embedded_cluster
from triggers.postgres.embedded import EmbeddedPostgres

from .processes import Service

__all__ = ["chromium"]

_services: list[Service] = []


@pytest.fixture
def note(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Say something, such as a figure or a seed, that is shown at the end even if all went well."""
    return lambda text: record_property("note", text)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    # The tests run in other processes than this one; their reports come here.
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call"
    ]
    notes = [
        f"{report.head_line}: {text}"
        for report in reports
        for name, text in report.user_properties
        if name == "note"
    ]
    if notes:
        terminalreporter.section("acceptance notes")
        for text in notes:
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


@pytest.fixture(scope="session")
def cluster() -> Iterator[Path]:
    """A data directory with an empty PostgreSQL, which takes longer to make than to copy."""

    async def make(data_dir: Path) -> None:
        postgres = EmbeddedPostgres(data_dir)
        await postgres.start()
        await postgres.stop()

    with _place() as place:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(embedded_cluster, "_WAL_AHEAD_MIB", 0)
            asyncio.run(make(place / "data"))
        yield place / "data"


@pytest.fixture
def launch(cluster: Path) -> Iterator[Callable[..., Service]]:
    """Make services that this test alone has: `launch(name=…, database_url=…)`. None is started yet; one
    that is `fresh` has no PostgreSQL either."""
    with ExitStack() as stack:
        place = stack.enter_context(_place())

        def make(*, fresh: bool = False, **options: Any) -> Service:
            service = Service(place, **options)
            stack.callback(_end, service)
            if not fresh and "database_url" not in options and not service.data_dir.exists():
                _furnish(service, cluster)
            _services.append(service)
            return service

        yield make


@pytest.fixture(scope="session")
def shared(cluster: Path) -> Iterator[Service]:
    """A running service for tests that leave it in peace; each takes a `tenant` of its own."""
    with ExitStack() as stack:
        service = Service(stack.enter_context(_place()))
        _furnish(service, cluster)
        stack.callback(_end, service)
        _services.append(service)
        service.start()
        yield service


def _furnish(service: Service, cluster: Path) -> None:
    """Give it a PostgreSQL that is there already, and the key ring that further nodes have too."""
    subprocess.run(["/bin/cp", "-a", cluster, service.data_dir], check=True)
    service.environment["TRIGGERS_SECRET_KEYS"] = SECRET_KEYS


def _end(service: Service) -> None:
    service.close()
    _services.remove(service)
