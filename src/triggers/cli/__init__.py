"""The command line. Every setting is both a flag and a TRIGGERS_* environment variable."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn

import typer

from triggers import __version__
from triggers.cli import (
    bench,
    client,
    console,
    demo,
    mending,
    routes,
    secrets,
    service,
    serving,
    subscriptions,
    tenants,
)
from triggers.node.failures import explained
from triggers.node.variables import unknown_variables

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
bench.add_to(app)
console.add_to(app)
routes.add_to(app)


@app.callback()
def _warn_of_unknown_variables() -> None:
    for name, meant in unknown_variables(os.environ, service.CLIENT_VARIABLES).items():
        perhaps = f" Did you mean {meant}?" if meant else ""
        _say(f"{name} is not a setting, so it is ignored.{perhaps}", typer.colors.YELLOW)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Run a command. A failure that is no bug prints one line and exits with code 1; a bad flag exits with
    code 2, Ctrl-C with 130."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if (failure := explained(error)) is None:
            raise
        _fail(failure)


def _fail(message: str) -> NoReturn:
    _say(message, typer.colors.RED)
    sys.exit(1)


def _say(message: str, colour: str) -> None:
    with contextlib.suppress(OSError):  # the standard error may be on a full disk too
        typer.secho(f"triggers: {message}", fg=colour, err=True)
