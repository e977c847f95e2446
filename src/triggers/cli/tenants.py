"""`triggers orgs` and `keys` use the database directly, so they need no API key and no running API."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from triggers.cli.options import DATABASE_SETTINGS, run_async, with_settings
from triggers.cli.tables import show
from triggers.domain import TENANT_SCOPES, OrgId, PageRequest, Plan, Scope, parse_id, rfc3339
from triggers.errors import Invalid, TriggersError
from triggers.keys import organisations
from triggers.keys import store as api_keys
from triggers.node.resources import open_database
from triggers.node.settings import Settings
from triggers.node.variables import DURATION, parse_duration

orgs = typer.Typer(no_args_is_help=True, help="Manage organisations, the tenants of the service.")
keys = typer.Typer(no_args_is_help=True, help="Manage the API keys of an organisation.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OrgName = Annotated[str, typer.Option("--org", help="Name of the organisation.")]
Scopes = Annotated[
    list[Scope] | None,
    typer.Option("--scope", help="Scope of the key; repeatable. Default: all scopes except admin and act."),
]
Quota = Annotated[
    int | None, typer.Option("--requests-per-minute", help="Quota of the plan enterprise. Default: no limit.")
]


@orgs.command("create")
@with_settings(*DATABASE_SETTINGS)
def create_org(
    name: str,
    settings: Settings,
    plan: Annotated[Plan, typer.Option(help="Plan, which sets the requests per minute.")] = Plan.FREE,
    requests_per_minute: Quota = None,
    as_json: Json = False,
) -> None:
    """Create an organisation with its default inbox."""

    async def work() -> Any:
        async with open_database(settings) as (database, clock):
            return await organisations.create(database, clock, name, plan, requests_per_minute)

    _print([run_async(work())], as_json, one=True)


@orgs.command("list")
@with_settings(*DATABASE_SETTINGS)
def list_orgs(settings: Settings, as_json: Json = False) -> None:
    """List the organisations."""

    async def work() -> list[Any]:
        found: list[Any] = []
        async with open_database(settings) as (database, _):
            while page := await organisations.listed(
                database, PageRequest(found[-1].id if found else None, 1000)
            ):
                found += page
        return found

    _print(run_async(work()), as_json)


@orgs.command("set-plan")
@with_settings(*DATABASE_SETTINGS)
def set_plan(
    name: str, plan: Plan, settings: Settings, requests_per_minute: Quota = None, as_json: Json = False
) -> None:
    """Change the plan of an organisation. Running nodes apply it within a second."""

    async def work() -> Any:
        async with open_database(settings) as (database, _):
            org = await organisations.by_name(database, name)
            return await organisations.set_plan(database, OrgId(org.id), plan, requests_per_minute)

    _print([run_async(work())], as_json, one=True)


@keys.command("create")
@with_settings(*DATABASE_SETTINGS)
def create_key(
    org: OrgName,
    settings: Settings,
    name: Annotated[str | None, typer.Option(help="Name that says what the key is for.")] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Create a zap_live_ key instead of a zap_test_ key.")
    ] = False,
    scope: Scopes = None,
    expires_in: Annotated[
        str | None, typer.Option(help="Duration until the key expires, such as 90d. Default: never.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Create an API key and print it. It is shown only once."""
    lifetime = None if expires_in is None else _duration(expires_in)
    if lifetime is not None and not lifetime:
        raise Invalid("--expires-in must be longer than 0.")

    async def work() -> Any:
        async with open_database(settings) as (database, clock):
            found = await organisations.by_name(database, org)
            async with database.connection() as connection:
                new = api_keys.NewKey(
                    scope or TENANT_SCOPES,
                    name=name,
                    live=live,
                    expires_at=None if lifetime is None else datetime.now(UTC) + lifetime,
                )
                return await api_keys.create(connection, clock, OrgId(found.id), new)

    _print_new(run_async(work()), as_json)


@keys.command("list")
@with_settings(*DATABASE_SETTINGS)
def list_keys(org: OrgName, settings: Settings, as_json: Json = False) -> None:
    """List the keys of an organisation, including revoked keys."""

    async def work() -> list[Any]:
        found: list[Any] = []
        async with open_database(settings) as (database, _):
            org_id = OrgId((await organisations.by_name(database, org)).id)
            while page := await api_keys.listed(
                database, org_id, PageRequest(found[-1].id if found else None, 1000)
            ):
                found += page
        return found

    _print(run_async(work()), as_json)


@keys.command("rotate")
@with_settings(*DATABASE_SETTINGS)
def rotate_key(
    key_id: str,
    org: OrgName,
    settings: Settings,
    overlap: Annotated[str, typer.Option(help="How long the old key stays valid.")] = "24h",
    as_json: Json = False,
) -> None:
    """Create a new key with the same scopes and expiry. The old key expires after the overlap."""

    async def work() -> Any:
        async with open_database(settings) as (database, clock):
            org_id = OrgId((await organisations.by_name(database, org)).id)
            old = await api_keys.by_id(database, org_id, _id(key_id))
            return await api_keys.rotate(database, clock, org_id, old, _duration(overlap))

    _print_new(run_async(work()), as_json)


@keys.command("revoke")
@with_settings(*DATABASE_SETTINGS)
def revoke_key(key_id: str, org: OrgName, settings: Settings, as_json: Json = False) -> None:
    """Revoke a key. Running nodes reject it within a second."""

    async def work() -> Any:
        async with open_database(settings) as (database, _):
            org_id = OrgId((await organisations.by_name(database, org)).id)
            return await api_keys.revoke(database, org_id, _id(key_id))

    _print([run_async(work())], as_json, one=True)


@keys.command("import")
@with_settings(*DATABASE_SETTINGS)
def import_keys(
    org: OrgName,
    settings: Settings,
    prefix: Annotated[str | None, typer.Option(help="First 12 characters of the key.")] = None,
    sha256: Annotated[str | None, typer.Option(help="SHA-256 of the whole key, in hex.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="CSV file with the columns prefix, sha256 and, optionally, name.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    scope: Scopes = None,
    as_json: Json = False,
) -> None:
    """Import keys of another system by prefix and SHA-256. They can then be used here unchanged."""
    if (file is None) == (prefix is None or sha256 is None):
        raise Invalid("Give either --prefix and --sha256, or --file.")
    rows = [(prefix or "", sha256 or "", None)] if file is None else _read_rows(file)

    async def work() -> list[Any]:
        imported = []
        async with open_database(settings) as (database, clock):
            org_id = OrgId((await organisations.by_name(database, org)).id)
            for number, (row_prefix, row_hash, name) in enumerate(rows, start=2):
                try:
                    imported.append(
                        await api_keys.import_hash(
                            database,
                            clock,
                            org_id,
                            api_keys.ForeignKey(row_prefix, row_hash, scope or TENANT_SCOPES, name),
                        )
                    )
                except TriggersError as error:
                    where = f"{file}, line {number}: " if file else ""
                    raise Invalid(
                        f"{where}{error.message} ({len(imported)} keys were imported before this one)"
                    ) from None
        return imported

    _print(run_async(work()), as_json)


def _read_rows(file: Path) -> list[tuple[str, str, str | None]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            if not {"prefix", "sha256"} <= set(reader.fieldnames or ()):
                raise Invalid(f"The first line of {file} must name the columns prefix and sha256.")
            return [(row["prefix"] or "", row["sha256"] or "", row.get("name") or None) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Invalid(f"{file} cannot be read as CSV in UTF-8: {error}.") from None


def _duration(text: str) -> timedelta:
    try:
        return timedelta(seconds=parse_duration(text))
    except ValueError:
        raise Invalid(f"{text!r} is not {DURATION}.") from None


def _id(text: str) -> Any:
    found = parse_id(text)
    if found is None:
        raise Invalid(f"{text!r} is not the id of a key. `triggers keys list` shows the ids.")
    return found


def _print_new(key: Any, as_json: bool) -> None:
    _print([key], as_json, one=True)
    if not as_json:
        Console(stderr=True).print("The key is shown only once. Store it now.")


def _print(items: Sequence[Any], as_json: bool, *, one: bool = False) -> None:
    rows = [{k: _plain(v) for k, v in msgspec.structs.asdict(item).items()} for item in items]
    for row in rows:
        if row.get("key", ...) is None:
            del row["key"]
    if as_json:
        typer.echo(msgspec.json.encode(rows[0] if one else rows))
        return
    if one:
        for name, value in rows[0].items():
            typer.echo(f"{name:<20} {_cell(value)}")
        return
    table = Table(*(rows[0] if rows else ()), box=None, header_style="bold")
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    show(table)


def _plain(value: Any) -> Any:
    return rfc3339(value) if isinstance(value, datetime) else value


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
