"""The answer of `GET /v1/admin/system`."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from triggers.http.views import Timestamp


class ApiProcessView(msgspec.Struct, kw_only=True):
    """A process that serves the API, as PostgreSQL sees its connections."""

    name: Annotated[str, Meta(description="`<process id>@<host>`.")]
    since: Timestamp
    last_active_at: Annotated[
        Timestamp, Meta(description="Time when one of its connections last began or ended a statement.")
    ]
    idle_seconds: Annotated[float, Meta(description="Time since `last_active_at`.")]
    connections: int
    is_this: Annotated[bool, Meta(description="Whether this process gives the answer.")]


class WorkerView(msgspec.Struct, kw_only=True):
    """A delivery worker that is not known to be dead."""

    id: UUID
    name: Annotated[str, Meta(description="`<host>:<process id>`.")]
    since: Timestamp
    heartbeat_at: Timestamp
    heartbeat_age_seconds: float
    groups: Annotated[int, Meta(description="Number of groups of lanes that it owns.")]
    lanes: Annotated[
        int | None,
        Meta(
            description="Number of its lanes that have due deliveries, or had some in the last minute, as of"
            " its last heartbeat. Null for a worker of an older version."
        ),
    ]


class GroupsView(msgspec.Struct, kw_only=True):
    """The groups of lanes. Each lane is one push subscription and belongs to one group."""

    total: int
    without_owner: Annotated[int, Meta(description="Nothing is sent for the lanes of these groups.")]


class PoolView(msgspec.Struct, kw_only=True):
    """The connections of this process to PostgreSQL."""

    in_use: int
    open: int
    most: int


class TableView(msgspec.Struct, kw_only=True):
    """A table with all its partitions. The numbers of rows are PostgreSQL's estimates."""

    name: str
    size_bytes: Annotated[int, Meta(description="Size on disk, with indexes.")]
    live_rows: int
    dead_rows: Annotated[int, Meta(description="Rows that were deleted or replaced, until vacuum runs.")]
    partitions: Annotated[int, Meta(description="0 if the table is not partitioned.")]
    vacuumed_at: Annotated[Timestamp | None, Meta(description="Time of the last vacuum of one of its parts.")]


class PostgresView(msgspec.Struct, kw_only=True):
    """The state of PostgreSQL."""

    pool: PoolView
    connections: Annotated[int, Meta(description="Connections of all clients to this server.")]
    max_connections: int
    oldest_xmin_age: Annotated[
        int,
        Meta(
            description="Number of transactions since the oldest snapshot that is still in use. Vacuum cannot"
            " remove rows that died after it."
        ),
    ]
    oldest_transaction_seconds: Annotated[
        float | None, Meta(description="Age of the oldest open transaction. Null if none is open.")
    ]
    tables: Annotated[
        list[TableView] | None,
        Meta(description="The largest tables, at most 20. Null if they could not be read in two seconds."),
    ]


class DiskView(msgspec.Struct, kw_only=True):
    """The disk of the private PostgreSQL."""

    free_bytes: int
    total_bytes: int
    least_free_bytes: Annotated[
        int, Meta(description="Events are refused below it. The setting is `TRIGGERS_MIN_FREE_DISK`.")
    ]


class VersionsView(msgspec.Struct, kw_only=True):
    """Versions of programs."""

    triggers: str
    python: str
    postgresql: str
    migration: Annotated[int, Meta(description="Number of the last migration that was applied.")]


class SettingView(msgspec.Struct, kw_only=True):
    """A setting of this process."""

    name: Annotated[str, Meta(description="Name of its variable.")]
    value: Annotated[
        str | int | float | bool | None,
        Meta(description="`(set)` stands for a secret. The passwords of other URLs are left out."),
    ]
    is_default: bool


class NodeFacts(msgspec.Struct, kw_only=True):
    """The facts that only this process knows."""

    status: str
    checks: dict[str, str]
    redis: Literal["up", "down", "off"]
    disk: DiskView | None
    settings: list[SettingView]


class SystemState(NodeFacts, kw_only=True):
    """The state of the service. `status` and `checks` are those of `/readyz`.

    `redis` is `off` if no Redis is set. `disk` is null if the operator runs PostgreSQL, because then its disk
    is not watched.
    """

    at: Timestamp
    api_processes: Annotated[
        list[ApiProcessView], Meta(description="At most 200, of this version or a later one.")
    ]
    workers: Annotated[list[WorkerView], Meta(description="At most 200.")]
    groups: GroupsView
    postgresql: PostgresView
    versions: VersionsView
