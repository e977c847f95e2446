"""Makes text of strangers safe to show: replaces invisible characters, and those that reverse text."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from markupsafe import Markup, escape

MAX_SHOWN: Final = 20_000
"""Maximum number of characters of one text that a page shows."""

_SUSPECT: Final = re.compile("[^ -~]")


def visible(text: str, most: int = MAX_SHOWN, *, lines: bool = False) -> Markup:
    """Escape a text, and replace each invisible character by its code point.

    With `lines`, line breaks and tabs stay as they are.
    """
    if len(text) <= most and text.isprintable():
        return escape(text)
    shown, found, last = text[:most], [], 0
    for match in _SUSPECT.finditer(shown):
        if match[0].isprintable() or (lines and match[0] in "\n\t"):
            continue
        found += [escape(shown[last : match.start()]), _mark(match[0])]
        last = match.end()
    found.append(escape(shown[last:]))
    if len(text) > most:
        found.append(Markup('<span class="cut">… {:,} more characters</span>').format(len(text) - most))
    return Markup("").join(found)


def _mark(character: str) -> Markup:
    name = unicodedata.name(character, "control character").lower()
    return Markup('<span class="code-point" title="{}">U+{:04X}</span>').format(name, ord(character))
