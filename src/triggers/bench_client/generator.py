"""The generator's own ceiling, and whether it limited what was measured."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from triggers.bench_client.load import ClosedLoop, Measured
from triggers.bench_client.progress import RunProgress
from triggers.bench_client.service import MeasuredService
from triggers.bench_client.workload import Workload
from triggers.errors import OperatorError

BUSY_SHARE: Final = 0.9
"""Share of a core from which the generator counts as fully used."""
NEAR_CEILING: Final = 0.7
"""Share of the ceiling from which a rate says more about the generator than about the service."""
LATE_MS: Final = 20.0
"""A generator that sends one request in a hundred later than this does not keep its rate."""


async def ceiling(connections: int, seconds: float, progress: RunProgress) -> float:
    """Requests per second that this generator reaches against a server that does nothing."""
    async with _no_op() as port:
        service = MeasuredService("127.0.0.1", port, tls=False, prefix="", key="none")
        loop = ClosedLoop(service, connections, progress)
        measured = await loop.run_seconds("generator alone", Workload(service).send_only, seconds)
    return measured.requests / measured.seconds


def limits(measured: Measured, ceiling_per_second: float) -> str | None:
    """A sentence that says that the generator was the bottleneck; None if it was not."""
    rate = measured.requests / measured.seconds
    if measured.processor_share >= BUSY_SHARE:
        why = f"it used {measured.processor_share:.0%} of a core"
    elif rate >= NEAR_CEILING * ceiling_per_second:
        why = f"it sent {rate:,.0f} of the {ceiling_per_second:,.0f} requests/s that it can send at most"
    elif measured.lateness.percentile_ms(99) > LATE_MS:
        why = f"it sent 1 % of the requests more than {measured.lateness.percentile_ms(99):.0f} ms too late"
    else:
        return None
    return (
        f"{measured.phase}: the generator was the bottleneck, because {why}. The service may be faster than"
        " these figures."
    )


@asynccontextmanager
async def _no_op() -> AsyncIterator[int]:
    """A process that answers every request. It ends with this process, because its standard input does."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "triggers.bench_client.noop",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            line = await process.stdout.readline()
        if not line.strip().isdigit():
            raise OperatorError("The no-op server, which measures the generator alone, did not start.")
        yield int(line)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
