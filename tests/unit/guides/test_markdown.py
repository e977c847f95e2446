"""Guides as HTML: headings, links, code, tables, and nothing that could run."""

from __future__ import annotations

import pytest

from triggers.guides.markdown import render, target_of


@pytest.mark.parametrize(
    ("link", "name", "target"),
    [
        ("configuration.md", "tutorial", "/x/docs/configuration"),
        ("configuration.md#scopes-of-api-keys", "tutorial", "/x/docs/configuration#scopes-of-api-keys"),
        ("adr/0002-payload-filters.md", "filters", "/x/docs/adr/0002-payload-filters"),
        ("../filters.md", "adr/0002-payload-filters", "/x/docs/filters"),
        ("README.md", "tutorial", "/x/docs"),
        ("README.md#reference", "tutorial", "/x/docs#reference"),
        ("#below", "tutorial", "#below"),
        ("https://cel.dev/x.md", "filters", "https://cel.dev/x.md"),
        ("../ARCHITECTURE.md#lanes", "how-it-is-fast", None),
        ("../../README.md", "adr/0002-payload-filters", None),
        ("schema.txt", "add-a-capability", None),
    ],
)
def test_where_a_link_leads(link: str, name: str, target: str | None) -> None:
    assert target_of(link, name, "/x") == target


def test_a_page() -> None:
    page = render(
        "# A *title*\n\nText with `code`.\n\n## A `b`: c\n\n## A b c\n\n### Deep\n\n"
        "[out](../README.md) [in](x.md)\n",
        "page",
        "",
    )
    assert page.title == "A title"
    assert [(each.level, each.text, each.anchor) for each in page.headings] == [
        (2, "A b: c", "a-b-c"),
        (2, "A b c", "a-b-c-1"),
        (3, "Deep", "deep"),
    ]
    assert (page.parts[0].heading.text, page.parts[0].text) == ("A title", "Text with code.")
    assert '<h2 id="a-b-c">A <code>b</code>: c</h2>' in page.html
    assert (
        '<span class="in-source" title="../README.md in the source of this service">out</span>' in page.html
    )
    assert '<a href="/docs/x">in</a>' in page.html


def test_code_is_highlighted_and_can_be_copied() -> None:
    html = render('# T\n\n```json\n{"a": "<b>"}\n```\n\n```mermaid\na --> <b>\n```\n', "page", "").html
    assert '<span class="nt">"a"</span>' in html
    assert html.count("data-copy") == 2
    assert "a --&gt; &lt;b&gt;" in html
    assert "<b>" not in html


def test_html_is_text_and_comments_are_left_out() -> None:
    html = render(
        "# T\n\n<!-- begin generated: x -->\n\n<script>alert(1)</script>\n\na <img src=x onerror=a()> b\n"
        "\n[bad](javascript:alert(1)) <!-- inline -->\n",
        "page",
        "",
    ).html
    assert "<script" not in html
    assert "<img" not in html
    assert "generated" not in html
    assert "inline" not in html
    assert 'href="javascript' not in html
