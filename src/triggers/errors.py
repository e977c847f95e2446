"""Every error we raise.

    TriggersError
    ├── RequestError                the caller can mend it
    │   ├── MalformedBody           not JSON as in RFC 7493
    │   ├── Unauthenticated         no key, or not a living one
    │   ├── Forbidden               the key lacks a scope
    │   ├── NotFound                no such thing in this organisation
    │   ├── MethodNotAllowed        the path exists, the method does not
    │   ├── NotAcceptable           no representation that the caller accepts
    │   ├── RequestTimeout          headers or body came too slowly
    │   ├── Conflict                the state of the thing forbids it
    │   │   ├── DedupConflict       same dedup_id, other content
    │   │   ├── NameTaken           a key or name is in use
    │   │   └── Paused              a paused inbox that is drained
    │   ├── TooLarge                a body or an item over its limit
    │   ├── UnsupportedMediaType    content type or coding we do not read
    │   ├── Invalid                 well-formed, but a field is wrong
    │   └── RateLimited             the plan's quota is used up for now
    ├── Unavailable                 try again later: nothing was accepted
    │   ├── Overloaded              too much is waiting
    │   ├── DatabaseUnavailable     PostgreSQL cannot be reached
    │   └── DiskFull                too little free disk
    ├── SealBroken                  a stored secret cannot be decrypted
    └── OperatorError               the command or its settings are wrong
        ├── SettingsError           a setting has a bad value
        ├── KeyMissing              the key ring lacks a key that sealed something
        ├── SchemaTooNew            the database was migrated by a newer version
        └── DataDirectoryError      the data directory cannot be used

The docstring's first line is the default message; facts are keyword fields and
become members of the HTTP problem. `api/problems.py` alone maps them to HTTP.
"""

from typing import Any


class TriggersError(Exception):
    """Something went wrong."""

    def __init__(self, message: str | None = None, **facts: Any) -> None:
        doc = type(self).__doc__ or ""
        self.message = message or doc.partition("\n")[0]
        self.facts = facts
        super().__init__(self.message)


class RequestError(TriggersError):
    """The request cannot be carried out as it is."""


class MalformedBody(RequestError):
    """The body is not valid JSON."""


class Unauthenticated(RequestError):
    """Send a valid API key as `Authorization: Bearer <key>` or `X-API-Key: <key>`."""


class Forbidden(RequestError):
    """This API key lacks the scope that the route needs."""


class NotFound(RequestError):
    """There is no such thing here."""


class MethodNotAllowed(RequestError):
    """This path does not answer that method."""


class NotAcceptable(RequestError):
    """There is no representation of this that you accept."""


class RequestTimeout(RequestError):
    """The request did not arrive in time."""


class Conflict(RequestError):
    """The present state forbids that."""


class DedupConflict(Conflict):
    """This dedup_id was used for an event with other content."""


class NameTaken(Conflict):
    """That name or key is taken."""


class Paused(Conflict):
    """The inbox is paused and what it held at the pause has been leased or settled."""


class TooLarge(RequestError):
    """The body is larger than this route takes."""


class UnsupportedMediaType(RequestError):
    """This route does not read that content type or content coding."""


class Invalid(RequestError):
    """A field is missing or wrong."""

    def __init__(self, message: str | None = None, *, pointer: str = "", **facts: Any) -> None:
        """`pointer` (a JSON Pointer) fills `errors` when only one field is wrong."""
        super().__init__(message, **facts)
        if "errors" not in facts:
            self.facts["errors"] = [{"pointer": pointer, "detail": self.message}]


class RateLimited(RequestError):
    """The organisation's rate limit is reached."""


class Unavailable(TriggersError):
    """The service cannot do that now; try again."""

    def __init__(self, message: str | None = None, *, retry_after: int = 1, **facts: Any) -> None:
        """`retry_after` is in seconds."""
        super().__init__(message, **facts)
        self.retry_after = retry_after


class Overloaded(Unavailable):
    """Too many events are waiting to be stored; nothing of this request was accepted."""


class DatabaseUnavailable(Unavailable):
    """The database cannot be reached right now; nothing of this request is known to be stored."""


class DiskFull(Unavailable):
    """Free disk space is below the operator's mark; events are not accepted until it is not."""


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
