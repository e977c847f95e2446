"""Makes the console's pages from templates, with headers that forbid caches and scripts of others."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from typing import Any, Final
from uuid import UUID

from jinja2 import Environment
from markupsafe import Markup
from starlette.responses import HTMLResponse

from triggers import __version__
from triggers.console import words
from triggers.console.assets import assets
from triggers.console.visible import visible
from triggers.domain import parse_time, rfc3339
from triggers.fairness.pace import Steps, at_once
from triggers.http.pages import environment_of

CONSOLE: Final = "/console"
"""The path of the console, after the path of the public URL."""

HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self';"
    " img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
}


_STEP_PIECES: Final = 100
"""Pieces of a page that one step renders, which takes less than a millisecond."""


@cache
def _environment() -> Environment:
    environment = environment_of("triggers.console")
    environment.filters |= {
        "visible": visible,
        "written": lambda text, most: visible(text, most).striptags(),
        "size": words.size,
        "counted": words.counted,
        "duration": words.duration,
        "short": short,
        "is_after": lambda at, now: parse_time(at) > now,
        "milliseconds": lambda count: words.duration(count / 1000),
    }
    environment.globals |= {
        "asset": lambda name: assets()[name].name,
        "moment": moment,
        "hours_before": lambda now, hours: rfc3339(now - timedelta(hours=hours)),
        "counted_to": lambda number, exact: words.capped(number, exact=exact),
        "waits": words.WAITS,
        "version": __version__,
    }
    return environment


def page(template: str, root_path: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a response with a small page. No cache stores it, and no other site may show it in a frame."""
    return at_once(page_in_steps(template, root_path, status, **values))


def page_in_steps(template: str, root_path: str, status: int = 200, **values: Any) -> Steps[HTMLResponse]:
    """`page` in steps, for pages that can be long: a payload alone may have 20,000 lines.

    Links begin with `base`, the console's path behind the public URL.
    """
    now = values.pop("now", None) or datetime.now(UTC)
    found = _environment().get_template(template)
    rest = found.generate(base=f"{root_path}{CONSOLE}", now=now, **values)
    parts = []
    while pieces := list(islice(rest, _STEP_PIECES)):
        parts.append("".join(pieces).encode())
        yield
    return HTMLResponse(b"".join(parts), status, headers=dict(HEADERS))


_STYLES: Final = {"relative": words.relative, "next": words.due_in, "clock": words.clock}


def short(text: str | UUID) -> str:
    """Return the last 8 characters of an id. The first ones are a time, so ids of one minute share them."""
    return str(text)[-8:]


def moment(at: str | datetime | None, now: datetime, style: str = "relative") -> Markup:
    """Return an element that shows a time, with the absolute time as its title.

    The style is `relative`, `clock`, or `next`: the relative time of something due, which is never `ago`.

    Times are in UTC. A script changes them to the time zone of the viewer.
    """
    if at is None:
        return Markup('<span class="none">–</span>')
    when = parse_time(at) if isinstance(at, str) else at
    when = when.astimezone(UTC)
    absolute = when.strftime("%Y-%m-%d %H:%M:%S UTC")
    text = _STYLES[style](when, now)
    return Markup('<time datetime="{}" title="{}" data-style="{}">{}</time>').format(
        when.isoformat(timespec="milliseconds"), absolute, style, text
    )
