"""Everything that this library raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triggers_client.models import Problem


class TriggersError(Exception):
    """The base of all errors of this library.

    `request_id` names the request in the log of the service. It is None if no request was made.
    """

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id

    def __str__(self) -> str:
        return f"{self.message} (request {self.request_id})" if self.request_id else self.message


class ConnectionFailed(TriggersError):
    """The service cannot be reached. It has not seen the request."""


class OutcomeUnknown(TriggersError):
    """The request was sent, and no answer of the service came. It may have been carried out or not."""


class AnsweredWithProblem(TriggersError):
    """The service answered with an error.

    `status` is the HTTP status. `problem` says what is wrong. It is None if another program, such as a proxy,
    sent the answer.
    """

    def __init__(
        self, message: str, *, status: int, problem: Problem | None, request_id: str | None = None
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.status = status
        self.problem = problem

    @property
    def code(self) -> str | None:
        """The name of the error, which never changes, such as `dedup-conflict`."""
        return self.problem.code if self.problem else None


class _TryAgainLater(AnsweredWithProblem):
    retry_after: float = 1.0
    """The seconds after which the service asks to try again."""


class RateLimited(_TryAgainLater):
    """429: a limit of the organisation is reached. Nothing was done."""


class Unavailable(_TryAgainLater):
    """503: the service cannot process the request now. It may have been carried out or not."""


class Refused(AnsweredWithProblem):
    """The service refuses the request. The same request will be refused again."""


class VerificationFailed(TriggersError):
    """A webhook is not signed with any of the secrets, or is too old."""


class ExtraMissing(TriggersError):
    """An optional part of this library is not installed. The message names it."""
