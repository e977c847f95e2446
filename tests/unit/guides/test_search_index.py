"""The search index of the guides: the best parts first, and a bound on what a query costs."""

from __future__ import annotations

import time

import pytest

from triggers.guides.search_index import MOST_RESULTS, SearchIndex, SearchPlace


def found(index: SearchIndex, query: str) -> list[str]:
    """The URLs that the index finds."""
    return [item.partition('href="')[2].partition('"')[0] for item in index.find(query)]


INDEX = SearchIndex(
    [
        SearchPlace("Inboxes", "/inbox", "Inboxes", "A consumer leases messages and acknowledges them."),
        SearchPlace("Inboxes", "/inbox#poison", "Poison messages", "One that always fails is quarantined."),
        SearchPlace("Webhooks", "/hooks", "Webhooks", "The signature of a webhook. Messages are not leased."),
        SearchPlace("Settings", "/settings", "Settings", "TRIGGERS_KEEP_ALIVE closes idle connections."),
    ]
)


@pytest.mark.parametrize(
    ("query", "urls"),
    [
        ("poison", ["/inbox#poison"]),
        ("POISON message", ["/inbox#poison", "/inbox", "/hooks"]),
        ("signature", ["/hooks"]),
        ("sign", ["/hooks"]),
        ("triggers_keep_alive", ["/settings"]),
        ("nothing-like-it", []),
        ("", []),
        ("?!", []),
    ],
)
def test_the_best_part_comes_first(query: str, urls: list[str]) -> None:
    assert found(INDEX, query) == urls


def test_text_is_escaped() -> None:
    index = SearchIndex([SearchPlace("<b>", '/"', "<i>", "<script> word")])
    (item,) = index.find("word")
    assert "<script>" not in item
    assert "<i>" not in item
    assert "&lt;b&gt;" in item


def test_a_query_is_bounded_whatever_it_says() -> None:
    words = " ".join(f"w{number:05}" for number in range(20_000))
    index = SearchIndex([SearchPlace("T", f"/{number}", "H", words) for number in range(20)])
    assert len(index.find("w")) == MOST_RESULTS
    fastest = float("inf")
    for query in ("w " * 100_000, "w0 w1 w00 w01 w000 w001 w0000 w00000" * 100):
        for _ in range(5):
            began = time.perf_counter()
            index.find(query)
            fastest = min(fastest, time.perf_counter() - began)
    assert fastest < 0.01
