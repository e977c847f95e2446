"""Every error that this service raises.

    TriggersError
    ├── RequestError                the caller can correct it
    │   ├── MalformedRequest        a request that is not valid HTTP
    │   ├── HttpVersionNotSupported neither HTTP/1.1 nor HTTP/1.0
    │   ├── MalformedBody           not JSON as in RFC 7493
    │   ├── Unauthenticated         no API key, or not a valid one
    │   ├── Forbidden               the key lacks a scope
    │   ├── NotFound                not in this organisation
    │   ├── MethodNotAllowed        the path exists, the method does not
    │   ├── RequestTimeout          headers or body arrived too slowly
    │   ├── Conflict                the current state does not allow it
    │   │   ├── DedupConflict       same dedup_id, other content
    │   │   ├── NameTaken           a key or name is in use
    │   │   ├── LeaseOver           a lease that has ended, or does not hold the messages
    │   │   └── Paused              a paused inbox that is drained
    │   ├── LinkOver                a sign-in link that was used or has expired
    │   ├── TooLarge                a body or an item over its limit
    │   ├── UnsupportedMediaType    Content-Type or Content-Encoding that is not supported
    │   ├── Invalid                 well-formed, but a field is wrong
    │   ├── BatchRefused            no event of a batch was accepted, for several reasons
    │   ├── RateLimited             the plan's quota is used up for now
    │   ├── BacklogFull             too many deliveries are not settled yet
    │   └── TooManyStreams          the share of open streams is used up
    ├── Unavailable                 temporary; whether anything was stored is not known
    │   ├── Overloaded              too many events wait to be stored
    │   ├── DatabaseUnavailable     PostgreSQL cannot be reached
    │   └── DiskFull                too little free disk
    ├── SealBroken                  a stored secret cannot be decrypted
    └── OperatorError               the command or its settings are wrong
        ├── SettingsError           a setting has a bad value
        ├── KeyMissing              a stored secret was encrypted with a key that is not configured
        ├── SchemaTooNew            the database was migrated by a newer version
        └── DataDirectoryError      the data directory cannot be used

The first line of a docstring is the default message. The lines after it are the advice on the
page `/problems/<slug>`. Facts are keyword arguments and become members of the HTTP problem.
Only `http/problems.py` maps errors to HTTP.
"""

from typing import Any


class TriggersError(Exception):
    """An internal error occurred.

    The error is in the service, not in the request. The request may or may not have been carried out, so
    send it again. Reads, acknowledgements, and events with a `dedup_id` can be repeated safely.

    If the error persists, give the operator the `request_id`, which identifies the log lines of this request.
    """

    def __init__(self, message: str | None = None, *, logged: str | None = None, **facts: Any) -> None:
        """`logged` replaces the message in the log if the message quotes the request."""
        doc = type(self).__doc__ or ""
        self.message = message or doc.partition("\n")[0]
        self.logged = logged or self.message
        self.facts = facts
        super().__init__(self.message)


class RequestError(TriggersError):
    """The request is not valid."""


class MalformedRequest(RequestError):
    """The request is not valid HTTP/1.1.

    The request line, a header or the framing of the body cannot be read, so the service closed the
    connection. Nothing of this request was accepted. `detail` says what is wrong.

    An HTTP/1.1 request needs exactly one `Host` header. `Transfer-Encoding` must be `chunked` or left out,
    and a body must be as long as its `Content-Length` says. HTTP libraries do this by themselves, so check
    code that writes requests byte by byte, and proxies between the caller and the service.
    """


class HttpVersionNotSupported(RequestError):
    """The service supports only HTTP/1.1 and HTTP/1.0.

    The request line names another version, and the service closed the connection. Nothing of this request was
    accepted. Set the client or the proxy to HTTP/1.1. HTTP/2 needs a proxy in front of the service that
    speaks HTTP/2 with callers and HTTP/1.1 with the service.
    """


class MalformedBody(RequestError):
    """The body is not valid JSON.

    The body must be I-JSON (RFC 7493): strict UTF-8 without a byte order mark, no duplicate names in an
    object, no unpaired surrogates, no `NaN` or `Infinity`, and at most 128 levels of nesting. Nothing was
    accepted. `detail` says what is wrong. Correct the body before you send it again.
    """


class Unauthenticated(RequestError):
    """Send a valid API key as `Authorization: Bearer <key>` or `X-API-Key: <key>`.

    The key is missing, unknown, expired or revoked; the answer does not tell which. Keys begin with
    `zap_live_` or `zap_test_`. A caller with the scope `keys` can create another key with `POST /v1/keys`,
    and the operator can create one in the database, with `triggers keys create --org NAME` without an
    API key.
    """


class Forbidden(RequestError):
    """This API key lacks the scope that the route needs.

    `scope` names the missing scope. The key itself is valid. Use a key that has the scope, or create one.
    The scopes of an existing key cannot be changed, and no key can grant scopes that it lacks.
    """


class NotFound(RequestError):
    """Nothing was found at this path.

    Either no route has this path, or the organisation of this key has nothing with the id in the path. The
    answer is the same if the id belongs to another organisation. Check the id, and check the organisation of
    the key with `GET /v1/org`.
    """


class MethodNotAllowed(RequestError):
    """This path does not support the method.

    The `Allow` header lists the supported methods.
    """


class RequestTimeout(RequestError):
    """The request did not arrive in time.

    The headers and the body must arrive within `TRIGGERS_RECEIVE_TIMEOUT`, a setting of the operator
    (default: 30 seconds). Nothing was accepted. Send the request again on a new connection, and split a
    large batch into smaller ones.
    """


class Conflict(RequestError):
    """The current state does not allow this request.

    `detail` names the state. Read the current state before you decide what to do. The same request gets
    the same answer until the state changes.
    """


class DedupConflict(Conflict):
    """This dedup_id was used for an event with other content.

    The content is the `type` and the exact bytes of the payload, including spaces. `original_id` is the event
    that has this `dedup_id`. The new event was not accepted.

    A retry must send the same bytes as the first request, so build the body once and keep it. If this is a
    different event, use a different `dedup_id`. The `dedup_id` can be used again after the deduplication
    window, which the operator sets with `TRIGGERS_DEDUP_WINDOW` (default: 24 hours).
    """


class NameTaken(Conflict):
    """This name or key is already in use.

    Names and keys are unique within an organisation, and names of organisations are unique within the
    service. Choose another one, or use the existing resource: `PUT /v1/inboxes` creates an inbox only if it
    does not exist.
    """


class LeaseOver(Conflict):
    """The lease has ended, or it does not hold the messages of the request.

    Nothing was changed. A lease ends at its `leased_until`, or when all its messages have been acknowledged,
    released or rejected. Messages that were not settled by then are available again, and another consumer may
    have leased them.

    If the request named `message_ids`, `not_settled` says which of them are acknowledged. Without
    `message_ids`, a repeated request is recognised for 24 hours after the last messages of the lease were
    acknowledged.

    If your work takes longer than the lease, ask for a longer one with `lease_seconds` or with
    `default_lease_seconds` of the inbox, or extend the lease before it ends.
    """


class Paused(Conflict):
    """The inbox is paused, and all messages from before the pause have been leased or settled.

    New events are still collected, and none is lost. They can be leased after
    `POST /v1/inboxes/{inbox}/resume`.
    """


class LinkOver(RequestError):
    """This link was used or has expired, or its API key is no longer valid.

    A link to sign in to the console can be used once, and is valid for a minute, or for ten minutes if
    `triggers serve` printed it. Make another one with `triggers console` or with `POST /v1/console/links`.
    """


class TooLarge(RequestError):
    """The body is larger than this route allows.

    The limits are 256 KiB for an event, 1,000 events and 5 MiB for a batch, and 256 KiB for any other body.
    The limit of a compressed body applies to its decompressed size. Nothing was accepted; but in a batch, an
    event that is too large does not affect the other events. Split the batch, or store the large part
    elsewhere and send a link to it.
    """


class UnsupportedMediaType(RequestError):
    """This route does not support the content type or the content encoding.

    Send `application/json`, or for a batch `application/x-ndjson`. CloudEvents are accepted in binary mode,
    and as `application/cloudevents+json` or `application/cloudevents-batch+json`. Their data must be JSON, so
    `data_base64` and other media types of data are not supported. The only supported `Content-Encoding` is
    `gzip`.
    """


class Invalid(RequestError):
    """A field is missing or wrong.

    `errors` lists each wrong field. `pointer` is a JSON Pointer into the body, or the name of a parameter.
    `detail` says what the value must be. Unknown fields and parameters are errors too, so that a misspelt
    name is not silently ignored. Nothing was accepted.
    """

    def __init__(self, message: str | None = None, *, pointer: str = "", **facts: Any) -> None:
        """`pointer` (a JSON Pointer) fills `errors` when only one field is wrong."""
        super().__init__(message, **facts)
        if "errors" not in facts:
            self.facts["errors"] = [{"pointer": pointer, "detail": self.message}]


class BatchRefused(RequestError):
    """No event of the batch was accepted.

    The events were refused with different statuses. `results` has the status and the problem of each event,
    in the order of the request. An event with the status 429 or 503 can be sent again as it is, after the
    number of seconds in `Retry-After`. Correct the other events before you send them again.
    """


class RateLimited(RequestError):
    """The organisation's rate limit is reached.

    Nothing was accepted. Wait for the number of seconds in `Retry-After`, then send the request again. The
    plan sets the quota of the whole organisation. The quota refills evenly, and each event of a batch counts
    as one request. An event with more than 100 deliveries costs one more request for each further 100 or part
    of 100.
    `RateLimit` and `RateLimit-Policy` show the remaining quota. The operator can change the
    plan with `triggers orgs set-plan`.
    """


class BacklogFull(RequestError):
    """The organisation has too many deliveries and messages that are not settled yet.

    Nothing was accepted. `subscription_id` is the subscription or inbox that has most of them. Repair its
    endpoint or its consumers, cancel deliveries that are not needed any more, or delete the subscription or
    inbox. The operator can change `TRIGGERS_MAX_PENDING`. Unsettled deliveries are counted once a minute, so
    events are accepted again about a minute after there is room.
    """


class TooManyStreams(RequestError):
    """Too many streams are open.

    An organisation may have 20 open streams on a node, and a node may have 500 in all, which organisations
    share. Close a stream that is not needed, or let several readers share one. Then connect again after the
    number of seconds in `Retry-After`.
    """


class Unavailable(TriggersError):
    """The service cannot process this request now; try again.

    It is not known whether anything was stored. Wait for the number of seconds in `Retry-After`, then send
    the same bytes with the same `dedup_id` again. If the event was stored, the answer is 200 with its id.
    """

    def __init__(self, message: str | None = None, *, retry_after: int = 1, **facts: Any) -> None:
        """`retry_after` is in seconds."""
        super().__init__(message, **facts)
        self.retry_after = retry_after


class Overloaded(Unavailable):
    """Too many events are waiting to be stored; nothing of this request was accepted.

    Events arrive faster than the database can store them, from this organisation or from all organisations
    together. Wait for the number of seconds in `Retry-After`, then send the request again. Batches need less
    work per event than single events. Operators: `TRIGGERS_MAX_WAITING_EVENTS` and
    `TRIGGERS_MAX_WAITING_BYTES` set how much may wait.
    """


class DatabaseUnavailable(Unavailable):
    """The database cannot be reached; it is not known whether anything was stored.

    Wait for the number of seconds in `Retry-After`, then send the same bytes with the same `dedup_id` again.
    If the event was stored, the answer is 200 with its id. Operators: `/readyz?verbose` shows the checks of
    this node.
    """


class DiskFull(Unavailable):
    """Free disk space is below `TRIGGERS_MIN_FREE_DISK`, so no events are accepted.

    Reading, leasing and acknowledging still work. Send the event again later. Operators: free space on the
    disk of the data directory, or lower `TRIGGERS_MIN_FREE_DISK`. The service then accepts events again
    without a restart.
    """


class OperatorError(TriggersError):
    """The command cannot be carried out."""


class SettingsError(OperatorError):
    """A setting has a bad value."""


class SchemaTooNew(OperatorError):
    """The database was migrated by a newer version of Triggers. Run that version."""


class DataDirectoryError(OperatorError):
    """The data directory cannot be used."""


class KeyMissing(OperatorError):
    """A stored secret was encrypted with a key that is not in the key ring."""


class SealBroken(TriggersError):
    """A stored secret cannot be decrypted: it was changed, or it belongs to another subscription."""
