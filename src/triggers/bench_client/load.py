"""The two ways to send requests: as fast as they are answered, or at a fixed rate."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from triggers.bench_client.connection import LoadConnection
from triggers.bench_client.progress import RunProgress
from triggers.bench_client.recording import Recording
from triggers.bench_client.service import MeasuredService
from triggers.bench_client.size import Pace
from triggers.bench_client.workload import Call, Source
from triggers.errors import OperatorError

MAX_OPEN_CONNECTIONS: Final = 512
"""Connections of an open loop. When all are in use, requests wait, and their time includes this wait."""
_PATIENCE_SECONDS: Final = 30


class Measured:
    """The measurements of one phase, and how busy the generator was."""

    def __init__(self, phase: str) -> None:
        self.phase = phase
        self.note = ""
        """Further facts of the phase, such as messages per second."""
        self.recordings: dict[str, Recording] = defaultdict(Recording)
        self.lateness = Recording()
        """In an open loop: from the planned time of a request until it was sent or began to wait."""
        self.requests = 0
        """Requests that were sent, with those that failed."""
        self.began = 0.0
        self.seconds = 0.0
        self.processor_share = 0.0
        """Share of one processor core that the generator used."""

    def begin(self) -> None:
        """Start both clocks."""
        self.began, self._used = time.perf_counter(), time.process_time()

    def end(self) -> None:
        """Stop both clocks."""
        self.seconds = max(time.perf_counter() - self.began, 1e-9)
        self.processor_share = (time.process_time() - self._used) / self.seconds
        self.requests = sum(each.successes + each.errors.total() for each in self.recordings.values())


class ClosedLoop:
    """`connections` callers, each of which sends again as soon as it is answered."""

    def __init__(self, service: MeasuredService, connections: int, progress: RunProgress) -> None:
        self._service = service
        self._connections = connections
        self._progress = progress

    async def run_requests(self, phase: str, source: Source, requests: int) -> Measured:
        """Send so many requests."""
        self._progress.begin(phase, requests)

        def calls() -> Iterator[Call]:
            for number in range(requests):
                self._progress.done = number
                yield source()

        return await self._run(phase, calls())

    async def run_seconds(self, phase: str, source: Source, seconds: float) -> Measured:
        """Send for so many seconds. Requests that were sent by then are still answered and counted."""
        self._progress.begin(phase, seconds)

        def calls() -> Iterator[Call]:
            began = time.perf_counter()  # at the first request, after the connections were opened
            while self._progress.done < seconds:
                yield source()
                self._progress.done = time.perf_counter() - began

        return await self._run(phase, calls())

    async def _run(self, phase: str, calls: Iterator[Call]) -> Measured:
        measured = Measured(phase)
        opened = await open_connections(self._service, self._connections)
        try:
            measured.begin()
            async with asyncio.TaskGroup() as group:
                for number in range(self._connections):
                    group.create_task(self._send(opened, number, calls, measured))
            measured.end()
        finally:
            for connection in opened:
                connection.abort()
        return measured

    async def _send(
        self, opened: list[LoadConnection], number: int, calls: Iterator[Call], measured: Measured
    ) -> None:
        for call in calls:  # all callers share the iterator
            if opened[number].closed:
                opened[number] = await self._service.connect()
            await exchange(opened[number], call, time.perf_counter(), measured.recordings[call.endpoint])


async def open_loop(
    service: MeasuredService, phase: str, source: Source, pace: Pace, progress: RunProgress
) -> Measured:
    """Send at a fixed rate, whether or not earlier requests were answered.

    Every time is counted from the planned time of the request. So a stall of the service counts for each
    request that it delayed (no coordinated omission), and so does a delay of the generator.
    """
    measured = Measured(phase)
    pool = _Pool(service)
    progress.begin(phase, pace.seconds)
    tasks: list[asyncio.Task[None]] = []
    try:
        await pool.fill(min(16, MAX_OPEN_CONNECTIONS))
        measured.begin()
        for number in range(round(pace.rate * pace.seconds)):
            due = measured.began + number / pace.rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)  # may end a little early, which counts as on time
            progress.done = due - measured.began
            measured.lateness.add(time.perf_counter() - due)
            call = source()
            tasks.append(asyncio.create_task(pool.send(call, due, measured.recordings[call.endpoint])))
        await _finish(tasks, measured)
    finally:
        for task in tasks:
            task.cancel()
        pool.close()
    return measured


async def _finish(tasks: list[asyncio.Task[None]], measured: Measured) -> None:
    """Wait for the last answers. A request that is not answered by then is an error."""
    if not tasks:
        measured.end()
        return
    done, late = await asyncio.wait(tasks, timeout=_PATIENCE_SECONDS)
    measured.end()
    for each in done:
        each.result()
    if late:
        next(iter(measured.recordings.values())).errors["no answer"] += len(late)


async def open_connections(service: MeasuredService, count: int) -> list[LoadConnection]:
    """Open connections before the clock starts.

    Raises:
        OperatorError: one of them cannot be opened.
    """
    opened: list[LoadConnection] = []
    try:
        opened.extend([await service.connect() for _ in range(count)])
    except OperatorError:
        for connection in opened:
            connection.abort()
        raise
    return opened


async def exchange(connection: LoadConnection, call: Call, since: float, recording: Recording) -> None:
    """Send a request and record its answer. `since` is the time from which it counts."""
    try:
        answer = await connection.exchange(call.request)
    except OSError as error:
        recording.add_error("no answer" if isinstance(error, TimeoutError) else "connection lost")
        return
    if not 200 <= answer.status < 300:
        recording.add_error(str(answer.status))
        return
    recording.add(time.perf_counter() - since)
    if call.answered is not None:
        call.answered(answer)


class _Pool:
    """The connections of an open loop: as many as are needed at once, up to a limit."""

    def __init__(self, service: MeasuredService) -> None:
        self._service = service
        self._free: list[LoadConnection] = []
        self._used: set[LoadConnection] = set()
        self._places = asyncio.Semaphore(MAX_OPEN_CONNECTIONS)

    async def fill(self, count: int) -> None:
        self._free = await open_connections(self._service, count)

    async def send(self, call: Call, due: float, recording: Recording) -> None:
        async with self._places:
            try:
                connection = await self._take()
            except OperatorError:
                recording.add_error("no connection")
                return
            await exchange(connection, call, due, recording)
            self._used.discard(connection)
            self._free.append(connection)

    async def _take(self) -> LoadConnection:
        while self._free:
            connection = self._free.pop()
            if not connection.closed:
                break
        else:
            connection = await self._service.connect()
        self._used.add(connection)
        return connection

    def close(self) -> None:
        with suppress(OSError):
            for connection in (*self._free, *self._used):
                connection.abort()
