"""The search index of the guides: which parts of which pages have which words."""

from __future__ import annotations

import heapq
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from html import escape
from itertools import islice
from typing import Final, NamedTuple

MOST_CHARACTERS: Final = 200
"""Maximum length of a query; the rest is ignored."""
MOST_WORDS: Final = 8
"""Maximum number of words of a query; the rest is ignored."""
MOST_RESULTS: Final = 20
_MOST_ENDINGS: Final = 20
"""Maximum number of words of the index that begin with a word of the query."""
_MOST_PLACES: Final = 3_000
"""Maximum number of places that one query looks at. This takes less than a millisecond."""

_WORD: Final = re.compile(r"[a-z0-9_]+")
_EXCERPT: Final = 160


class SearchPlace(NamedTuple):
    """A part of a page: the title of the page, the URL, the heading, and the text below the heading."""

    title: str
    url: str
    heading: str
    text: str


class SearchIndex:
    """Finds the parts of pages that have the words of a query.

    A word of a query also matches longer words that begin with it. The cost of a query is bounded.
    """

    def __init__(self, places: Iterable[SearchPlace]) -> None:
        found: defaultdict[str, dict[int, int]] = defaultdict(dict)
        self._items: list[str] = []
        """The HTML of each place in a list of results."""
        for number, place in enumerate(places):
            self._items.append(_item(place))
            for word, weight in _weights(place).items():
                found[word][number] = weight
        self._places = {word: sorted(by.items(), key=lambda each: -each[1]) for word, by in found.items()}
        self._words = sorted(self._places)

    def find(self, query: str) -> list[str]:
        """The HTML of the places that match best. A place that has more of the words comes first."""
        words = dict.fromkeys(_WORD.findall(query[:MOST_CHARACTERS].lower()))
        scores: Counter[int] = Counter()
        for word in islice(words, MOST_WORDS):
            best: dict[int, int] = {}
            for number, weight in islice(self._of(word), _MOST_PLACES // MOST_WORDS):
                best[number] = max(weight, best.get(number, 0))
            for number, weight in best.items():
                scores[number] += 1_000 + weight
        found = heapq.nsmallest(MOST_RESULTS, scores, key=lambda number: (-scores[number], number))
        return [self._items[number] for number in found]

    def _of(self, word: str) -> Iterator[tuple[int, int]]:
        """Number and weight of each place with this word, and then of those with longer words."""
        at = bisect_left(self._words, word)
        for longer in islice(self._words, at, at + _MOST_ENDINGS):
            if longer.startswith(word):
                rank = 2 if longer == word else 1
                yield from ((number, weight * rank) for number, weight in self._places[longer])


def _weights(place: SearchPlace) -> Counter[str]:
    """The words of a place. A word of a heading counts as much as several in the text."""
    words = Counter({word: min(count, 3) for word, count in Counter(_words(place.text)).items()})
    words.update(dict.fromkeys(_words(place.heading), 10))
    words.update(dict.fromkeys(_words(place.title), 5))
    return words


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _item(place: SearchPlace) -> str:
    text = " ".join(place.text.split())
    excerpt = text if len(text) <= _EXCERPT else text[:_EXCERPT].rpartition(" ")[0] + " …"
    where = "" if place.heading == place.title else f"<strong>{escape(place.heading)}</strong>"
    return (
        f'<li><a href="{escape(place.url)}"><span class="page-title">{escape(place.title)}</span>{where}</a>'
        f"<p>{escape(excerpt)}</p></li>"
    )
