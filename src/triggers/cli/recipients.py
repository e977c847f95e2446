"""Subscriptions and inboxes together, for commands that name either."""

from __future__ import annotations

from typing import Annotated

import typer

from triggers.cli.completion import names_of
from triggers.cli.inboxes import INBOX
from triggers.cli.nouns import Noun
from triggers.cli.subscriptions import SUBSCRIPTION

RECIPIENT = Noun(
    "subscription or inbox",
    "subscriptions and inboxes",
    "subscriptions",
    SUBSCRIPTION.path,
    SUBSCRIPTION.columns,
    names=("name", "key"),
    also=INBOX,
)
Recipient = Annotated[
    str,
    typer.Argument(
        metavar="SUBSCRIPTION",
        help="A subscription or an inbox: its id, name, key, or the last 6 or more characters of its id.",
        autocompletion=names_of(RECIPIENT),
    ),
]
