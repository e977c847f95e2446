"""The scopes of keys and links in words, and the choices that a form offers. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from triggers.domain import OPERATOR_SCOPES, TENANT_SCOPES, Scope

MEANINGS: Final = {
    Scope.EVENTS_WRITE: "Sends events.",
    Scope.EVENTS_READ: "Sees events and their payloads.",
    Scope.INBOX: "Creates and changes inboxes, and leases and settles their messages.",
    Scope.SUBSCRIPTIONS: "Creates and changes subscriptions, and retries and cancels deliveries.",
    Scope.KEYS: "Creates and revokes API keys, and ends sessions.",
    Scope.READ: "Sees everything of the organisation except payloads.",
    Scope.ADMIN: "Manages all organisations, and sees the state of the service.",
    Scope.ACT: "Changes data of an organisation while acting for it.",
}
CHOSEN: Final = "chosen"
"""Name of the choice that takes the scopes from the boxes of the form."""
_LOOKS: Final = "Sees everything except payloads"
_READS: Final = frozenset({Scope.READ, Scope.EVENTS_READ})


class Choice(NamedTuple):
    """A set of scopes that a form offers."""

    name: str
    word: str
    text: str
    scopes: frozenset[Scope]


def choices_for_key(own: frozenset[Scope]) -> list[Choice]:
    """Return the sets of scopes that a caller with the scopes `own` can give a key."""
    grantable = own - OPERATOR_SCOPES
    found = [
        Choice(
            "sends",
            "Sends events",
            "For a program that sends events. It sees nothing.",
            frozenset({Scope.EVENTS_WRITE}),
        ),
        Choice("reads", "Reads everything, changes nothing", "It also sees payloads.", _READS),
        Choice("looks", _LOOKS, "It changes nothing.", frozenset({Scope.READ})),
        Choice("full", "Full", _everything(grantable == TENANT_SCOPES), grantable),
    ]
    return [each for each in found if each.scopes and each.scopes <= grantable]


def choices_for_link(own: frozenset[Scope]) -> list[Choice]:
    """Return the sets of scopes that a caller with the scopes `own` can give a link."""
    found = [
        Choice("reads", "Reads everything, changes nothing", "The person also sees payloads.", _READS),
        Choice("looks", _LOOKS, "The person changes nothing.", frozenset({Scope.READ})),
        Choice("full", "Full", "The person can do everything that you can do.", own),
    ]
    return [each for each in found if each.scopes and each.scopes <= own]


def chosen_scopes(form: Mapping[str, str], choices: Sequence[Choice]) -> list[Scope]:
    """Return the scopes that a form asks for: those of a choice, or those whose boxes are ticked."""
    for choice in choices:
        if form.get("choice") == choice.name:
            return sorted(choice.scopes)
    return [scope for scope in Scope if box_of(scope) in form]


def box_of(scope: Scope) -> str:
    """Return the name of the box of a scope in a form."""
    return f"scope {scope}"


def word_of(scopes: Collection[Scope]) -> str:
    """Return a set of scopes in words, or else their names."""
    found = frozenset(scopes)
    if found == _READS:
        return "Reads everything, changes nothing"
    if found == {Scope.READ}:
        return _LOOKS
    if found == TENANT_SCOPES:
        return "Full"
    if found >= TENANT_SCOPES:
        return "Full, and " + " and ".join(sorted(found - TENANT_SCOPES))
    if found == {Scope.EVENTS_WRITE}:
        return "Sends events"
    return ", ".join(scope for scope in Scope if scope in found)


def _everything(all_of_them: bool) -> str:
    return (
        "It can do everything in this organisation."
        if all_of_them
        else "It can do everything that you can do in this organisation."
    )
