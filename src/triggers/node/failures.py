"""Messages for failures that are not bugs, for the person who runs a command."""

from __future__ import annotations

import sys
from typing import Any

from triggers.errors import TriggersError


def explained(error: BaseException) -> str | None:
    """The cause of an error, in plain words. None if it is a bug, because then the traceback is needed.

    A library's own text is not shown as it comes, because it may quote a secret or what a tenant sent.
    """
    if isinstance(error, TriggersError):
        return error.message
    if isinstance(error, _of_postgres()):
        # Without DETAIL and HINT, which quote values of rows.
        said = f": {error.args[0]}" if error.args else ""
        return f"PostgreSQL reported an error (SQLSTATE {getattr(error, 'sqlstate', '')}){said.rstrip('.')}."
    if isinstance(error, UnicodeEncodeError):
        return "An argument or an environment variable is not valid UTF-8."
    if isinstance(error, OSError):
        reason = error.strerror or "An operation of the system failed or took too long"
        return f"{error.filename}: {reason}." if error.filename else f"{reason}."
    if isinstance(error, MemoryError):
        return "There is not enough memory."
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("triggers"):
        return (
            f"This command needs the package {error.name}, which is not installed. Some packages are only"
            " for Linux, where the service runs. Commands that use the API work without them."
        )
    return None


def _of_postgres() -> Any:
    """The errors of PostgreSQL. Without its driver, which commands that use the API do not load, there are
    none."""
    return getattr(sys.modules.get("triggers.postgres.database"), "PostgresError", ())
