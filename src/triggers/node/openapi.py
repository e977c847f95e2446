"""The OpenAPI document of this service: what it says besides the table of routes."""

from __future__ import annotations

import msgspec

from triggers import __version__
from triggers.http import openapi
from triggers.http.openapi import Service, Usual
from triggers.node.routes import ROUTES
from triggers.push import openapi_webhooks as webhooks

_LIMITS = ("RateLimit", "RateLimit-Policy")
_USUAL: dict[int | str, Usual] = {
    400: Usual("MalformedBody", "The body is not valid I-JSON (RFC 7493).", _LIMITS),
    401: Usual(
        "Unauthenticated", "The API key is missing, unknown, expired or revoked.", ("WWW-Authenticate",)
    ),
    403: Usual(
        "Forbidden",
        "The API key lacks the scope of this route, or a scope that the request would grant.",
        _LIMITS,
    ),
    404: Usual("NotFound", "The organisation of the API key has nothing with this id.", _LIMITS),
    413: Usual("TooLarge", "The body is larger than its limit.", _LIMITS),
    415: Usual("UnsupportedMediaType", "The content type or content encoding is not supported.", _LIMITS),
    422: Usual("Invalid", "A parameter or field is missing or wrong. `errors` lists each of them.", _LIMITS),
    429: Usual(
        "RateLimited",
        "The rate limit is reached, or for events: too many deliveries are not settled yet. `Retry-After` is"
        " the number of seconds to wait.",
        (*_LIMITS, "Retry-After"),
    ),
    503: Usual(
        "Unavailable",
        "The service cannot process the request now. `Retry-After` is the number of seconds to wait.",
        (*_LIMITS, "Retry-After"),
    ),
    "default": Usual(
        "Other",
        "Possible for every request: 400 if it is not valid HTTP, 408 if it arrives too slowly, 500 for an"
        " internal error, 505 if it uses another version than HTTP/1.1 or HTTP/1.0.",
    ),
}


def _tag(path: str) -> str:
    parts = path.split("/")
    if len(parts) < 3 or parts[1] != "v1":
        return "operation"
    return {"ack": "inbox", "org": "keys", "samples": "subscriptions"}.get(parts[2], parts[2])


_SERVICE = Service(
    info={
        "title": "Triggers",
        "version": __version__,
        "description": "Durable webhooks and inboxes: store events, then push them or let consumers pull.",
    },
    tag=_tag,
    schemes={
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key. A key with the scope `admin` acts for another organisation with the"
            " header `Triggers-Org: <id>`. It may then only read. If it also has the scope `act`, it may do"
            " what its other scopes allow.",
        },
        "apiKey": {"type": "apiKey", "name": "X-API-Key", "in": "header"},
    },
    headers={
        "X-Request-Id": {
            "description": "Id of the request in the answer and the log. A valid id of the caller is kept.",
            "schema": {"type": "string"},
        },
        "Location": {
            "description": "Path of the created resource. It begins with the path of the public URL.",
            "schema": {"type": "string"},
        },
        "RateLimit": {
            "description": 'Only for plans with a limit: `"plan";r=<remaining requests>;t=<seconds>`.'
            " `t` is the time until the quota is full, or, with `r=0`, until one request is allowed.",
            "schema": {"type": "string"},
        },
        "RateLimit-Policy": {
            "description": 'Only for plans with a limit: `"plan";q=<quota>;w=<seconds of the window>`.',
            "schema": {"type": "string"},
        },
        "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
        "WWW-Authenticate": {"description": "`Bearer`.", "schema": {"type": "string"}},
    },
    always=("X-Request-Id",),
    limited=_LIMITS,
    usual=_USUAL,
    webhooks=webhooks.webhooks(),
    types=webhooks.TYPES,
)


def encoded(root_path: str = "") -> bytes:
    """Return the encoded document. Making it is slow. `root_path` is the path of the public URL."""
    return msgspec.json.encode(openapi.document(ROUTES, _SERVICE, root_path))
