"""The form for the settings of a subscription: its texts, and the changes that they mean. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from triggers.errors import Invalid
from triggers.previews.routes import DryRunAnswer
from triggers.subscriptions.body import SubscriptionView

LAST_EVENTS: Final = 100
"""Number of events on which types and a filter are tried."""
_RANGES: Final = {
    "name": "Must have at most 255 characters.",
    "target_url": "Must be a URL of 1 to 2,048 characters.",
    "event_types": "Must be at most 100 types.",
    "filter": "Must have at most 2,048 characters.",
    "max_concurrency": "Must be a whole number from 1 to 1,000.",
    "rate_limit": "Must be a number from 0.001 to 100,000.",
    "delays": "Must be at most 50 numbers from 0 to 604,800.",
    "deadline": "Must be a number above 0, and at most 2,592,000.",
    "headers": "Must be at most 32 lines, each with a name, a colon and a value.",
}
"""The rule of each field in words, for values that the decoder of the API refuses."""


def texts_of(subscription: SubscriptionView) -> dict[str, str]:
    """Return the text of each field of the form. Values of headers are never shown, so it has none."""
    retry = subscription.retry
    return {
        "name": subscription.name or "",
        "target_url": subscription.target_url_unicode or subscription.target_url,
        "event_types": "\n".join(subscription.event_types or ()),
        "filter": subscription.filter or "",
        "format": subscription.format,
        "ordering_key": subscription.ordering_key or "",
        "max_concurrency": str(subscription.max_concurrency),
        "rate_limit": _number(subscription.rate_limit),
        "delays": "none" if retry.delays == [] else ", ".join(map(_number, retry.delays or ())),
        "deadline": _number(retry.deadline),
        "expires_at": subscription.expires_at or "",
        "headers": "",
        "remove_headers": "",
    }


def changes_of(form: Mapping[str, str], present: Mapping[str, str]) -> dict[str, Any]:
    """Return the body of the change that a form means: only the fields whose text is no longer `present`.

    Raises:
        Invalid: texts cannot be read. It names each of these fields.
    """
    found: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    changed = {name for name, text in present.items() if _tidy(form.get(name, text)) != _tidy(text)}
    for name, read in _READERS.items():
        if name in changed:
            try:
                found[name] = read(_tidy(form[name]))
            except ValueError:
                wrong[f"/{name}"] = _RANGES[name]
    if "delays" in changed or "deadline" in changed:
        try:
            found["retry"] = _retry(form)
        except Invalid as error:
            wrong[error.facts["errors"][0]["pointer"]] = str(error)
    if "remove_headers" in changed and "headers" not in found:
        found["headers"] = None
    if wrong:
        raise Invalid(errors=[{"pointer": pointer, "detail": detail} for pointer, detail in wrong.items()])
    return found


def dry_run_of(form: Mapping[str, str]) -> dict[str, Any]:
    """Return the body of the dry run with the types and the filter of a form."""
    return {
        "event_types": _types(_tidy(form.get("event_types", ""))),
        "filter": _tidy(form.get("filter", "")) or None,
        "last": LAST_EVENTS,
        "among": "all",
    }


def errors_of(error: Invalid) -> dict[str, str]:
    """Return the message for each field of the form. A message without a field has the name ``."""
    found = {}
    for each in error.facts.get("errors") or [{"pointer": "", "detail": str(error)}]:
        steps = str(each["pointer"]).removeprefix("/retry").split("/")
        name = steps[1] if len(steps) > 1 else ""
        detail = str(each["detail"])
        if detail.startswith("Expected") and name in _RANGES:
            detail = _RANGES[name]
        elif name == "headers" and len(steps) > 2:
            detail = f"{steps[2].replace('~1', '/').replace('~0', '~')}: {detail}"
        elif name == "event_types" and len(steps) > 2:
            detail = f"Type {int(steps[2]) + 1}: {detail}"
        found[name] = detail
    return found


def tell_matches(answer: DryRunAnswer) -> str:
    """Return the result of a dry run in a sentence."""
    if not answer.judged:
        return "No event is stored yet on which these settings could be tried."
    if answer.judged == 1:
        told = f"{'Matches' if answer.matched else 'Does not match'} the only event that is stored."
    else:
        told = f"Matches {answer.matched:,} of the last {answer.judged:,} events."
    if answer.failed:
        told += f" On {answer.failed:,} of them the filter fails, which counts as a match."
    if not answer.complete:
        told += " Older events were not tried, because that would take too long."
    return told


# ---- steps -----------------------------------------------------------------------------------------


def _tidy(text: str) -> str:
    return text.replace("\r\n", "\n").strip()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.15g}"


def _types(text: str) -> list[str] | None:
    return text.replace(",", " ").split() or None


def _headers(text: str) -> dict[str, str]:
    """Each line is `Name: value`."""
    found = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if not colon or name.strip() in found:
            raise ValueError(line)
        found[name.strip()] = value.strip()
    return found


def _retry(form: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, read in (("delays", _delays), ("deadline", _optional_float)):
        try:
            found[name] = read(_tidy(form.get(name, "")))
        except ValueError:
            raise Invalid(_RANGES[name], pointer=f"/{name}") from None
    return found


def _delays(text: str) -> list[float] | None:
    if not text:
        return None
    return [] if text.lower() == "none" else [_float(each) for each in text.split(",")]


def _optional_float(text: str) -> float | None:
    return _float(text) if text else None


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


_READERS: Final[dict[str, Callable[[str], Any]]] = {
    "name": lambda text: text or None,
    "target_url": str,
    "event_types": _types,
    "filter": lambda text: text or None,
    "format": str,
    "ordering_key": lambda text: text or None,
    "max_concurrency": lambda text: int(text) if text else None,
    "rate_limit": _optional_float,
    "expires_at": lambda text: text or None,
    "headers": _headers,
}
"""Reads the text of a field. An empty text resets the setting to its default."""
