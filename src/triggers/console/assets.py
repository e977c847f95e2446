"""The style, scripts and fonts of the console. Their URLs contain hashes, so browsers cache them."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

from starlette.responses import Response

from triggers.errors import NotFound

_MEDIA_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "woff2": "font/woff2",
}
_URL: Final = re.compile(rb'url\("([^"]+)"\)')


class Asset(NamedTuple):
    """A file, with the name that it has in its URL."""

    name: str
    content: bytes
    media_type: str


@cache
def assets(*packages: str) -> dict[str, Asset]:
    """Return every file of the console, and of other packages, by its own name. Style sheets refer to other
    files by their URLs."""
    found: dict[str, Asset] = {}
    sources = {
        each.name: each.read_bytes()
        for package in ("triggers.console", *packages)
        for each in files(package).joinpath("assets").iterdir()
        if each.name.rpartition(".")[2] in _MEDIA_TYPES
    }
    # Style sheets come last, because their hash depends on the names of the files that they load.
    for name in sorted(sources, key=lambda name: (name.endswith(".css"), name)):
        content = _URL.sub(lambda match: b'url("%b")' % found[match[1].decode()].name.encode(), sources[name])
        stem, _, kind = name.rpartition(".")
        hashed = f"{stem}.{hashlib.sha256(content).hexdigest()[:12]}.{kind}"
        found[name] = Asset(hashed, content, _MEDIA_TYPES[kind])
    return found


@cache
def _by_hashed_name(*packages: str) -> dict[str, Asset]:
    return {asset.name: asset for asset in assets(*packages).values()}


def asset_response(name: str, *packages: str) -> Response:
    """Return the file of the console, or of other packages, with this hashed name.

    Raises:
        NotFound: there is no such file.
    """
    asset = _by_hashed_name(*packages).get(name)
    if asset is None:
        raise NotFound("No file has this name.")
    return Response(
        asset.content,
        media_type=asset.media_type,
        headers={"cache-control": "public, max-age=31536000, immutable", "x-content-type-options": "nosniff"},
    )
