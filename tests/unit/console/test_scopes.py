"""Scopes in words, and that no form offers more than its viewer has."""

from __future__ import annotations

import pytest

from triggers.console.scopes import (
    MEANINGS,
    box_of,
    choices_for_key,
    choices_for_link,
    chosen_scopes,
    word_of,
)
from triggers.domain import OPERATOR_SCOPES, TENANT_SCOPES, Scope

READS = {Scope.READ, Scope.EVENTS_READ}


def test_every_scope_has_a_sentence() -> None:
    assert set(MEANINGS) == set(Scope)


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (TENANT_SCOPES, ["sends", "reads", "looks", "full"]),
        (frozenset(Scope), ["sends", "reads", "looks", "full"]),
        (frozenset({Scope.KEYS}), ["full"]),
        (frozenset({Scope.KEYS, Scope.READ}), ["looks", "full"]),
        (frozenset(OPERATOR_SCOPES), []),
    ],
    ids=["tenant", "operator", "keys", "keys and read", "only operator"],
)
def test_a_form_offers_only_what_its_viewer_has(own: frozenset[Scope], expected: list[str]) -> None:
    choices = choices_for_key(own)
    assert [each.name for each in choices] == expected
    for each in choices:
        assert each.scopes <= own - OPERATOR_SCOPES
    for each in choices_for_link(own):
        assert each.scopes <= own


def test_a_form_asks_for_a_choice_or_for_the_ticked_boxes() -> None:
    choices = choices_for_key(TENANT_SCOPES)
    ticked = {box_of(Scope.INBOX): "on"}
    assert chosen_scopes({"choice": "reads", **ticked}, choices) == sorted(READS)
    assert chosen_scopes({"choice": "chosen", **ticked}, choices) == [Scope.INBOX]
    assert chosen_scopes({"choice": "full"}, choices_for_key(frozenset({Scope.INBOX}))) == [Scope.INBOX]
    assert chosen_scopes({"choice": "sends"}, choices_for_key(frozenset({Scope.INBOX}))) == []


@pytest.mark.parametrize(
    ("scopes", "word"),
    [
        (TENANT_SCOPES, "Full"),
        (frozenset(Scope), "Full, and act and admin"),
        (READS, "Reads everything, changes nothing"),
        ({Scope.EVENTS_WRITE}, "Sends events"),
        ({Scope.READ}, "Sees everything except payloads"),
        ({Scope.READ, Scope.INBOX}, "inbox, read"),
    ],
    ids=["full", "all", "reads", "sends", "looks", "some"],
)
def test_scopes_in_words(scopes: frozenset[Scope], word: str) -> None:
    assert word_of(scopes) == word
