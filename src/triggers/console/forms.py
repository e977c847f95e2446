"""The texts of forms and of the queries of pages, and the errors of a form by its fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urlencode

from triggers.errors import TriggersError


def wrong_fields(error: TriggersError) -> dict[str, str]:
    """Return the errors by the names of their fields. An error of the whole form has the name `form`."""
    listed = error.facts.get("errors") or [{"pointer": "", "detail": error.message}]
    return {each["pointer"].strip("/").partition("/")[0] or "form": each["detail"] for each in listed}


def texts_in(given: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Return the texts with these names in a form or a query, without the spaces around them."""
    return {name: given[name].strip() for name in names if name in given}


def query_of(texts: Mapping[str, str]) -> str:
    """Return the query with these texts, without the empty ones."""
    return urlencode({name: text for name, text in texts.items() if text})
