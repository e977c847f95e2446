"""Errors as the service describes them, in the format of RFC 9457."""

from __future__ import annotations

from dataclasses import dataclass

from triggers_client.decoding import Model


@dataclass(frozen=True, kw_only=True)
class FieldError(Model):
    """A wrong field: its place (a JSON Pointer into the body, or a parameter's name) and the reason."""

    pointer: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class UnsettledMessage(Model):
    """A message that was not settled, with its id as in the request, and the reason."""

    id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Problem(Model):
    """An error in the format of RFC 9457. Optional fields are present only if they apply."""

    type: str
    code: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] | None = None
    request_id: str | None = None
    original_id: str | None = None
    not_settled: list[UnsettledMessage] | None = None
    subscription_id: str | None = None
    scope: str | None = None
    allow: list[str] | None = None
    limit: int | None = None
    retry_after: int | None = None
    results: list[BatchItem] | None = None


@dataclass(frozen=True, kw_only=True)
class BatchItem(Model):
    """The outcome of one event of a batch: its status, and its id or problem."""

    index: int
    status: int
    id: str | None = None
    problem: Problem | None = None
