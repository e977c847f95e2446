"""Messages for failures that are not bugs, for the person who runs a command."""

from __future__ import annotations

from typing import Any

from triggers.errors import TriggersError
from triggers.postgres.database import PostgresError

_OF_POSTGRES: Any = PostgresError  # mypy knows the class as Any, with which isinstance() is not allowed


def explained(error: BaseException) -> str | None:
    """The cause of an error, in plain words. None if it is a bug, because then the traceback is needed.

    A library's own text is not shown as it comes, because it may quote a secret or what a tenant sent.
    """
    if isinstance(error, TriggersError):
        return error.message
    if isinstance(error, _OF_POSTGRES):
        # Without DETAIL and HINT, which quote values of rows.
        said = f": {error.args[0]}" if error.args else ""
        return f"PostgreSQL reported an error (SQLSTATE {error.sqlstate}){said.rstrip('.')}."
    if isinstance(error, UnicodeEncodeError):
        return "An argument or an environment variable is not valid UTF-8."
    if isinstance(error, OSError):
        reason = error.strerror or "An operation of the system failed or took too long"
        return f"{error.filename}: {reason}." if error.filename else f"{reason}."
    if isinstance(error, MemoryError):
        return "There is not enough memory."
    return None
