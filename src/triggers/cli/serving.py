"""`triggers serve`, `api`, `worker`, `migrate`, `check` and `db`: commands of the operator."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from triggers.cli.options import DATABASE_SETTINGS, run_async, with_settings
from triggers.cli.session import Json, json_of
from triggers.cli.tables import print_json
from triggers.errors import OperatorError
from triggers.node.settings import FIRST_ORGANISATION, Settings

if TYPE_CHECKING:
    from rich.console import Console

    from triggers.node.first_run import FirstRun

database = typer.Typer(no_args_is_help=True, help="Get access to the service's database.")


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
    """Run the API and a delivery worker. Without a database URL it starts a private PostgreSQL.

    \b
    Example:
      triggers serve --dev
    """
    from rich.console import Console

    from triggers.node.serve import serve as run_serve

    if settings.dev:
        Console(stderr=True, highlight=False).print(
            "[bold white on red] DEVELOPMENT [/] Deliveries may reach http:// URLs of this machine."
            " Use this only for development."
        )
    run_async(run_serve(settings, _announcing(settings), terminal=sys.stderr.isatty()))


def api(settings: Settings) -> None:
    """Run only the API. Needs TRIGGERS_DATABASE_URL, and a `triggers worker` for deliveries.

    \b
    Example:
      triggers api --port 8081
    """
    from triggers.node.serve import serve as run_serve

    if not settings.database_url:
        raise OperatorError(
            "`triggers api` needs TRIGGERS_DATABASE_URL. `triggers serve` can start a private database."
        )
    run_async(run_serve(settings, _announcing(settings), terminal=sys.stderr.isatty(), with_worker=False))


def worker(settings: Settings) -> None:
    """Run only a delivery worker. Any number of workers can share one database.

    \b
    Example:
      triggers worker
    """
    from triggers.node.work import work as run_work

    run_async(run_work(settings))


def migrate(settings: Settings, as_json: Json = False) -> None:
    """Apply pending schema migrations to the database.

    \b
    Example:
      triggers migrate
    """
    from triggers.node.resources import migrate_only

    applied = run_async(migrate_only(settings))
    for migration in applied:
        if as_json:
            print_json(json_of({"number": migration.number, "name": migration.name}))
        else:
            typer.echo(f"applied {migration.number:04d} {migration.name}")
    if not applied and not as_json:
        typer.echo("no pending migrations")


def check(settings: Settings, as_json: Json = False) -> None:
    """Check the configuration without starting the service.

    The check covers settings, the database, keys and Redis. It changes nothing.

    \b
    Example:
      triggers check
    """
    from triggers.node.check import check_configuration

    failed = False
    for name, outcome in run_async(check_configuration(settings)):
        good = outcome.startswith("ok")
        failed |= not good
        if as_json:
            print_json(json_of({"check": name, "ok": good, "outcome": outcome}))
            continue
        colour = typer.colors.GREEN if good else typer.colors.RED
        typer.echo(f"{typer.style(f'{name:<10}', fg=colour)} {outcome}")
    if failed:
        raise OperatorError("The check found errors; they are listed above.")


def url(settings: Settings) -> None:
    """Print the URL of the database, for psql and for more nodes on this machine.

    \b
    Example:
      psql "$(triggers db url)"
    """
    from triggers.node.resources import database_url_of

    typer.echo(database_url_of(settings))


def _announcing(settings: Settings) -> Callable[[str, FirstRun | None], None]:
    """Return the function that prints on the terminal that the service is ready."""
    from rich.console import Console

    from triggers.sessions.cookie import CONSOLE_PATH
    from triggers.sessions.sessions import link_url

    has_console = settings.console == "on"

    def announce(address: str, made: FirstRun | None) -> None:
        terminal = Console(stderr=True, highlight=False, soft_wrap=True)
        where = f"   console: {address}{CONSOLE_PATH}" if has_console else ""
        with contextlib.suppress(OSError):  # the service goes on if nobody reads or the disk is full
            terminal.print(f"\n[bold]Triggers[/] answers on [bold]{address}[/]   docs: {address}/docs{where}")
            if made is not None:
                _announce_key(terminal, address, made)
            if has_console and made is not None and made.link_token is not None:
                link = link_url(address, made.link_token)
                terminal.print(
                    "Or open the console. This link is valid for ten minutes, and can be used once:\n\n"
                    f"    {link}\n",
                    markup=False,
                )

    return announce


def _announce_key(console: Console, address: str, made: FirstRun) -> None:
    if made.key is not None:
        console.print(f"\nThis is your API key. It is shown only once:\n\n    [bold green]{made.key}[/]")
        key = made.key
    elif made.key_file is not None:
        console.print(
            f"\nYour API key is in {made.key_file}\nStore it elsewhere, and delete this file.", markup=False
        )
        key = f"$(cat {shlex.quote(str(made.key_file))})"
    else:
        console.print(f"\nCreate an API key:\n\n    triggers keys create --org {FIRST_ORGANISATION}\n")
        return
    body = '{"type": "hello.world", "payload": {"n": 1}}'
    console.print(
        f"\nSend your first event:\n\n    curl -i {shlex.quote(address + '/v1/events')}"
        f" -H \"Authorization: Bearer {key}\" -H 'Content-Type: application/json' -d '{body}'\n",
        markup=False,
    )
