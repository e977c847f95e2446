"""The organisation of a key, API keys, search and readiness."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from triggers_client.decoding import Model


@dataclass(frozen=True, kw_only=True)
class Organisation(Model):
    """The organisation of the API key, and the scopes of the key."""

    id: str
    name: str
    plan: str
    requests_per_minute: int | None
    key_id: str
    key_prefix: str
    scopes: list[str]


@dataclass(frozen=True, kw_only=True)
class ApiKey(Model):
    """An API key. Only the answer that makes one has the `key` itself."""

    id: str
    name: str | None
    prefix: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class SearchHit(Model):
    """A thing that was found."""

    kind: str
    id: str
    name: str
    matched: str


@dataclass(frozen=True, kw_only=True)
class SearchResult(Model):
    """At most 20 hits, the most exact ones first."""

    data: list[SearchHit]
    looked_to: datetime | None


@dataclass(frozen=True, kw_only=True)
class Readiness(Model):
    """The readiness of this node. `checks` is present with `?verbose`, or if the node is not ready.
    `status` is `ready`, `degraded` (some background work fails or the disk is full, but send traffic) or
    `not ready`."""

    status: str
    checks: dict[str, str] | None = None
