"""The style, scripts and fonts of the console. Their URLs hold a hash, so browsers keep them for a year."""

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
    """One file, under the name that its URL has."""

    name: str
    content: bytes
    media_type: str


@cache
def assets() -> dict[str, Asset]:
    """Every file by its own name. Style sheets name other files by their URLs."""
    found: dict[str, Asset] = {}
    sources = {
        each.name: each.read_bytes()
        for each in files("triggers.console").joinpath("assets").iterdir()
        if each.name.rpartition(".")[2] in _MEDIA_TYPES
    }
    # Style sheets come last, because their hash depends on the names of what they load.
    for name in sorted(sources, key=lambda name: (name.endswith(".css"), name)):
        content = _URL.sub(lambda match: b'url("%b")' % found[match[1].decode()].name.encode(), sources[name])
        stem, _, kind = name.rpartition(".")
        hashed = f"{stem}.{hashlib.sha256(content).hexdigest()[:12]}.{kind}"
        found[name] = Asset(hashed, content, _MEDIA_TYPES[kind])
    return found


@cache
def _by_hashed_name() -> dict[str, Asset]:
    return {asset.name: asset for asset in assets().values()}


def asset_response(name: str) -> Response:
    """The file with this hashed name.

    Raises:
        NotFound: there is none.
    """
    asset = _by_hashed_name().get(name)
    if asset is None:
        raise NotFound("No file has this name.")
    return Response(
        asset.content,
        media_type=asset.media_type,
        headers={"cache-control": "public, max-age=31536000, immutable", "x-content-type-options": "nosniff"},
    )
