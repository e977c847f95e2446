"""Requests and answers as values, and the rules of repeating. Without I/O."""

from __future__ import annotations

import json
import os
import random
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeVar
from urllib.parse import quote, urlsplit

from triggers_client.decoding import Model, NotOurs, decode
from triggers_client.errors import (
    AnsweredWithProblem,
    ConnectionFailed,
    OutcomeUnknown,
    RateLimited,
    Refused,
    TriggersError,
    Unavailable,
)
from triggers_client.json_text import read_json
from triggers_client.models import Problem

DEFAULT_URL = "http://127.0.0.1:8080"
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 8.0
_LOCAL = re.compile(r"localhost|.+\.localhost|127(\.\d+){3}|::1")

M = TypeVar("M", bound=Model)
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


@dataclass(frozen=True)
class Options:
    """Where the service is, and how long a call may take."""

    url: str
    api_key: str = field(repr=False)
    timeout: float
    retry_seconds: float

    @property
    def is_local(self) -> bool:
        """Whether the service runs on this machine, where it is reached without a proxy."""
        return bool(_LOCAL.fullmatch(urlsplit(self.url).hostname or ""))


def options(url: str | None, api_key: str | None, timeout: float, retry_seconds: float) -> Options:
    """Read what is not given from TRIGGERS_URL and TRIGGERS_API_KEY.

    Raises:
        TriggersError: there is no key, or the key or the URL cannot be right.
    """
    key = (os.environ.get("TRIGGERS_API_KEY", "") if api_key is None else api_key).strip()
    if not re.fullmatch(r"[!-~]+", key):
        raise TriggersError(
            "The API key is missing, or contains a character that no key has, such as a space."
            " Set TRIGGERS_API_KEY, or give api_key."
        )
    where = os.environ.get("TRIGGERS_URL", DEFAULT_URL) if url is None else url
    return Options(_checked_url(where), key, timeout, retry_seconds)


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        good = good and "@" not in parts.netloc and not parts.query and not parts.fragment
    except ValueError:
        good = False
    if not good:
        # The message does not repeat the value, which may contain a password.
        raise TriggersError("The URL must be like http://127.0.0.1:8080. Set TRIGGERS_URL, or give url.")
    return url.rstrip("/")


@dataclass(frozen=True)
class Call:
    """One request to make. `repeatable`: carrying it out twice is as good as once."""

    method: Method
    path: str
    query: Mapping[str, Any] | None = None
    body: Any = None
    encoded: bytes | None = None
    repeatable: bool | None = None
    timeout: float | None = None
    retry_seconds: float | None = None
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def may_repeat(self) -> bool:
        """Whether the request may be sent again although it may have been carried out."""
        return self.method != "POST" if self.repeatable is None else self.repeatable

    @property
    def parameters(self) -> dict[str, str]:
        """The query without what is not given."""
        return {name: _as_text(value) for name, value in (self.query or {}).items() if value is not None}

    @property
    def content(self) -> bytes | None:
        """The body as JSON, or as it was `encoded` already.

        Raises:
            TypeError, ValueError: the body cannot be JSON, such as NaN or a time without a time zone.
        """
        if self.body is None:
            return self.encoded
        text = json.dumps(envelope(self.body), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()


def segment(text: str) -> str:
    """A text as one segment of a path.

    Raises:
        TriggersError: a URL would take it for another path.
    """
    if text in {"", ".", ".."}:
        raise TriggersError(f"{text!r} is not an id or a key.")
    return quote(text, safe="")


def envelope(body: Any) -> Any:
    """The body with its times as text. What is within a payload stays as it is."""
    if not isinstance(body, Mapping):
        return body
    return {name: _time_text(value) if isinstance(value, datetime) else value for name, value in body.items()}


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return _time_text(value)
    if isinstance(value, (list, tuple)):
        return ",".join(str(each) for each in value)
    return str(value)


def _time_text(value: datetime) -> str:
    if value.tzinfo is None:
        raise ValueError("A time needs a time zone, such as datetime.now(timezone.utc).")
    return value.isoformat()


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    content: bytes
    request_id: str
    retry_after: str | None = None

    def decoded(self, kind: type[M]) -> M:
        """The body as `kind`. Raises OutcomeUnknown if another program sent it."""
        try:
            return decode(kind, self.json())
        except NotOurs as error:
            raise _not_ours(str(error), self.request_id) from None

    def json(self) -> Any:
        """The decoded body. Raises OutcomeUnknown if it is not JSON."""
        try:
            return read_json(self.content)
        except ValueError:
            raise _not_ours("it is not JSON", self.request_id) from None


def _not_ours(why: str, request_id: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"The answer does not come from Triggers: {why}. Check TRIGGERS_URL.", request_id=request_id
    )


def failure(answer: Answer) -> TriggersError | None:
    """The error that an answer means, None for a 2xx."""
    if 200 <= answer.status < 300:
        return None
    problem = _problem(answer)
    message = f"{answer.status} {_detail(problem, answer)}"
    if answer.status in {429, 503}:
        kind = RateLimited if answer.status == 429 else Unavailable
        later = kind(message, status=answer.status, problem=problem, request_id=answer.request_id)
        later.retry_after = _seconds(answer.retry_after)
        return later
    if answer.status >= 500:
        return OutcomeUnknown(message, request_id=answer.request_id)
    return Refused(message, status=answer.status, problem=problem, request_id=answer.request_id)


def refusal(problem: Problem, request_id: str | None) -> AnsweredWithProblem:
    """The error of one item of a batch."""
    kind = {429: RateLimited, 503: Unavailable}.get(problem.status, Refused)
    message = f"{problem.status} {_wrong_fields(problem) or problem.detail}"
    return kind(message, status=problem.status, problem=problem, request_id=request_id)


def _problem(answer: Answer) -> Problem | None:
    try:
        return decode(Problem, read_json(answer.content))
    except ValueError:
        return None


def _detail(problem: Problem | None, answer: Answer) -> str:
    if problem is None:
        if answer.content.startswith(b'{"status":"not ready"'):  # /readyz
            return "The node is not ready."
        return "The answer does not come from Triggers. Check TRIGGERS_URL."
    return _wrong_fields(problem) or problem.detail


def _wrong_fields(problem: Problem) -> str:
    return " ".join(f"{each.pointer}: {each.detail}".removeprefix(": ") for each in problem.errors or [])


def _seconds(retry_after: str | None) -> float:
    try:
        return max(float(retry_after or 1), 0.0)
    except ValueError:
        return 1.0


def pause_seconds(error: TriggersError, repetitions: int) -> float:
    """How long to wait before the next try: what the service asks for, or doubling pauses; with jitter."""
    if isinstance(error, (RateLimited, Unavailable)):
        return error.retry_after * random.uniform(1.0, 1.25)  # noqa: S311 - spreads callers, no secret
    longest = min(_FIRST_PAUSE_SECONDS * 2.0 ** min(repetitions, 8), _LONGEST_PAUSE_SECONDS)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311


def is_worth_repeating(error: TriggersError, call: Call) -> bool:
    """Whether the same request may succeed in a moment, and does no harm if it was carried out already."""
    if isinstance(error, RateLimited):
        return True
    if isinstance(error, Refused):
        return False
    return call.may_repeat or not isinstance(error, (OutcomeUnknown, Unavailable))


def final(error: TriggersError, *, sent_before: bool) -> TriggersError:
    """The error to raise. If an earlier try may have been carried out, the last one does not tell."""
    if not sent_before or not isinstance(error, (ConnectionFailed, RateLimited)):
        return error
    return OutcomeUnknown(
        f"An earlier try may have been carried out. The last one: {error.message}",
        request_id=error.request_id,
    )
