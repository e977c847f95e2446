"""The process that starts the worker, and what it tells it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from harness import eventually
from triggers.events.handover import Fresh, Handover
from triggers.node.variables import load
from triggers.node.worker_process import (
    DATAGRAM_BYTES,
    SOCKET_ENV,
    ParentSocket,
    WorkerProcess,
)
from triggers.wakeups.wakeup import Wakeup


async def test_a_worker_that_cannot_be_started_again_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    popen, tries = subprocess.Popen, 0

    def spawn(_: Any, **options: Any) -> subprocess.Popen[bytes]:
        nonlocal tries
        tries += 1
        if tries == 2:
            raise OSError(12, "no memory")
        return popen(["sleep", "0" if tries == 1 else "60"], **options)

    monkeypatch.setattr(subprocess, "Popen", spawn)
    process = WorkerProcess(load({}), "postgresql:///", "")
    await process.start()
    await eventually(lambda: tries == 3, 10)
    await process.stop()
    assert process._process is not None
    assert process._process.poll() is not None


async def test_a_watch_that_a_bug_ends_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    popen = subprocess.Popen
    tries = 0

    def spawn(_: Any, **options: Any) -> subprocess.Popen[bytes]:
        nonlocal tries
        tries += 1
        if tries == 2:
            raise RuntimeError("a bug")
        return popen(["sleep", "0"], **options)

    monkeypatch.setattr(subprocess, "Popen", spawn)
    process = WorkerProcess(load({}), "postgresql:///", "")
    await process.start()
    await eventually(lambda: process.trouble.get("worker process") == "ended: RuntimeError", 10)
    await process.stop()


def handover_of(lane: tuple[UUID, UUID], payload: bytes, source: str = "s", times: int = 1) -> Handover:
    fresh = Fresh(lane[0].bytes, uuid4().bytes, "a", payload, source, None, None, [lane[1].bytes])
    return Handover(time.monotonic(), datetime.now(UTC), [fresh] * times)


async def test_what_is_stored_reaches_the_worker_or_a_hint_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    popen = subprocess.Popen

    def spawn(_: Any, **options: Any) -> subprocess.Popen[bytes]:
        monkeypatch.setenv(SOCKET_ENV, f"{os.dup(options['pass_fds'][0])} {os.getpid()}")
        return popen(["sleep", "60"])

    monkeypatch.setattr(subprocess, "Popen", spawn)
    process = WorkerProcess(load({}), "postgresql:///", "")
    await process.start()
    wakeup = Wakeup()
    wakeup.listen_for_lanes(process.hint, process.hand_over)
    give = partial(wakeup.hand_over, set())
    heard: list[Handover] = []
    hints: set[tuple[UUID, UUID]] = set()
    try:
        worker = ParentSocket(os.environ[SOCKET_ENV])
        worker.listen(hints.update, heard.append)
        lane, large, wordy = [(uuid4(), uuid4()) for _ in range(3)]
        small = handover_of(lane, b"1")
        give(small)
        await eventually(lambda: heard, 5)
        assert heard == [small]
        give(handover_of(large, b"x" * DATAGRAM_BYTES))
        give(handover_of(wordy, b"1", "s" * 2_000, times=100))
        await eventually(lambda: len(hints) == 2, 5)
        assert hints == {large, wordy}
        # A worker that does not listen for a while hears later of what no longer fitted.
        crowd = [(uuid4(), uuid4()) for _ in range(200)]
        for each in crowd:
            give(handover_of(each, b"x" * 10_000))
        assert len(heard) + len(hints) < 50, "nothing waits for it"
        await eventually(lambda: hints.union(*(told.lanes() for told in heard)) >= {*crowd}, 10)
        assert hints & {*crowd}
    finally:
        assert worker._socket is not None
        asyncio.get_running_loop().remove_reader(worker._socket)
        worker._socket.close()
        await process.stop()


async def test_nothing_is_said_again_and_again_to_a_worker_that_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda _, **options: popen(["sleep", "60"], **options))
    process = WorkerProcess(load({}), "postgresql:///", "")
    await process.start()
    assert process._process is not None
    process._process.kill()
    process._process.wait()
    process.hint([(uuid4(), uuid4()) for _ in range(3_000)])
    assert process._again is None
    assert not process._unheard
    await process.stop()
