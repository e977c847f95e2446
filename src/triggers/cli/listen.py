"""`triggers listen`: brings events to a receiver on this machine, or prints them."""

from __future__ import annotations

from typing import Annotated

import typer

from triggers.cli.service import DEFAULT_URL, Key, Url
from triggers.cli.session import Json


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("listen")(listen)


def listen(  # noqa: PLR0913, PLR0917 - each is an option
    key: Key,
    url: Url = DEFAULT_URL,
    types: Annotated[
        list[str] | None,
        typer.Option(
            "--type", help="Only events of this type, such as order.paid or order.*. Can be repeated."
        ),
    ] = None,
    payload_filter: Annotated[
        str | None, typer.Option("--filter", help="Only events whose payload matches this CEL expression.")
    ] = None,
    forward_to: Annotated[
        str | None,
        typer.Option(help="URL that gets each event with POST. Without it, events are only printed."),
    ] = None,
    concurrency: Annotated[
        int, typer.Option(min=1, max=64, help="Maximum number of events that are handled at once.")
    ] = 4,
    secret: Annotated[
        str | None,
        typer.Option(help="Secret that signs the requests, such as whsec_…. Default: a new one, printed."),
    ] = None,
    attempts: Annotated[int, typer.Option(min=1, max=9, help="Attempts before an event is rejected.")] = 3,
    since: Annotated[
        str | None,
        typer.Option(help="Also past events, accepted since this RFC 3339 time or for so long, such as 10m."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print events as they are accepted, and forward them to a receiver on this machine.

    The command makes an inbox of its own and deletes it at the end. Requests are built and signed as for a
    push subscription. A 2xx answer acknowledges the event. After any other answer the event is sent again 5 s
    later, then 30 s later and so on, up to --attempts.

    \b
    Example:
      triggers listen --type 'order.*' --forward-to http://localhost:3000/hooks
    """
    from triggers.cli.listening.command import ListenOptions, run
    from triggers.cli.listening.listener import Limits
    from triggers.cli.listening.temporary_inbox import WantedEvents

    run(
        ListenOptions(
            url=url,
            key=key,
            wanted=WantedEvents(types or None, payload_filter),
            forward_to=forward_to,
            limits=Limits(concurrency, attempts),
            secret=secret,
            since=since,
            as_json=as_json,
        )
    )
