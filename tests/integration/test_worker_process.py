"""The process that starts the worker, where the machine lets it start none."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from harness import eventually
from triggers.settings import load
from triggers.worker_process import WorkerProcess


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
