"""Renders Markdown as HTML: headings with anchors, code with copy buttons, links between guides."""

from __future__ import annotations

import contextlib
import posixpath
import re
from collections.abc import Sequence
from html import escape
from typing import Any, Final, NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_COPY: Final = (
    '<button type="button" class="copy" data-copy hidden aria-label="Copy">'
    '<span aria-hidden="true">Copy</span></button>'
)
_FORMATTER: Final = HtmlFormatter(nowrap=True)


class Heading(NamedTuple):
    """A heading of a page, with the name of its anchor."""

    level: int
    text: str
    anchor: str


class HeadingText(NamedTuple):
    """The text below one heading, for the search index."""

    heading: Heading
    text: str


class Rendered(NamedTuple):
    """A page: its title, its HTML, its headings below the title, and its parts."""

    title: str
    html: str
    headings: list[Heading]
    parts: list[HeadingText]


def render(text: str, name: str, root_path: str) -> Rendered:
    """Render a guide. `name` is its path below `docs/` without `.md`, to which its links are relative.
    Links begin with `root_path`, the path of the public URL."""
    tokens = _PARSER.parse(text)
    headings: list[Heading] = []
    anchors: set[str] = set()
    for at, token in enumerate(tokens):
        if token.type == "heading_open":
            said = _plain(tokens[at + 1])
            anchor = _free_anchor(said, anchors)
            token.attrSet("id", anchor)
            headings.append(Heading(int(token.tag[1]), said, anchor))
    html = _PARSER.renderer.render(tokens, _PARSER.options, {"name": name, "root_path": root_path})
    return Rendered(headings[0].text, html, headings[1:], list(_parts(tokens, headings)))


def target_of(link: str, name: str, root_path: str) -> str | None:
    """Where a link of a guide leads on this service; None if that file is only in the source.

    `configuration.md#scopes` is `<root_path>/docs/configuration#scopes`.
    """
    if link.startswith("#") or _SCHEME.match(link):
        return link
    if link.startswith("/"):  # a page of this service, in the reference that is made at run time
        return root_path + link
    path, hash_sign, anchor = link.partition("#")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
    if path.startswith("..") or not path.endswith(".md"):
        return None
    page = "" if path == "README.md" else "/" + path.removesuffix(".md")
    return f"{root_path}/docs{page}{hash_sign}{anchor}"


def anchor_of(heading: str) -> str:
    """The anchor of a heading, as forges name it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _free_anchor(heading: str, taken: set[str]) -> str:
    anchor = base = anchor_of(heading)
    number = 0
    while anchor in taken:
        number += 1
        anchor = f"{base}-{number}"
    taken.add(anchor)
    return anchor


def _plain(token: Token) -> str:
    """The text of an inline token."""
    return "".join(
        " " if each.type == "softbreak" else each.content for each in token.children or () if not each.nesting
    )


def _parts(tokens: Sequence[Token], headings: list[Heading]) -> list[HeadingText]:
    texts: list[list[str]] = [[] for _ in headings]
    at = -1
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type == "heading_open":
            at += 1
        elif token.type == "fence":
            texts[at].append(token.content)
        elif token.type == "inline" and (before is None or before.type != "heading_open"):
            texts[at].append(_plain(token))
    return [HeadingText(heading, " ".join(text)) for heading, text in zip(headings, texts, strict=True)]


# ---- the rules of the renderer: each gets all tokens, the place of its own, and the page's facts -------


def _fence(_: Any, tokens: Sequence[Token], at: int, __: Any, ___: Any) -> str:
    token = tokens[at]
    language = token.info.split(" ")[0]
    code = escape(token.content)
    if language:
        with contextlib.suppress(ClassNotFound):  # such as mermaid
            code = highlight(token.content, get_lexer_by_name(language, stripnl=False), _FORMATTER)
    return f'<div class="code"><pre tabindex="0"><code>{code}</code></pre>{_COPY}</div>\n'


def _link_open(renderer: Any, tokens: Sequence[Token], at: int, options: Any, page: Any) -> str:
    token = tokens[at]
    link = target_of(str(token.attrs["href"]), page["name"], page["root_path"])
    if link is None:
        token.tag = _closing(tokens, at).tag = "span"
        token.attrs = {"class": "in-source", "title": f"{token.attrs['href']} in the source of this service"}
    else:
        token.attrs["href"] = link
    return str(renderer.renderToken(tokens, at, options, page))


def _closing(tokens: Sequence[Token], at: int) -> Token:
    return next(token for token in tokens[at:] if token.type == "link_close")


def _table_open(*_: Any) -> str:
    return '<div class="wide" tabindex="0"><table>'


def _table_close(*_: Any) -> str:
    return "</table></div>\n"


def _html(_: Any, tokens: Sequence[Token], at: int, __: Any, ___: Any) -> str:
    """Comments are left out. Other HTML is text, because guides contain none."""
    content = tokens[at].content
    return "" if content.lstrip().startswith("<!--") else escape(content)


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark").enable("table")
    parser.add_render_rule("fence", _fence)
    parser.add_render_rule("code_block", _fence)
    parser.add_render_rule("link_open", _link_open)
    parser.add_render_rule("table_open", _table_open)
    parser.add_render_rule("table_close", _table_close)
    parser.add_render_rule("html_block", _html)
    parser.add_render_rule("html_inline", _html)
    return parser


_PARSER: Final = _parser()
