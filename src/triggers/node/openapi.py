"""The OpenAPI document of this service: what it says beside the table of routes."""

from __future__ import annotations

from functools import cache

import msgspec

from triggers import __version__
from triggers.http import openapi
from triggers.http.openapi import Service, Usual
from triggers.node.routes import ROUTES
from triggers.push import openapi_webhooks as webhooks

_LIMITS = ("RateLimit", "RateLimit-Policy")
_USUAL: dict[int | str, Usual] = {
    400: Usual("MalformedBody", "The body is not JSON as in RFC 7493.", _LIMITS),
    401: Usual("Unauthenticated", "The key is missing, unknown, expired or revoked.", ("WWW-Authenticate",)),
    403: Usual("Forbidden", "The key lacks the scope, or what it was to grant.", _LIMITS),
    404: Usual("NotFound", "There is no such thing in this organisation.", _LIMITS),
    413: Usual("TooLarge", "The body is over its limit.", _LIMITS),
    415: Usual("UnsupportedMediaType", "The content type or coding is not read here.", _LIMITS),
    422: Usual("Invalid", "A parameter or field is missing or wrong; `errors` says which.", _LIMITS),
    429: Usual(
        "RateLimited",
        "The rate limit is reached; `Retry-After` says when to come back.",
        (*_LIMITS, "Retry-After"),
    ),
    503: Usual("Unavailable", "Try again; `Retry-After` says when.", (*_LIMITS, "Retry-After")),
    "default": Usual(
        "Other",
        "What can befall any request: 408 if it arrives too slowly, 500 for an error of ours.",
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
        "description": "Durable webhooks and inboxes: accept an event once, hand it to everyone who asked.",
    },
    tag=_tag,
    schemes={
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
        "apiKey": {"type": "apiKey", "name": "X-API-Key", "in": "header"},
    },
    headers={
        "X-Request-Id": {
            "description": "The caller's own, if it is presentable; it names the log line.",
            "schema": {"type": "string"},
        },
        "Location": {"description": "The path of what was made.", "schema": {"type": "string"}},
        "RateLimit": {
            "description": 'If the plan has a limit: `"plan";r=<left>;t=<seconds until whole, of r=0 until'
            " there is one>`.",
            "schema": {"type": "string"},
        },
        "RateLimit-Policy": {
            "description": 'If the plan has a limit: `"plan";q=<quota>;w=<seconds>`.',
            "schema": {"type": "string"},
        },
        "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}},
        "WWW-Authenticate": {"description": "`Bearer`.", "schema": {"type": "string"}},
    },
    always=("X-Request-Id",),
    limited=_LIMITS,
    usual=_USUAL,
    webhooks=webhooks.webhooks(),
    types=webhooks.TYPES,
)


@cache
def encoded() -> bytes:
    """The document. Few ever ask for it, and it takes a while to make, so it is made when it is asked for."""
    return msgspec.json.encode(openapi.document(ROUTES, _SERVICE))
