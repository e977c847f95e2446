"""secrets: what an operator does to the encryption of secrets in the database."""

from __future__ import annotations

from uuid import UUID

import typer

from triggers.cli.options import DATABASE_SETTINGS, run_async, with_settings
from triggers.node.resources import data_dir_of, key_ring_of, open_database
from triggers.node.settings import Settings
from triggers.subscriptions import sealed as sealed_secrets

secrets = typer.Typer(no_args_is_help=True, help="The encryption of signing secrets and header values.")

_SLICE = 500


@secrets.callback()
def _group() -> None:
    """Keep `rotate` a command of its own name: a group of one would become that one."""


@secrets.command("rotate")
@with_settings(*DATABASE_SETTINGS, "secret_keys")
def rotate(settings: Settings) -> None:
    """Seal everything anew with the first key of the ring; then the others can be dropped.

    To change the key: add the new one behind the old one in TRIGGERS_SECRET_KEYS (of a private server in
    the file secret-keys of its data directory) and restart every node; put it in front and restart them
    again; run this; take the old one out. A single node needs the second restart only.
    """
    ring = key_ring_of(settings, None if settings.database_url else data_dir_of(settings))

    async def work() -> int:
        count = 0
        after: tuple[UUID, UUID] | None = (UUID(int=0), UUID(int=0))
        async with open_database(settings) as (database, _):
            while after is not None:
                sealed, after = await sealed_secrets.reseal(database, ring, after, _SLICE)
                count += sealed
        return count

    typer.echo(f"sealed anew with key {ring.key_ids[0]}: {run_async(work())} subscriptions")
