"""HTML pages from templates that ship with the package. They have no scripts and load nothing."""

from __future__ import annotations

import asyncio
import re
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse

from triggers import __version__
from triggers.http.docs_page import arrange


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("triggers.http", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"code": _code, "prose": _prose, "number": _number}
    return environment


# Pages are made in threads. That is Python, so the event loop is free meanwhile: the first use of a
# template takes some 20 ms.


async def page(template: str, root_path: str, **values: Any) -> HTMLResponse:
    """A page made from a template. Its links begin with `root_path`, the path of the public URL."""
    return _answer(await asyncio.to_thread(_render, template, root_path, **values))


async def reference_page(document: bytes, root_path: str, url: str) -> HTMLResponse:
    """The OpenAPI document as a page. `url` is the base URL for the reader's own calls."""
    html = await asyncio.to_thread(_render_reference, document, root_path)
    return _answer(html.replace(_URL, str(escape(url))))


_URL = "url-of-the-service"


@cache
def _render_reference(document: bytes, root_path: str) -> str:
    """The page with a placeholder instead of the URL, which depends on the request."""
    found = arrange(document)
    return _render("docs.html", root_path, subjects=found.subjects, types=found.types, url=_URL)


def _render(template: str, root_path: str, **values: Any) -> str:
    return _environment().get_template(template).render(version=__version__, root_path=root_path, **values)


def _answer(html: str) -> HTMLResponse:
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
