"""HTML pages from templates that ship with the package."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar import MediaType, Response

from triggers import __version__


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("triggers.api", "templates"), autoescape=True, undefined=StrictUndefined
    )


def render(template: str, **values: Any) -> Response[str]:
    """A page, allowed to load nothing from elsewhere."""
    return Response(
        _environment().get_template(template).render(version=__version__, **values),
        media_type=MediaType.HTML,
        headers={
            "content-security-policy": "default-src 'self'; style-src 'self' 'unsafe-inline'",
            "x-content-type-options": "nosniff",
        },
    )
