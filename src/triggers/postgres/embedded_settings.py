"""The private PostgreSQL's settings: a write-heavy queue of small rows, on whatever machine this is."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MIB = 1024 * 1024


def fitting_settings(*, free_disk_bytes: int, memory_bytes: int | None = None) -> dict[str, str]:
    """For `memory_bytes`, by default what this machine lets us have."""
    memory = memory_bytes or usable_memory_bytes()

    def mib(size: int, lowest: int, highest: int) -> int:
        return max(lowest, min(size // _MIB, highest))

    wal_mib = mib(free_disk_bytes // 8, 256, 1024)
    return {
        "cluster_name": "triggers",
        "timezone": "UTC",
        "max_connections": "200",
        "shared_buffers": f"{mib(memory // 8, 64, 1024)}MB",
        "effective_cache_size": f"{mib(memory // 2, 128, 1024 * 1024)}MB",
        "work_mem": f"{mib(memory // 512, 4, 16)}MB",
        "maintenance_work_mem": f"{mib(memory // 32, 32, 256)}MB",
        "huge_pages": "try",
        # Maximum log to replay after a crash. Meanwhile every request is answered with 503.
        # Measured on two cores under full load: of 4 GB, 1.3 to 2.7 GB were replayed after a minute, in
        # 10 to 20 s. 1 GB recovers in 3 to 6 s (once in 10 s) and costs 0 to 5 % of throughput. 512 MB
        # recovers in 3 to 4 s, and with an index in random order costs a quarter.
        "max_wal_size": f"{wal_mib}MB",
        "min_wal_size": f"{wal_mib}MB",  # kept to be used again: no commit waits for new ones
        "wal_buffers": "16MB",
        "wal_compression": "on",  # the wheel is built without lz4
        "checkpoint_timeout": "5min",
        # Small tables whose every row changes soon: vacuum often and without holding back.
        "autovacuum_naptime": "10s",
        "autovacuum_vacuum_scale_factor": "0.05",
        "autovacuum_analyze_scale_factor": "0.05",
        "autovacuum_vacuum_cost_limit": "2000",
        # A fifth of the usual: most of what autovacuum costs where a table grows fast is to look at samples,
        # and no plan of ours hangs on so fine a picture.
        "default_statistics_target": "20",
        # Short statements over indexes: compiling and parallel plans cost more than they bring.
        "jit": "off",
        "max_parallel_workers_per_gather": "0",
        "random_page_cost": "1.1",
        "log_filename": "postgresql-%a.log",
        "log_rotation_age": "1d",
        "log_rotation_size": "0",
        "log_truncate_on_rotation": "on",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] %q%u@%d ",
        "log_min_error_statement": "panic",  # statements may carry what people sent us
    }


def usable_memory_bytes() -> int:
    """The machine's memory, or the lower limit that a container or service manager set."""
    return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *_memory_limits()])


def _memory_limits() -> Iterator[int]:
    root = Path("/sys/fs/cgroup")
    group = root
    with suppress(OSError):
        group = root / Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip().lstrip("/")
    files = [path / "memory.max" for path in (group, *group.parents) if path.is_relative_to(root)]
    for file in (*files, root / "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # absent, or the word "max"
            yield int(file.read_text())
