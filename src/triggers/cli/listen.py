"""`triggers listen`: brings events to a receiver on this machine, or prints them."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from triggers.cli.listening import keyboard
from triggers.cli.listening.event_lines import EventLines, escaped
from triggers.cli.listening.forwarding import Forwarder
from triggers.cli.listening.listener import EventListener, Limits
from triggers.cli.listening.service_link import ServiceLink
from triggers.cli.listening.temporary_inbox import TemporaryInbox, WantedEvents
from triggers.cli.service import DEFAULT_URL, Key, Url, open_async_client
from triggers.domain import parse_time, rfc3339
from triggers.errors import OperatorError
from triggers.secrets.signing_secrets import generate_secret, read_secret

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_KEYS = "Keys: r sends the last event again, d shows its body, o opens it in the console, q quits."


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
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each event.")] = False,
) -> None:
    """Print events as they are accepted, and forward them to a receiver on this machine.

    The command makes an inbox of its own and deletes it at the end. Requests are built and signed as for a
    push subscription. A 2xx answer acknowledges the event. After any other answer the event is sent again 5 s
    later, then 30 s later and so on, up to --attempts.
    """
    beginning = None if since is None else _moment(since, datetime.now(UTC))
    used_secret = generate_secret() if secret is None else secret
    forwarder = None if forward_to is None else Forwarder(forward_to, read_secret(used_secret))
    lines = EventLines(as_json=as_json)
    at_terminal = not as_json and keyboard.is_at_terminal()

    async def run() -> None:
        async with open_async_client(url, key) as client:
            link = ServiceLink(client, lines.tell)
            inbox = TemporaryInbox(link, WantedEvents(types or None, payload_filter), lines.tell)
            shown = f"{client.base_url.scheme}://{client.base_url.netloc.decode()}"

            async def begin() -> None:
                await inbox.create()
                lines.tell(f"Listening to {shown} with the inbox {inbox.key}, until Ctrl-C.")
                if forwarder is not None:
                    kept = "" if secret else f" Signing secret: {used_secret}"
                    lines.tell(f"Forwarding to {forwarder.shown_url}.{kept}")
                if at_terminal:
                    lines.tell(_KEYS)
                if beginning is not None:
                    await inbox.replay(beginning)

            def open_event(event_id: str) -> None:
                typer.launch(f"{shown}/console/events/{event_id}")

            listener = EventListener(link, inbox, forwarder, lines, Limits(concurrency, attempts))
            await listener.run(begin, open_event if at_terminal else None)

    try:
        asyncio.run(run())
    except OperatorError as error:  # its text may come from the service
        raise OperatorError(escaped(error.message), **error.facts) from None


def _moment(text: str, now: datetime) -> str:
    """The time that --since means: a time, or an age before now."""
    if found := re.fullmatch(r"([0-9]{1,6})([smhd])", text):
        return rfc3339(now - timedelta(seconds=int(found[1]) * _UNITS[found[2]]))
    try:
        return rfc3339(parse_time(text))
    except (ValueError, OverflowError):
        raise OperatorError(
            "--since must be a time like 2026-01-31T09:00:00Z, or an age like 30s, 10m, 2h or 1d."
        ) from None
