"""Finds the thing that a person names: by its name, its key, or an ending of its id that no other has.

Endings, because ids are UUIDv7: the beginning of an id is its time, which things made together share.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from triggers.cli.service import members
from triggers.domain import parse_id
from triggers.errors import OperatorError

if TYPE_CHECKING:
    from triggers.cli.nouns import Noun
    from triggers.cli.session import CommandSession

LEAST: Final = 6
"""Minimum number of characters of an ending of an id."""
_SEARCHED: Final = 8
"""Number of characters of the ending of an event's id for which the service searches."""
MOST_LOOKED_AT: Final = 10_000
"""Maximum number of items among which a name is looked for."""
_MOST_LISTED: Final = 20
_ENDING: Final = re.compile(r"[0-9a-f-]+")


def find(session: CommandSession, noun: Noun, text: str) -> str:
    """The id of the thing that `text` names. A whole id is returned without asking the service.

    Raises:
        OperatorError: nothing has this name, or several things have it. The message lists them.
    """
    if parse_id(text) is not None:
        return text
    found = [
        members(each)
        for source in (noun, noun.also)
        if source is not None
        for each in session.items(source.path, MOST_LOOKED_AT, member=source.member)
    ]
    return choose(noun, text, found)


def choose(noun: Noun, text: str, found: list[dict[str, Any]]) -> str:
    """The id of the one among these that `text` names. Raises as `find`."""
    named = [each for each in found if text in _names(noun, each)]
    matches = named or [each for each in found if _ends(str(each[noun.id_member]), text)]
    if len(matches) == 1:
        return str(matches[0][noun.id_member])
    raise OperatorError(_several(noun, text, matches) if matches else _none(noun, text, found))


def find_event(session: CommandSession, text: str) -> str:
    """The id of the event whose id is `text` or ends with it. Raises as `find`."""
    if parse_id(text) is not None or len(text) < LEAST or not _ENDING.fullmatch(text.lower()):
        return text  # the service says what is wrong with it
    hits = session.ask("GET", "/v1/search", params={"q": text.lower()[-_SEARCHED:]})["data"]
    ids = [hit["id"] for hit in hits if hit["kind"] == "event" and _ends(hit["id"], text)]
    if len(ids) > 1:
        raise OperatorError(
            f"Several events have an id that ends with {text!r}. Give more characters.\n"
            + "\n".join(f"  {each}" for each in ids)
        )
    if not ids:
        raise OperatorError(
            f"No event was found whose id ends with {text!r}. Give at least the last {_SEARCHED} characters."
            " Only the newest events are searched by the end of their ids, so use the whole id of older ones."
        )
    return str(ids[0])


def _names(noun: Noun, item: dict[str, Any]) -> list[str]:
    return [item[name] for name in noun.names if item.get(name) is not None]


def _ends(found: str, text: str) -> bool:
    return len(text) >= LEAST and found.endswith(text.lower())


def _several(noun: Noun, text: str, matches: list[dict[str, Any]]) -> str:
    lines = [f"  {each[noun.id_member]}  {', '.join(_names(noun, each))}".rstrip() for each in matches]
    more = [f"  and {len(lines) - _MOST_LISTED} more"] if len(lines) > _MOST_LISTED else []
    return (
        f"{len(matches)} {noun.plural} are called {text!r}, or have an id that ends with it. Give a whole"
        " id, or more of its end.\n" + "\n".join(lines[:_MOST_LISTED] + more)
    )


def _none(noun: Noun, text: str, found: list[dict[str, Any]]) -> str:
    known = [name for each in found for name in _names(noun, each)]
    near = get_close_matches(text, known, n=1)
    perhaps = f" Did you mean {near[0]!r}?" if near else ""
    how = " or ".join([*noun.names, f"at least {LEAST} characters from the end of the id"])
    return f"No {noun.word} is called {text!r}.{perhaps} Give its {how}."
