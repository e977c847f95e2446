"""The one place that turns errors into HTTP: a status, a slug and a title for each."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Meta

from triggers import errors
from triggers.domain import NotSettledReason

PROBLEM_JSON = "application/problem+json"


class Kind(NamedTuple):
    """The status, slug and title of a class of errors. A slug is stable: `/problems/<slug>` explains it."""

    status: int
    slug: str
    title: str


KINDS: dict[type[errors.TriggersError], Kind] = {
    errors.MalformedRequest: Kind(400, "malformed-request", "The request is not valid HTTP"),
    errors.MalformedBody: Kind(400, "malformed-body", "The body is not valid JSON"),
    errors.Unauthenticated: Kind(401, "unauthenticated", "A valid API key is needed"),
    errors.Forbidden: Kind(403, "forbidden", "The API key lacks a scope"),
    errors.NotFound: Kind(404, "not-found", "Not found"),
    errors.MethodNotAllowed: Kind(405, "method-not-allowed", "The path does not support the method"),
    errors.RequestTimeout: Kind(408, "request-timeout", "The request arrived too slowly"),
    errors.Conflict: Kind(409, "conflict", "The current state does not allow the request"),
    errors.DedupConflict: Kind(409, "dedup-conflict", "Another event has the dedup_id"),
    errors.NameTaken: Kind(409, "name-taken", "The name or key is in use"),
    errors.LeaseOver: Kind(409, "lease-over", "The lease has ended or does not hold the messages"),
    errors.Paused: Kind(409, "inbox-paused", "The inbox is paused and has no more messages"),
    errors.LinkOver: Kind(410, "link-over", "The sign-in link can no longer be used"),
    errors.TooLarge: Kind(413, "too-large", "The body is over its limit"),
    errors.UnsupportedMediaType: Kind(
        415, "unsupported-media-type", "The Content-Type or Content-Encoding is not supported"
    ),
    errors.Invalid: Kind(422, "invalid", "A field is missing or wrong"),
    errors.BatchRefused: Kind(422, "batch-refused", "No event of the batch was accepted"),
    errors.RateLimited: Kind(429, "rate-limited", "The rate limit is reached"),
    errors.BacklogFull: Kind(429, "backlog-full", "Too many deliveries are not settled yet"),
    errors.TooManyStreams: Kind(429, "too-many-streams", "Too many streams are open"),
    errors.Unavailable: Kind(503, "unavailable", "Try again in a moment"),
    errors.Overloaded: Kind(503, "overloaded", "Too many events are waiting to be stored"),
    errors.DatabaseUnavailable: Kind(503, "database-unavailable", "The database does not answer"),
    errors.DiskFull: Kind(503, "disk-full", "Too little free disk space to accept events"),
    errors.HttpVersionNotSupported: Kind(
        505, "http-version-not-supported", "The HTTP version is not supported"
    ),
    errors.TriggersError: Kind(500, "internal", "Internal error"),
}


class FieldError(msgspec.Struct, frozen=True):
    """A wrong field: its place (a JSON Pointer into the body, or a parameter's name) and the reason."""

    pointer: str
    detail: str


class UnsettledMessage(msgspec.Struct, frozen=True):
    """A message that was not settled, with its id as in the request, and the reason."""

    id: str
    reason: NotSettledReason


class Problem(msgspec.Struct, omit_defaults=True, kw_only=True):
    """An error in the format of RFC 9457. Optional fields are present only if they apply."""

    type: Annotated[
        str,
        Meta(
            description="Path of a page that says what to do: the path of the public URL, and"
            " `/problems/<slug>`. To recognise an error, compare `code` instead."
        ),
    ]
    code: Annotated[str, Meta(description="The slug of the error, which never changes.")]
    title: str
    status: int
    detail: Annotated[str, Meta(description="What is wrong with this request.")]
    errors: Annotated[list[FieldError], Meta(description="In a 422: the wrong fields.")] = []
    request_id: Annotated[str | None, Meta(description="The `X-Request-Id`, also in the log.")] = None
    original_id: Annotated[
        UUID | None, Meta(description="In a 409: the event that already has the `dedup_id`.")
    ] = None
    not_settled: Annotated[
        list[UnsettledMessage],
        Meta(description="In a 409 `lease-over`: the messages that the request names, with the reasons."),
    ] = []
    subscription_id: Annotated[
        UUID | None,
        Meta(description="In a 429 `backlog-full`: the subscription or inbox that has most deliveries."),
    ] = None
    scope: Annotated[str | None, Meta(description="In a 403: the missing scope.")] = None
    allow: Annotated[list[str], Meta(description="In a 405: the methods of the path.")] = []
    limit: Annotated[int | None, Meta(description="In a 413: maximum bytes of the body.")] = None
    retry_after: Annotated[int | None, Meta(description="In a 429: the seconds to wait.")] = None
    results: Annotated[
        list[BatchItem], Meta(description="If no event of a batch was accepted: the outcome of each event.")
    ] = []


class BatchItem(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The outcome of one event of a batch: its status, and its id or problem."""

    index: int
    status: int
    id: UUID | None = None
    problem: Problem | None = None


def kind_of(error: errors.TriggersError) -> Kind:
    """The kind of an error, by the nearest of its classes."""
    return next(KINDS[cls] for cls in type(error).__mro__ if cls in KINDS)


def problem(error: errors.TriggersError, *, root_path: str, request_id: str | None = None) -> dict[str, Any]:
    """The members of the problem document. `root_path` is the path of the public URL."""
    kind = kind_of(error)
    members: dict[str, Any] = {
        "type": f"{root_path}/problems/{kind.slug}",
        "code": kind.slug,
        "title": kind.title,
        "status": kind.status,
        "detail": error.message,
        **error.facts,
    }
    if request_id is not None:
        members["request_id"] = request_id
    return members


def seconds_to_wait(error: errors.TriggersError) -> int:
    """The seconds after which the same request may succeed; 0 if it will not."""
    match error:
        case errors.Unavailable():
            return error.retry_after
        case errors.RateLimited() | errors.BacklogFull() | errors.TooManyStreams():
            seconds: int = error.facts.get("retry_after", 1)
            return seconds
        case _:
            return 0


def headers(error: errors.TriggersError) -> list[tuple[str, str]]:
    """The headers that an error's answer carries beside its content type."""
    match error:
        case errors.Unauthenticated():
            return [("www-authenticate", 'Bearer realm="triggers"')]
        case errors.Unavailable() | errors.RateLimited() | errors.BacklogFull() | errors.TooManyStreams():
            return [("retry-after", str(seconds_to_wait(error)))]
        case errors.MethodNotAllowed() if "allow" in error.facts:
            return [("allow", ", ".join(error.facts["allow"]))]
        case _:
            return []
