"""Every error has its place in HTTP, and every place its page."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from triggers import errors
from triggers.http import problems


def below(error: type[errors.TriggersError]) -> Iterator[type[errors.TriggersError]]:
    for child in error.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from below(child)


ALL = sorted(set(below(errors.TriggersError)), key=lambda error: error.__name__)
OPERATORS = {errors.OperatorError, *below(errors.OperatorError)}
ABSTRACT = {errors.RequestError}


OURS = {errors.SealBroken}  # an error of ours like any bug, and no business of the caller's


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_every_error_is_mapped(error: type[errors.TriggersError]) -> None:
    if error in OPERATORS | ABSTRACT | OURS:
        assert error not in problems.KINDS, "callers over HTTP never see it"
        assert problems.kind_of(error()).status == 500
        return
    kind = problems.KINDS[error]
    assert 400 <= kind.status < 600
    document = problems.problem(error("What happened.", fact=1), root_path="/a", request_id="r-1")
    assert document == {
        "type": f"/a/problems/{kind.slug}",
        "code": kind.slug,
        "title": kind.title,
        "status": kind.status,
        "detail": "What happened.",
        "request_id": "r-1",
        "fact": 1,
        **({"errors": [{"pointer": "", "detail": "What happened."}]} if error is errors.Invalid else {}),
    }
    assert msgspec.convert(document, problems.Problem).status == kind.status
    assert error().message == (error.__doc__ or "").partition("\n")[0]


def test_slugs_are_stable_and_apart() -> None:
    slugs = [kind.slug for kind in problems.KINDS.values()]
    assert len(set(slugs)) == len(slugs)
    assert {
        "conflict",
        "database-unavailable",
        "dedup-conflict",
        "forbidden",
        "invalid",
        "malformed-body",
        "not-found",
        "overloaded",
        "rate-limited",
        "too-large",
        "unauthenticated",
        "unavailable",
        "unsupported-media-type",
    } <= set(slugs)


def test_headers() -> None:
    assert problems.headers(errors.DatabaseUnavailable(retry_after=2)) == [("retry-after", "2")]
    assert problems.headers(errors.Overloaded()) == [("retry-after", "1")]
    assert problems.headers(errors.RateLimited(retry_after=9)) == [("retry-after", "9")]
    assert problems.headers(errors.MethodNotAllowed(allow=["GET", "PUT"])) == [("allow", "GET, PUT")]
    assert problems.headers(errors.Unauthenticated())[0][0] == "www-authenticate"
    assert problems.headers(errors.NotFound()) == []
