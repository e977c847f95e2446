"""Facts that only this process knows, for the state of the service that operators see."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Final

from triggers.node.health import Health
from triggers.node.settings import Settings, env_name, settings_list
from triggers.system.body import DiskView, NodeFacts, SettingView

_MIB: Final = 1024 * 1024
_REDIS: Final = {None: "off", True: "up", False: "down"}


async def facts_of(settings: Settings, health: Health, data_dir: Path | None) -> NodeFacts:
    """Return the facts of this process. `data_dir` is that of its private PostgreSQL, if it has one."""
    found = await health.readiness()
    return NodeFacts(
        status=found.status,
        checks=found.checks,
        redis=_REDIS[health.redis],  # type: ignore[arg-type]  # the words are those of the field
        disk=None if data_dir is None else await asyncio.to_thread(_disk, data_dir, settings.min_free_disk),
        settings=shown(settings),
    )


def shown(settings: Settings) -> list[SettingView]:
    """Return every setting without secrets, in the order of the documentation."""
    masked = settings.masked()
    return [
        SettingView(
            name=env_name(each.name),
            value=masked[each.name],
            is_default=getattr(settings, each.name) == each.default,
        )
        for each in settings_list()
    ]


def _disk(data_dir: Path, least_free_mib: int) -> DiskView:
    usage = shutil.disk_usage(data_dir)
    return DiskView(free_bytes=usage.free, total_bytes=usage.total, least_free_bytes=least_free_mib * _MIB)
