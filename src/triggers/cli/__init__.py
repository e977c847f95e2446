"""The command line: parse, and call. Every setting is a flag and a TRIGGERS_* name."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from triggers import __version__
from triggers.cli import client, demo, mending, routes, secrets, serving, subscriptions, tenants
from triggers.errors import TriggersError
from triggers.postgres.database import PostgresError

app = typer.Typer(
    name="triggers",
    help="Accept an event once, keep it safe, hand it to everyone who asked.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its columns cut names off, and take brackets for markup
    context_settings={"help_option_names": ["-h", "--help"]},
)
serving.add_to(app)
app.add_typer(tenants.orgs, name="orgs")
app.add_typer(tenants.keys, name="keys")
app.add_typer(subscriptions.subscriptions, name="subscriptions")
app.add_typer(secrets.secrets, name="secrets")
client.add_to(app)
mending.add_to(app)
demo.add_to(app)
routes.add_to(app)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Run a command; an error of ours, or one that PostgreSQL has with the operator, is one line and exit
    code 1, a bad flag exit code 2, Ctrl-C 130."""
    try:
        app()
    except TriggersError as error:
        _fail(error.message)
    except PostgresError as error:
        _fail(f"PostgreSQL refuses: {error}.")
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(message: str) -> NoReturn:
    typer.secho(f"triggers: {message}", fg=typer.colors.RED, err=True)
    sys.exit(1)
