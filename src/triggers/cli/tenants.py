"""Organisations and keys in the database, for `triggers orgs` and `keys` without an API key."""

from __future__ import annotations

import csv
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from triggers.cli.keys import KEY, WantedKey
from triggers.cli.naming import choose
from triggers.cli.options import run_async
from triggers.domain import TENANT_SCOPES, OrgId, PageRequest, Plan, Scope, parse_id, rfc3339
from triggers.errors import Invalid, TriggersError
from triggers.keys import deletion, organisations
from triggers.keys import store as api_keys
from triggers.node.resources import open_database
from triggers.node.settings import Settings
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database

_PAGE = 1_000
Work = Callable[[Database, DatabaseClock], Awaitable[Any]]


class DatabaseOrganisations:
    """Organisations in the database."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def listed(self) -> list[bytes]:
        """All organisations."""

        async def work(database: Database, _: DatabaseClock) -> list[Any]:
            found: list[Any] = []
            while page := await organisations.listed(database, _after(found)):
                found += page
            return found

        return list(map(_json, _run(self._settings, work)))

    def create(self, name: str, plan: Plan, requests_per_minute: int | None) -> bytes:
        """Create an organisation."""
        return _json(
            _run(
                self._settings,
                lambda database, clock: organisations.create(
                    database, clock, name, plan, requests_per_minute
                ),
            )
        )

    def set_plan(self, name: str, plan: Plan, requests_per_minute: int | None) -> bytes:
        """Change the plan of an organisation."""

        async def work(database: Database, _: DatabaseClock) -> Any:
            org = await organisations.by_name(database, name)
            return await organisations.set_plan(database, OrgId(org.id), plan, requests_per_minute)

        return _json(_run(self._settings, work))

    def delete(self, org_id: str) -> bytes:
        """Delete an organisation. Running nodes delete its rows."""

        async def work(database: Database, _: DatabaseClock) -> Any:
            return await deletion.delete(database, OrgId(UUID(org_id)), asking=None)

        return _json(_run(self._settings, work))


class DatabaseKeys:
    """Keys of an organisation in the database."""

    def __init__(self, settings: Settings, org: str) -> None:
        self._settings = settings
        self._org = org

    def listed(self) -> list[bytes]:
        """All keys."""
        return list(map(_json, self._run(self._all)))

    def create(self, wanted: WantedKey) -> bytes:
        """Create a key."""

        async def work(database: Database, clock: DatabaseClock, org_id: OrgId) -> Any:
            async with database.connection() as connection:
                new = api_keys.NewKey(
                    wanted.scopes or TENANT_SCOPES,
                    name=wanted.name,
                    live=wanted.live,
                    expires_at=wanted.expires_at(),
                )
                return await api_keys.create(connection, clock, org_id, new)

        return _json(self._run(work))

    def rotate(self, key: str, overlap: timedelta) -> bytes:
        """Make the successor of a key."""

        async def work(database: Database, clock: DatabaseClock, org_id: OrgId) -> Any:
            old = await api_keys.by_id(database, org_id, await self._id(database, clock, org_id, key))
            return await api_keys.rotate(database, clock, org_id, old, overlap)

        return _json(self._run(work))

    def revoke(self, key: str) -> bytes:
        """Revoke a key."""

        async def work(database: Database, clock: DatabaseClock, org_id: OrgId) -> Any:
            return await api_keys.revoke(database, org_id, await self._id(database, clock, org_id, key))

        return _json(self._run(work))

    def import_all(
        self, rows: Sequence[tuple[str, str, str | None]], scopes: list[Scope] | None, file: Path | None
    ) -> list[bytes]:
        """Import keys by prefix, SHA-256 and name.

        Raises:
            Invalid: a row is not valid. Those before it were imported.
        """

        async def work(database: Database, clock: DatabaseClock, org_id: OrgId) -> list[Any]:
            imported: list[Any] = []
            for number, (prefix, sha256, name) in enumerate(rows, start=2):
                foreign = api_keys.ForeignKey(prefix, sha256, scopes or TENANT_SCOPES, name)
                try:
                    imported.append(await api_keys.import_hash(database, clock, org_id, foreign))
                except TriggersError as error:
                    where = f"{file}, line {number}: " if file else ""
                    raise Invalid(
                        f"{where}{error.message} ({len(imported)} keys were imported before this one)"
                    ) from None
            return imported

        return list(map(_json, self._run(work)))

    @staticmethod
    def read_rows(file: Path) -> list[tuple[str, str, str | None]]:
        """The rows of a CSV file with the columns prefix, sha256 and perhaps name."""
        try:
            with file.open(encoding="utf-8-sig", newline="") as lines:
                reader = csv.DictReader(lines)
                if not {"prefix", "sha256"} <= set(reader.fieldnames or ()):
                    raise Invalid(f"The first line of {file} must name the columns prefix and sha256.")
                return [(row["prefix"] or "", row["sha256"] or "", row.get("name") or None) for row in reader]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise Invalid(f"{file} cannot be read as CSV in UTF-8: {error}.") from None

    def _run(self, work: Callable[[Database, DatabaseClock, OrgId], Awaitable[Any]]) -> Any:
        async def in_organisation(database: Database, clock: DatabaseClock) -> Any:
            return await work(database, clock, OrgId((await organisations.by_name(database, self._org)).id))

        return _run(self._settings, in_organisation)

    @staticmethod
    async def _all(database: Database, _: DatabaseClock, org_id: OrgId) -> list[Any]:
        found: list[Any] = []
        while page := await api_keys.listed(database, org_id, _after(found)):
            found += page
        return found

    async def _id(self, database: Database, clock: DatabaseClock, org_id: OrgId, text: str) -> UUID:
        """The id of the key that a person names, as over the API."""
        if (key_id := parse_id(text)) is not None:
            return key_id
        keys = [msgspec.to_builtins(each) for each in await self._all(database, clock, org_id)]
        return UUID(choose(KEY, text, keys))


def _run(settings: Settings, work: Work) -> Any:
    async def in_database() -> Any:
        async with open_database(settings) as (database, clock):
            return await work(database, clock)

    return run_async(in_database())


def _after(found: list[Any]) -> PageRequest:
    return PageRequest(found[-1].id if found else None, _PAGE)


def _json(item: Any) -> bytes:
    """A thing as the API shows it. The secret part of a key is left out unless the key was just made."""
    shown = {name: _plain(value) for name, value in msgspec.structs.asdict(item).items()}
    if shown.get("key", ...) is None:
        del shown["key"]
    return msgspec.json.encode(shown)


def _plain(value: Any) -> Any:
    return rfc3339(value) if isinstance(value, datetime) else value
