"""`triggers secrets`: changing the key that encrypts secrets in the database."""

from __future__ import annotations

from uuid import UUID

import typer

from triggers.cli.options import DATABASE_SETTINGS, run_async, with_settings
from triggers.cli.session import Json, json_of
from triggers.cli.tables import print_json
from triggers.node.settings import Settings

secrets = typer.Typer(no_args_is_help=True, help="Manage the encryption of stored secrets.")

_SLICE = 500


@secrets.callback()
def _group() -> None:
    """Keep the name `rotate`: typer would merge a group and its only command."""


@secrets.command("rotate")
@with_settings(*DATABASE_SETTINGS, "secret_keys")
def rotate(settings: Settings, as_json: Json = False) -> None:
    """Re-encrypt all stored secrets with the first key in TRIGGERS_SECRET_KEYS, in the newest format.

    To change the key:
    (1) Add the new key after the old one in TRIGGERS_SECRET_KEYS, and restart every node. With a private
    PostgreSQL, the keys are in the file secret-keys of the data directory.
    (2) Move the new key to the front, and restart every node again.
    (3) Run this command.
    (4) Remove the old key.
    A single node can skip the first restart.

    \b
    Example:
      triggers secrets rotate
    """
    from triggers.node.resources import data_dir_of, key_ring_of, open_database
    from triggers.subscriptions import sealed as sealed_secrets

    ring = key_ring_of(settings, None if settings.database_url else data_dir_of(settings))

    async def work() -> int:
        count = 0
        after: tuple[UUID, UUID] | None = (UUID(int=0), UUID(int=0))
        async with open_database(settings) as (database, _):
            while after is not None:
                sealed, after = await sealed_secrets.reseal(database, ring, after, _SLICE)
                count += sealed
        return count

    count = run_async(work())
    if as_json:
        print_json(json_of({"subscriptions": count, "key_id": ring.key_ids[0]}))
        return
    secrets_of = "1 subscription" if count == 1 else f"{count:,} subscriptions"
    typer.echo(f"re-encrypted the secrets of {secrets_of} with key {ring.key_ids[0]}")


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.add_typer(secrets, name="secrets")
