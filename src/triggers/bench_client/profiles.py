"""The profiles: the phases of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from triggers.bench_client.deliveries import deliver
from triggers.bench_client.leases import LeaseRun
from triggers.bench_client.load import ClosedLoop, Measured, open_loop
from triggers.bench_client.progress import RunProgress
from triggers.bench_client.service import MeasuredService
from triggers.bench_client.size import (
    HEAVY_CONNECTIONS,
    LEASE_CONSUMERS,
    QUICK_CONNECTIONS,
    WARM_UP_REQUESTS,
    Profile,
    ProfileSize,
)
from triggers.bench_client.workload import Workload


async def run_profile(
    profile: Profile, size: ProfileSize, service: MeasuredService, progress: RunProgress
) -> list[Measured]:
    """Run a profile; return what each phase measured."""
    return await _RUNS[profile](size, service, progress)


async def _quick(size: ProfileSize, service: MeasuredService, progress: RunProgress) -> list[Measured]:
    work = Workload(service)
    loop = ClosedLoop(service, QUICK_CONNECTIONS, progress)
    alone = f"{size.requests} each"
    for source in (
        work.send,
        work.look,
        work.acknowledge,
    ):  # a hundred requests would mostly measure a cold start
        await loop.run_requests("warm-up", source, WARM_UP_REQUESTS)
    return [
        await loop.run_requests(alone, work.send, size.requests),
        await loop.run_requests(alone, work.look, size.requests),
        await loop.run_requests(alone, work.acknowledge, size.requests),
        await loop.run_seconds("mixed", work.mixed, size.seconds),
    ]


async def _heavy(size: ProfileSize, service: MeasuredService, progress: RunProgress) -> list[Measured]:
    work = Workload(service)
    return [
        await ClosedLoop(service, connections, progress).run_seconds(
            f"{connections} connections", work.send_only, size.seconds
        )
        for connections in HEAVY_CONNECTIONS
    ]


async def _open(size: ProfileSize, service: MeasuredService, progress: RunProgress) -> list[Measured]:
    source = Workload(service).send_only
    return [await open_loop(service, f"{size.rate:g}/s", source, size.pace, progress)]


async def _deliver(size: ProfileSize, service: MeasuredService, progress: RunProgress) -> list[Measured]:
    return [await deliver(service, size.receiver, size.pace, progress)]


async def _lease(size: ProfileSize, service: MeasuredService, progress: RunProgress) -> list[Measured]:
    return [await LeaseRun(service, progress).run(size.messages, LEASE_CONSUMERS, size.lease_limit)]


_RUNS: Final[
    dict[Profile, Callable[[ProfileSize, MeasuredService, RunProgress], Awaitable[list[Measured]]]]
] = {
    Profile.QUICK: _quick,
    Profile.HEAVY: _heavy,
    Profile.OPEN: _open,
    Profile.DELIVER: _deliver,
    Profile.LEASE: _lease,
}
