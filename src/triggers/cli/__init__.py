"""The command line: parse, and call. Every setting is a flag and a TRIGGERS_* name."""

from __future__ import annotations

import sys

import typer

from triggers import __version__
from triggers.cli import client, demo, mending, secrets, serving, subscriptions, tenants
from triggers.errors import TriggersError

app = typer.Typer(
    name="triggers",
    help="Accept an event once, keep it safe, hand it to everyone who asked.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
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


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Run a command; an error of ours is one line and exit code 1, a bad flag exit code 2, Ctrl-C 130."""
    try:
        app()
    except TriggersError as error:
        typer.secho(f"triggers: {error.message}", fg=typer.colors.RED, err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
