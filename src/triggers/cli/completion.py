"""Completes the names of things in a shell. It asks the service, for less than a second.

A person who presses Tab is told of no failure: then there is nothing to complete. Completions use urllib,
because httpx takes as long to import as everything else that they need.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import typer

from triggers.cli.service import is_local

if TYPE_CHECKING:
    from triggers.cli.nouns import Noun

SECONDS: Final = 0.7
"""Maximum time for all requests of a completion. With the start of the program it takes a second."""
_MOST: Final = 1_000
"""Number of items, the first of a list, whose names are completed."""
_SHORT: Final = 8
"""Number of characters of the ending of an id."""
_ELSEWHERE: Final = ("org", "data_dir", "database_url")
"""Arguments of a command that uses another organisation than that of the API key, or a database."""
_PLAIN: Final = re.compile(r"\w[\w.+/-]*")
"""A name that means only itself in every shell. Anybody in the organisation may give a name such as
`$(reboot)`, and bash and zsh would insert it as it is."""


def names_of(noun: Noun) -> Callable[[typer.Context, str], list[str]]:
    """A function that completes what names one thing: its name or its key, or else the end of its id."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        if any(ctx.params.get(name) for name in _ELSEWHERE):
            return []
        sources = [each for each in (noun, noun.also) if each is not None]
        names = _in_time(lambda: (name for source in sources for name in _names(source, ctx.params)))
        return sorted({name for name in names if name.startswith(incomplete)})

    return complete


def _in_time(find: Callable[[], Iterator[str]]) -> list[str]:
    """The names that a thread finds within `SECONDS`. Looking up a host has no time limit of its own."""
    found: list[str] = []

    def collect() -> None:
        with contextlib.suppress(Exception):
            found.extend(find())

    collecting = threading.Thread(target=collect, daemon=True)
    collecting.start()
    collecting.join(SECONDS)
    return list(found)


def _names(noun: Noun, given: dict[str, Any]) -> Iterator[str]:
    url = f"{given['service_url'].rstrip('/')}{noun.path}?limit={_MOST}"
    for item in _listed(url, given["api_key"])[noun.member]:
        if item.get("revoked_at"):
            continue
        names = [item[name] for name in noun.names if _PLAIN.fullmatch(item.get(name) or "")]
        yield from names or [item[noun.id_member][-_SHORT:]]


def _listed(url: str, key: str) -> Any:
    """The first page of a list. The key is not sent on if the answer is a redirection."""
    from urllib.parse import urlsplit
    from urllib.request import ProxyHandler, Request, build_opener

    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"}:
        return {}
    request = Request(url)  # noqa: S310 - its scheme was looked at
    request.add_unredirected_header("Authorization", f"Bearer {key.strip()}")
    proxies = [ProxyHandler({})] if is_local(parts.hostname or "") else []
    with build_opener(*proxies).open(request, timeout=SECONDS) as answer:
        return json.load(answer)
