"""A data directory on a disk that is nearly full: what the service says of it before and after it starts."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import Node, Tenant, eventually, node_settings
from triggers.node.check import check_configuration

DISK_MIB = 16
LEAST_FREE_MIB = 4


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, with DISK_MIB of space."""
    place = tmp_path / "disk"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(place)]
    mounted = subprocess.run(mounting, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a file system can only be mounted by root: {mounted.stderr.decode().strip()}")
    yield place
    unmounting = ["umount", str(place)]
    subprocess.run(unmounting, check=True)


async def test_a_disk_that_is_nearly_full_is_named_until_there_is_space_again(
    make_node: Callable[..., Any], tenant: Tenant, small_disk: Path
) -> None:
    settings = node_settings(data_dir=str(small_disk / "data"), min_free_disk=LEAST_FREE_MIB)

    async def checked() -> str:
        return dict(await check_configuration(settings))["disk"]

    assert await checked() == f"ok, {DISK_MIB} MiB are free"
    node: Node = await make_node(data_dir=small_disk, min_free_disk=LEAST_FREE_MIB)
    async with node.client(tenant) as client:

        async def readiness_is(*expected: Any) -> bool:
            answer = await client.get("/readyz")
            found = answer.json()
            return (answer.status_code, found["status"], found.get("checks", {}).get("disk")) == expected

        assert await readiness_is(200, "ready", None)
        filling = small_disk / "filling"
        filling.write_bytes(bytes((DISK_MIB - LEAST_FREE_MIB + 1) * 1024 * 1024))
        assert (await checked()).startswith(f"Only {LEAST_FREE_MIB - 1} MiB are free on the disk of ")
        said = "free space is below TRIGGERS_MIN_FREE_DISK: events are refused"
        await eventually(lambda: readiness_is(200, "degraded", said), 10)
        refused = await client.post("/v1/events", json={"type": "a", "payload": 1})
        assert (refused.status_code, refused.json()["code"]) == (503, "disk-full")
        filling.unlink()
        assert (await checked()).startswith("ok")
        await eventually(lambda: readiness_is(200, "ready", None), 10)
        assert (await client.post("/v1/events", json={"type": "a", "payload": 1})).status_code == 201
