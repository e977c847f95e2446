"""Every error has its page."""

from __future__ import annotations

import html

import pytest

from triggers import errors
from triggers.guides.routes import GuideRoutes
from triggers.http import exchange, problems
from triggers.http.request import Request

REQUEST = Request(
    {"type": "http", "root_path": "/a", "server": ("localhost", 80), exchange.FIELDS: {}},
    None,  # type: ignore[arg-type]
    "none",
)


async def no_document(_: str) -> bytes:
    return b"{}"


@pytest.fixture
def guides() -> GuideRoutes:
    return GuideRoutes(no_document, None, console=True, metrics=True)


@pytest.mark.parametrize("kind", problems.KINDS.values(), ids=lambda kind: kind.slug)
async def test_every_slug_has_a_page(guides: GuideRoutes, kind: problems.Kind) -> None:
    page = html.unescape(bytes((await guides.problem_page(REQUEST, kind.slug)).body).decode())
    assert kind.title in page
    assert str(kind.status) in page


async def test_the_list_of_pages_names_them_all(guides: GuideRoutes) -> None:
    page = bytes((await guides.problem_index(REQUEST)).body).decode()
    for kind in problems.KINDS.values():
        assert f'"/a/problems/{kind.slug}"' in page
    with pytest.raises(errors.NotFound):
        await guides.problem_page(REQUEST, "nothing")
