"""Makes the pages of this room from templates, with headers that allow no scripts of others."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import msgspec
from jinja2 import Environment
from markupsafe import Markup
from starlette.responses import Response

from triggers import __version__, errors
from triggers.console.assets import assets
from triggers.domain import MAX_EVENT_BYTES
from triggers.guides.library import API, INDEX, Section, library
from triggers.guides.search_index import SearchPlace
from triggers.http.pages import environment_of
from triggers.http.problems import KINDS, headers, problem

PACKAGE: Final = "triggers.guides"
"""The package whose assets this room serves together with those of the console."""

HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self';"
    " img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}

_EXAMPLE_FACTS: Final[Mapping[type[errors.TriggersError], Mapping[str, Any]]] = {
    errors.Forbidden: {"scope": "events:write"},
    errors.MethodNotAllowed: {"allow": ["GET", "POST"]},
    errors.DedupConflict: {"original_id": "019ab0e4-7c11-7d5f-9f6b-3c2a1e5d8b70"},
    errors.TooLarge: {"limit": MAX_EVENT_BYTES},
    errors.Invalid: {"pointer": "/type"},
    errors.RateLimited: {"retry_after": 3},
    errors.BacklogFull: {"retry_after": 60, "subscription_id": "019ab0e4-7c11-7d5f-9f6b-3c2a1e5d8b70"},
    errors.DatabaseUnavailable: {"retry_after": 2},
    errors.DiskFull: {"retry_after": 30},
}
"""Facts in the examples of the pages of errors."""


class Site(NamedTuple):
    """Values that all pages of a node share: the path and the URL of the node, and its optional parts."""

    root_path: str
    url: str
    console: bool
    metrics: bool


@cache
def _environment() -> Environment:
    environment = environment_of(PACKAGE)
    environment.globals |= {"asset": lambda name: assets(PACKAGE)[name].name, "version": __version__}
    return environment


def make_page(template: str, site: Site, title: str, **values: Any) -> str:
    """Make a page. The first use of a template takes about 20 ms."""
    found = _environment().get_template(template)
    frame: dict[str, Any] = {"menu": (), "name": "", "headings": (), "twin": "", "content": ""}
    return found.render(**{**frame, **site._asdict(), "title": title, **values})


def make_guide(name: str, text: str, site: Site) -> str:
    """Make the page of a guide from its Markdown."""
    from triggers.guides.markdown import render  # noqa: PLC0415 - slow to import, and only pages need it

    found = render(text, name, site.root_path)
    deepest = 3 if name == API else 2
    return make_page(
        "document.html",
        site,
        found.title,
        menu=library().menu,
        name=name,
        twin=name,
        headings=[each for each in found.headings if each.level <= deepest],
        content=Markup(found.html),  # noqa: S704 - the renderer escapes all that is not its own
    )


def make_search_frame(site: Site, marks: Sequence[str]) -> list[str]:
    """Make the page of search results once, without a query and results, and cut it at their places."""
    query, results = marks
    html = make_page(
        "document.html",
        site,
        "Search",
        menu=library().menu,
        query=query,
        content=Markup(results),  # noqa: S704
    )
    before, _, rest = html.partition(query)
    between, _, after = rest.partition(results)
    return [before, between, after]


def places(added: Mapping[str, str], root_path: str) -> Iterator[SearchPlace]:
    """Every part of every guide in the menu, for the search index. `added` is text behind that of a guide."""
    from triggers.guides.markdown import render  # noqa: PLC0415 - slow to import, and only pages need it

    found = library()
    for entry in (entry for section in found.menu for entry in section.entries):
        guide = render(found.texts[entry.name] + "\n" + added.get(entry.name, ""), entry.name, root_path)
        where = f"{root_path}/docs/{entry.name}"
        for heading, text in guide.parts:
            url = where if heading.level == 1 else f"{where}#{heading.anchor}"
            yield SearchPlace(guide.title, url, heading.text, text)


def make_problem(error: type[errors.TriggersError], site: Site) -> str:
    """Make the page of an error: its meaning, what to do, and an example."""
    from triggers.guides.markdown import render  # noqa: PLC0415

    kind = KINDS[error]
    example = error(**_EXAMPLE_FACTS.get(error, {}))
    document = msgspec.json.encode(problem(example, root_path=site.root_path, request_id="5f1c2d9a7b3e-2a"))
    text = render(f"# {kind.title}\n\n{inspect.cleandoc(error.__doc__ or '')}", INDEX, site.root_path)
    return make_page(
        "problem.html",
        site,
        kind.title,
        kind=kind,
        content=Markup(text.html.partition("</h1>")[2]),  # noqa: S704
        headers=headers(example),
        example=msgspec.json.format(document, indent=2).decode(),
    )


def make_list(menu: Sequence[Section], root_path: str) -> str:
    """Make `llms.txt`: the title, a summary, and every guide with its description."""
    lines = [
        "# Triggers",
        "",
        "> A self-hosted service that accepts events over HTTP, stores them durably, and delivers them:"
        " pushed to the URLs of subscribers, signed, with retries; or pulled from inboxes with leases.",
        "",
        f"- [OpenAPI document]({root_path}/openapi.json): every route, for programs",
    ]
    for section in menu:
        lines += ["", f"## {section.title}", ""]
        lines += [
            f"- [{each.title}]({root_path}/docs/{each.name}.md): {each.description}"
            for each in section.entries
        ]
    return "\n".join(lines) + "\n"


def html_response(html: bytes) -> Response:
    """A page as a response."""
    return Response(html, media_type="text/html", headers=HEADERS)


def text_response(text: bytes, media_type: str) -> Response:
    """A text as a response that browsers show and do not interpret."""
    return Response(text, media_type=media_type, headers={"x-content-type-options": "nosniff"})
