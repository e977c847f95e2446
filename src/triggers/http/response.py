"""Responses whose body is made from a value: JSON, and problems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec
from starlette.responses import Response

from triggers.errors import TriggersError
from triggers.http import problems

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode


class JsonResponse(Response, Generic[T]):
    """A value as JSON, with a status or headers of its own. Its type is in the OpenAPI document."""

    media_type = "application/json"

    def __init__(self, value: T, status_code: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(value, status_code, headers)

    def render(self, content: Any) -> bytes:
        """Encode the value with msgspec."""
        return _encode(content)


def problem_response(error: TriggersError, root_path: str, request_id: str) -> Response:
    """An error as problem+json."""
    document = problems.problem(error, root_path=root_path, request_id=request_id)
    return Response(
        _encode(document), document["status"], dict(problems.headers(error)), problems.PROBLEM_JSON
    )
