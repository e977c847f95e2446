"""Runs the command `listen` with its options."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import typer

from triggers.cli.listening import keyboard
from triggers.cli.listening.event_lines import EventLines
from triggers.cli.listening.forwarding import Forwarder
from triggers.cli.listening.listener import EventListener, Limits
from triggers.cli.listening.service_link import ServiceLink
from triggers.cli.listening.temporary_inbox import TemporaryInbox, WantedEvents
from triggers.cli.service import open_async_client
from triggers.domain import parse_time, rfc3339
from triggers.errors import OperatorError
from triggers.secrets.signing_secrets import generate_secret, read_secret

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_KEYS: Final = "Keys: r sends the last event again, d shows its body, o opens it in the console, q quits."


class ListenOptions(NamedTuple):
    """The options of the command, as `triggers listen --help` describes them."""

    url: str
    key: str
    wanted: WantedEvents
    forward_to: str | None
    limits: Limits
    secret: str | None
    since: str | None
    as_json: bool


def run(options: ListenOptions) -> None:
    """Listen until the command is told to stop."""
    beginning = None if options.since is None else _moment(options.since, datetime.now(UTC))
    secret = generate_secret() if options.secret is None else options.secret
    forwarder = None if options.forward_to is None else Forwarder(options.forward_to, read_secret(secret))
    lines = EventLines(as_json=options.as_json)
    at_terminal = not options.as_json and keyboard.is_at_terminal()

    async def listen() -> None:
        async with open_async_client(options.url, options.key) as client:
            link = ServiceLink(client, lines.tell)
            inbox = TemporaryInbox(link, options.wanted, lines.tell)
            shown = f"{client.base_url.scheme}://{client.base_url.netloc.decode()}{client.base_url.path.rstrip('/')}"

            async def begin() -> None:
                await inbox.create()
                lines.tell(f"Listening to {shown} with the inbox {inbox.key}, until Ctrl-C.")
                if forwarder is not None:
                    kept = "" if options.secret else f" Signing secret: {secret}"
                    lines.tell(f"Forwarding to {forwarder.shown_url}.{kept}")
                if at_terminal:
                    lines.tell(_KEYS)
                if beginning is not None:
                    await inbox.replay(beginning)

            def open_event(event_id: str) -> None:
                typer.launch(f"{shown}/console/events/{event_id}")

            listener = EventListener(link, inbox, forwarder, lines, options.limits)
            await listener.run(begin, open_event if at_terminal else None)

    asyncio.run(listen())


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
