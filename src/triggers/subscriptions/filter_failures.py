"""Which callers may see why a filter failed."""

from __future__ import annotations

from triggers.domain import Caller, Scope

HIDDEN = "The reason is shown to keys with the scope `events:read`, because it may quote a payload."


def shown_failure(reason: str | None, caller: Caller, *scopes: Scope) -> str | None:
    """The reason of a failure as a caller may see it. Besides `events:read`, one of `scopes` is enough."""
    if reason is None or not caller.scopes.isdisjoint({Scope.EVENTS_READ, *scopes}):
        return reason
    return HIDDEN
