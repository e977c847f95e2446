"""Every error we raise.

    TriggersError
    ├── RequestError                the caller can mend it
    │   ├── MalformedBody           not JSON as in RFC 7493
    │   ├── Unauthenticated         no key, or not a living one
    │   ├── Forbidden               the key lacks a scope
    │   ├── NotFound                no such thing in this organisation
    │   ├── MethodNotAllowed        the path exists, the method does not
    │   ├── RequestTimeout          headers or body came too slowly
    │   ├── Conflict                the state of the thing forbids it
    │   │   ├── DedupConflict       same dedup_id, other content
    │   │   ├── NameTaken           a key or name is in use
    │   │   └── Paused              a paused inbox that is drained
    │   ├── TooLarge                a body or an item over its limit
    │   ├── UnsupportedMediaType    content type or coding we do not read
    │   ├── Invalid                 well-formed, but a field is wrong
    │   └── RateLimited             the plan's quota is used up for now
    ├── Unavailable                 try again later: nothing is known to be stored
    │   ├── Overloaded              too much is waiting
    │   ├── DatabaseUnavailable     PostgreSQL cannot be reached
    │   └── DiskFull                too little free disk
    ├── SealBroken                  a stored secret cannot be decrypted
    └── OperatorError               the command or its settings are wrong
        ├── SettingsError           a setting has a bad value
        ├── KeyMissing              the key ring lacks a key that sealed something
        ├── SchemaTooNew            the database was migrated by a newer version
        └── DataDirectoryError      the data directory cannot be used

The docstring's first line is the default message; what follows it is what the page
`/problems/<slug>` tells a caller to do. Facts are keyword fields and become members of
the HTTP problem. `http/problems.py` alone maps them to HTTP.
"""

from typing import Any


class TriggersError(Exception):
    """Something went wrong.

    The fault is the service's, not the request's. Whether the request was carried out is not known:
    send it again. Reading can be repeated freely, so can acknowledging, and so can an event that carries
    a `dedup_id`.

    If it stays, tell the operator the `request_id`: it names the log lines with the cause.
    """

    def __init__(self, message: str | None = None, *, logged: str | None = None, **facts: Any) -> None:
        """`logged`: what the log is told instead, where the message quotes what was sent."""
        doc = type(self).__doc__ or ""
        self.message = message or doc.partition("\n")[0]
        self.logged = logged or self.message
        self.facts = facts
        super().__init__(self.message)


class RequestError(TriggersError):
    """The request cannot be carried out as it is."""


class MalformedBody(RequestError):
    """The body is not valid JSON.

    JSON here is I-JSON (RFC 7493): strict UTF-8 without a byte order mark, no name twice in one object, no
    unpaired surrogates, no `NaN` or `Infinity`, nested at most 128 deep. Nothing was accepted. `detail` says
    what was found; mend the body before sending it again.
    """


class Unauthenticated(RequestError):
    """Send a valid API key as `Authorization: Bearer <key>` or `X-API-Key: <key>`.

    The key is missing, unknown, expired or revoked; which of them is not told. Keys begin with `zap_live_`
    or `zap_test_`. Somebody with the scope `keys` can make another with `POST /v1/keys`, and the operator
    with `triggers keys create --org NAME`.
    """


class Forbidden(RequestError):
    """This API key lacks the scope that the route needs.

    `scope` names it. The key itself is good. Use a key that has the scope, or make one: a key cannot be
    given scopes afterwards, and no key grants scopes that it lacks itself.
    """


class NotFound(RequestError):
    """There is no such thing here.

    Either the path is no route, or the thing that it names is not in the organisation of this key. What
    belongs to another organisation is not found either. Check the id, and whose key this is with
    `GET /v1/org`.
    """


class MethodNotAllowed(RequestError):
    """This path does not answer that method.

    The `Allow` header names the methods that it answers.
    """


class RequestTimeout(RequestError):
    """The request did not arrive in time.

    The headers and the body must be here within the operator's `TRIGGERS_RECEIVE_TIMEOUT`, 30 seconds
    unless it was changed. Nothing was accepted. Send the request again on a new connection, a large batch
    in smaller parts.
    """


class Conflict(RequestError):
    """The present state forbids that.

    `detail` says which state. Look at the thing again before deciding: repeating the request unchanged
    gives the same answer until somebody changes that state.
    """


class DedupConflict(Conflict):
    """This dedup_id was used for an event with other content.

    Content is the `type` and the payload's bytes, to the last space. `original_id` is the event that has the
    `dedup_id` now; this one was not accepted.

    A retry must send the same bytes as the first try: build the body once and keep it. If it is another
    event, give it a `dedup_id` of its own. After the window, 24 hours unless the operator changed it, the
    `dedup_id` is free again.
    """


class NameTaken(Conflict):
    """That name or key is taken.

    Names are unique within an organisation, those of organisations among themselves. Choose another, or
    use what is there: `PUT /v1/inboxes` makes an inbox only if it does not exist.
    """


class Paused(Conflict):
    """The inbox is paused and what it held at the pause has been leased or settled.

    Events keep collecting and none is lost. They can be leased after
    `POST /v1/inboxes/{inbox}/resume`.
    """


class TooLarge(RequestError):
    """The body is larger than this route takes.

    An event may have 256 KiB, a batch 1,000 events and 5 MiB, any other body 256 KiB; of a compressed
    body it is the inflated size that counts. Nothing was accepted, except that in a batch one large event
    spoils only itself. Split the batch, or keep the large part elsewhere and send where it is.
    """


class UnsupportedMediaType(RequestError):
    """This route does not read that content type or content coding.

    Bodies are `application/json`; a batch may also be `application/x-ndjson`. They may be sent with
    `Content-Encoding: gzip`.
    """


class Invalid(RequestError):
    """A field is missing or wrong.

    `errors` lists what is wrong: `pointer` is a JSON Pointer into the body, or the name of a parameter,
    and `detail` what it must be. Fields and parameters that the route does not know are refused too: a
    misspelt one is not silently lost. Nothing was accepted.
    """

    def __init__(self, message: str | None = None, *, pointer: str = "", **facts: Any) -> None:
        """`pointer` (a JSON Pointer) fills `errors` when only one field is wrong."""
        super().__init__(message, **facts)
        if "errors" not in facts:
            self.facts["errors"] = [{"pointer": pointer, "detail": self.message}]


class RateLimited(RequestError):
    """The organisation's rate limit is reached.

    Nothing was accepted. Wait for the seconds of `Retry-After`, then go on. The quota of the plan is for the
    whole organisation, comes back evenly, and each event of a batch counts as a request; `RateLimit` and
    `RateLimit-Policy` show what is left. The operator can change the plan.
    """


class Unavailable(TriggersError):
    """The service cannot do that now; try again.

    Nothing of this request is known to be stored. Send it again after the seconds of `Retry-After`, the
    same bytes with the same `dedup_id`: if it was stored after all, the answer is a 200 with its id.
    """

    def __init__(self, message: str | None = None, *, retry_after: int = 1, **facts: Any) -> None:
        """`retry_after` is in seconds."""
        super().__init__(message, **facts)
        self.retry_after = retry_after


class Overloaded(Unavailable):
    """Too many events are waiting to be stored; nothing of this request was accepted.

    Events come in faster than the database stores them, from this organisation or from all together. Send
    it again after the seconds of `Retry-After`. Batches cost the service less than single events.
    """


class DatabaseUnavailable(Unavailable):
    """The database cannot be reached right now; nothing of this request is known to be stored.

    Send it again after the seconds of `Retry-After`, the same bytes with the same `dedup_id`: if it was
    stored after all, the answer is a 200 with its id. Operators: `/readyz?verbose` says what this node sees.
    """


class DiskFull(Unavailable):
    """Free disk space is below the operator's mark; events are not accepted until it is not.

    Reading, leasing and acknowledging go on. Send the event again later. Operators: free space on the disk
    of the data directory, or change `TRIGGERS_MIN_FREE_DISK`; accepting begins again by itself.
    """


class OperatorError(TriggersError):
    """The command cannot be carried out."""


class SettingsError(OperatorError):
    """A setting has a bad value."""


class SchemaTooNew(OperatorError):
    """The database was migrated by a newer version of Triggers; run that version."""


class DataDirectoryError(OperatorError):
    """The data directory cannot be used."""


class KeyMissing(OperatorError):
    """A stored secret was encrypted with a key that is not in the key ring."""


class SealBroken(TriggersError):
    """A stored secret cannot be decrypted: it was altered, or belongs to another subscription."""
