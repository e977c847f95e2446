"""The command line. Every setting is both a flag and a TRIGGERS_* environment variable."""

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
    help="Store events durably, then push them to webhooks or let consumers pull them from inboxes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich truncates long names and reads brackets as markup
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
    """Run a command. An error of the service or of PostgreSQL prints one line and exits with code 1; a bad
    flag exits with code 2, Ctrl-C with 130."""
    try:
        app()
    except TriggersError as error:
        _fail(error.message)
    except PostgresError as error:
        _fail(f"PostgreSQL reported an error: {error}.")
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(message: str) -> NoReturn:
    typer.secho(f"triggers: {message}", fg=typer.colors.RED, err=True)
    sys.exit(1)
