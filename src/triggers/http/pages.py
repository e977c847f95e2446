"""HTML pages from templates that ship with the package. They have no scripts and load nothing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse

from triggers import __version__
from triggers.http.docs_page import arrange
from triggers.http.kept import Kept


def environment_of(package: str) -> Environment:
    """Return the environment of a package's templates. It escapes all values, and refuses unknown ones."""
    return Environment(
        loader=PackageLoader(package, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _environment() -> Environment:
    environment = environment_of("triggers.http")
    environment.filters |= {"code": _code, "prose": _prose, "number": _number}
    return environment


def render(template: str, root_path: str, **values: Any) -> str:
    """Make a page from a template. The first use of a template takes about 20 ms. Links begin with
    `root_path`, the path of the public URL."""
    return _environment().get_template(template).render(version=__version__, root_path=root_path, **values)


def render_reference(document: bytes, root_path: str, url: str) -> str:
    """The OpenAPI document as a page. `url` is the base URL for the reader's own calls."""
    found = arrange(document)
    return render("docs.html", root_path, subjects=found.subjects, types=found.types, url=url)


class Pages:
    """Pages that are made when they are first asked for, and kept."""

    def __init__(self) -> None:
        self._kept: Kept[bytes] = Kept()

    async def answer(self, name: Hashable, make: Callable[[], str]) -> HTMLResponse:
        """The page of this name. It is made in a thread, so that the event loop is free meanwhile."""

        def encoded() -> bytes:
            return make().encode()

        return _answer(await self._kept.get(name, lambda: asyncio.to_thread(encoded)))


def _answer(html: bytes) -> HTMLResponse:
    """An HTML response. Its security policy allows only its own style and embedded images."""
    return HTMLResponse(
        html,
        headers={
            "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:;"
            " base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
        },
    )


def _number(value: float) -> str:
    """A bound as people write it."""
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def _code(text: str) -> Markup:
    """Text in which backticks enclose code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before


def _prose(text: str) -> Markup:
    """Paragraphs of such text, parted by empty lines."""
    return Markup("\n").join(Markup("<p>{}</p>").format(_code(part)) for part in text.split("\n\n"))
