"""A run, from its first look at the service to the removal of what it made."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from triggers.bench_client.generator import ceiling, limits
from triggers.bench_client.load import Measured
from triggers.bench_client.organisation import check_quota, organisation_for
from triggers.bench_client.profiles import run_profile
from triggers.bench_client.progress import RunProgress
from triggers.bench_client.report import BenchReport, ReportRow
from triggers.bench_client.service import MeasuredService
from triggers.bench_client.size import Profile, ProfileSize
from triggers.errors import OperatorError

_CEILING_CONNECTIONS: Final = {Profile.QUICK: 10, Profile.LEASE: 8}
CEILING_SECONDS: Final = 2.0


class Interrupted(Exception):
    """SIGTERM ended the run. What it had made is removed."""


async def run(
    service: MeasuredService,
    profile: Profile,
    size: ProfileSize,
    progress: RunProgress,
    *,
    disposable: bool = False,
) -> BenchReport:
    """Measure the generator alone, then the service.

    Raises:
        OperatorError: the service, the key or the organisation cannot be used. Nothing was sent.
        Interrupted: SIGTERM came.
    """
    with _ended_by_sigterm():
        async with organisation_for(service, progress, disposable=disposable) as organisation:
            connections = _CEILING_CONNECTIONS.get(profile, 64)
            most = await ceiling(connections, min(CEILING_SECONDS, size.seconds), progress)
            check_quota(organisation, *size.most_requests(profile, most))
            try:
                measured = await run_profile(profile, size, organisation.service, progress)
            except* OperatorError as errors:  # from one of many callers
                raise _first(errors) from None
    return _report(profile, measured, most, progress)


def _report(profile: Profile, measured: list[Measured], most: float, progress: RunProgress) -> BenchReport:
    rows = [ReportRow.of(phase, endpoint) for phase in measured for endpoint in phase.recordings]
    warnings = [sentence for phase in measured if (sentence := limits(phase, most)) is not None]
    if progress.remains is not None:
        warnings.append(progress.remains)
    notes = [f"{phase.phase}: {phase.note}" for phase in measured if phase.note]
    return BenchReport(profile, rows, most, notes, warnings)


def _first(errors: BaseExceptionGroup[OperatorError]) -> OperatorError:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, OperatorError)
    return found


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Cancel the run at SIGTERM, as asyncio does at Ctrl-C. A second SIGTERM ends the process at once."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    terminated = False

    def end() -> None:
        nonlocal terminated
        terminated = True
        loop.remove_signal_handler(signal.SIGTERM)
        task.cancel()

    # Only the main thread gets signals, and not every system can hand them to a loop.
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
        loop.add_signal_handler(signal.SIGTERM, end)
    try:
        yield
    except asyncio.CancelledError:
        if not terminated:
            raise
        task.uncancel()
        raise Interrupted from None
    finally:
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.remove_signal_handler(signal.SIGTERM)
