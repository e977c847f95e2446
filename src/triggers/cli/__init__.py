"""The command line. Every setting is both a flag and a TRIGGERS_* environment variable."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Annotated, NoReturn

import typer

from triggers import __version__
from triggers.cli import (
    bench,
    console,
    deliveries,
    demo,
    events,
    inboxes,
    keys,
    leases,
    listen,
    orgs,
    replays,
    routes,
    secrets,
    send,
    service,
    serving,
    status,
    subscriptions,
)
from triggers.node.failures import explained
from triggers.node.variables import unknown_variables
from triggers.terminal import inert

EXIT_CODES = """\b
Exit codes:
  0    The command succeeded.
  1    The service refused it, does not answer, or something failed. The reason is on the standard error.
  2    A command, an argument or an option is wrong.
  130  Ctrl-C ended it.
"""

app = typer.Typer(
    name="triggers",
    help="Store events durably, then push them to webhooks or let consumers pull them from inboxes.\n\n"
    "Commands that use the API read TRIGGERS_URL and TRIGGERS_API_KEY. With --json they print one JSON object"
    " per line.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich truncates long names and reads brackets as markup
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
send.add_to(app)
events.add_to(app)
inboxes.add_to(app)
leases.add_to(app)
listen.add_to(app)
subscriptions.add_to(app)
deliveries.add_to(app)
replays.add_to(app)
status.add_to(app)
keys.add_to(app)
orgs.add_to(app)
serving.add_to(app)
secrets.add_to(app)
console.add_to(app)
bench.add_to(app)
demo.add_to(app)
routes.add_to(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _before_each_command(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    del version  # its callback has ended the command
    for name, meant in unknown_variables(os.environ, service.CLIENT_VARIABLES).items():
        perhaps = f" Did you mean {meant}?" if meant else ""
        _say(f"{name} is not a setting, so it is ignored.{perhaps}", typer.colors.YELLOW)


@app.command()
def version() -> None:
    """Print the version.

    \b
    Example:
      triggers version
    """
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
        typer.secho(f"triggers: {inert(message, lines=True)}", fg=colour, err=True)
