"""serve, migrate, check, db: what an operator runs."""

from __future__ import annotations

import shlex

import typer
from rich.console import Console

from triggers.cli.options import DATABASE_SETTINGS, run_async, with_settings
from triggers.errors import OperatorError
from triggers.node.check import check_configuration
from triggers.node.resources import database_url_of, migrate_only
from triggers.node.serve import serve as run_serve
from triggers.node.settings import Settings
from triggers.node.work import work as run_work

database = typer.Typer(no_args_is_help=True, help="The database behind the service.")


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.command("serve")(with_settings()(serve))
    app.command("api")(with_settings()(api))
    app.command("worker")(with_settings()(worker))
    app.command("migrate")(with_settings(*DATABASE_SETTINGS)(migrate))
    app.command("check")(with_settings()(check))
    app.add_typer(database, name="db")
    database.command("url")(with_settings("data_dir", "database_url")(url))


def serve(settings: Settings) -> None:
    """Run the whole service. Without a database URL it brings a PostgreSQL of its own."""
    run_async(run_serve(settings, _announce))


def api(settings: Settings) -> None:
    """Run the API alone, on the database of TRIGGERS_DATABASE_URL; `triggers worker` delivers beside it."""
    if not settings.database_url:
        raise OperatorError("`triggers api` needs TRIGGERS_DATABASE_URL; `triggers serve` brings a database.")
    run_async(run_serve(settings, _announce, with_worker=False))


def worker(settings: Settings) -> None:
    """Deliver, and nothing else. Any number of workers share one database."""
    run_async(run_work(settings))


def migrate(settings: Settings) -> None:
    """Bring the database to this version's schema, and do nothing else."""
    applied = run_async(migrate_only(settings))
    for migration in applied:
        typer.echo(f"applied {migration.number:04d} {migration.name}")
    if not applied:
        typer.echo("nothing to apply")


def check(settings: Settings) -> None:
    """Find what a start would refuse, without serving and without changing anything."""
    failed = False
    for name, outcome in run_async(check_configuration(settings)):
        good = outcome.startswith("ok")
        failed |= not good
        colour = typer.colors.GREEN if good else typer.colors.RED
        typer.echo(f"{typer.style(f'{name:<10}', fg=colour)} {outcome}")
    if failed:
        raise OperatorError("The check failed.")


def url(settings: Settings) -> None:
    """Print the database's connection URL, for psql and for further nodes on this machine."""
    typer.echo(database_url_of(settings))


def _announce(address: str, first_key: str | None) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"\n[bold]Triggers[/] answers on [bold]{address}[/]   docs: {address}/docs")
    if first_key is not None:
        body = '{"type": "hello.world", "payload": {"n": 1}}'
        console.print(
            "\nThis is the first run. Your API key, shown only now:\n\n"
            f"    [bold green]{first_key}[/]\n\nSend a first event:\n"
        )
        console.print(
            f"    curl -i {shlex.quote(address + '/v1/events')} -H 'Authorization: Bearer {first_key}'"
            f" -H 'Content-Type: application/json' -d '{body}'\n",
            markup=False,
        )
