"""The errors of a form by its fields."""

from __future__ import annotations

from triggers.errors import TriggersError


def wrong_fields(error: TriggersError) -> dict[str, str]:
    """Return the errors by the names of their fields. An error of the whole form has the name `form`."""
    listed = error.facts.get("errors") or [{"pointer": "", "detail": error.message}]
    return {each["pointer"].strip("/").partition("/")[0] or "form": each["detail"] for each in listed}
