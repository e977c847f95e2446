"""`triggers inboxes`: inboxes themselves. Their messages are in `messages.py` and `leases.py`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

import typer

from triggers.cli.nouns import Action, Filter, Noun, add_action, add_list, add_show, one_of
from triggers.cli.session import CommandSession, with_session
from triggers.cli.tables import ColumnKind, TableColumn
from triggers.errors import OperatorError

inboxes = typer.Typer(no_args_is_help=True, help="Create, list and change inboxes.")

INBOX = Noun(
    "inbox",
    "inboxes",
    "inboxes",
    "/v1/inboxes",
    (
        TableColumn("inbox", "id", ColumnKind.ID),
        TableColumn("key", "key"),
        TableColumn("status", "status", ColumnKind.STATE),
        TableColumn("types", "event_types"),
        TableColumn("filter", "filter"),
        TableColumn("lease s", "default_lease_seconds", ColumnKind.NUMBER),
        TableColumn("created", "created_at", ColumnKind.TIME),
        TableColumn("max leases", "max_leases", ColumnKind.NUMBER, only_wide=True),
        TableColumn("notification url", "notification_url", only_wide=True),
    ),
    names=("key",),
    filters=(
        Filter(
            "--status", "status", "Only inboxes with this status.", Literal["active", "paused", "deleting"]
        ),
    ),
)

Types = Annotated[
    list[str] | None,
    typer.Option("--type", help="Event type, or a pattern such as order.*; repeatable. Default: all types."),
]
FilterText = Annotated[str | None, typer.Option("--filter", help="CEL expression over payload and event.")]
Notify = Annotated[
    str | None, typer.Option("--notification-url", help="URL that is told when messages arrive.")
]
LeaseSeconds = Annotated[
    int | None,
    typer.Option("--lease-seconds", min=1, max=3600, help="Duration of leases that name none. Default: 300."),
]


class Clearable(StrEnum):
    """Settings of an inbox that can be removed, and the fields that they are."""

    TYPE = "type"
    FILTER = "filter"
    NOTIFICATION_URL = "notification-url"

    @property
    def field(self) -> str:
        """Its field in a request."""
        return "event_types" if self is Clearable.TYPE else self.value.replace("-", "_")


Clear = Annotated[list[Clearable] | None, typer.Option("--clear", help="Setting to remove; repeatable.")]


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.add_typer(inboxes, name="inboxes")


add_list(inboxes, INBOX, "in the order of their creation")
add_show(inboxes, INBOX)


@inboxes.command("create")
@with_session()
def create(
    session: CommandSession,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Name of the inbox.")],
    event_type: Types = None,
    cel: FilterText = None,
    notification_url: Notify = None,
    lease_seconds: LeaseSeconds = None,
    max_leases: Annotated[
        int | None,
        typer.Option(
            "--max-leases", min=1, help="Quarantine a message after so many leases. Default: never."
        ),
    ] = None,
    ensure: Annotated[
        bool, typer.Option("--ensure", help="Create nothing if the inbox exists with these settings.")
    ] = False,
) -> None:
    """Create an inbox. It collects the events that are accepted from now on.

    \b
    Example:
      triggers inboxes create billing --type 'order.*' --max-leases 10
    """
    body = _settings(event_type, cel, notification_url, lease_seconds)
    if max_leases is not None:
        body["max_leases"] = max_leases
    session.show(session.call("PUT" if ensure else "POST", "/v1/inboxes", {"key": key, **body}))


@inboxes.command("change")
@with_session()
def change(
    session: CommandSession,
    inbox: one_of(INBOX),  # type: ignore[valid-type]
    event_type: Types = None,
    cel: FilterText = None,
    notification_url: Notify = None,
    lease_seconds: LeaseSeconds = None,
    clear: Clear = None,
) -> None:
    """Change settings of an inbox. They apply to events that are accepted from now on.

    \b
    Example:
      triggers inboxes change billing --type 'order.*' --clear filter
    """
    body = _settings(event_type, cel, notification_url, lease_seconds)
    cleared = {setting.field: None for setting in clear or ()}
    if both := cleared.keys() & body.keys():
        raise OperatorError(f"Both changed and cleared: {', '.join(sorted(both))}.")
    if not body | cleared:
        raise OperatorError("Nothing to change. Give a setting, or --clear.")
    session.show(session.call("PATCH", INBOX.path_of(session, inbox), body | cleared))


for _action in (
    Action(
        "pause",
        "POST",
        "/pause",
        "Pause an inbox. Messages of before can still be leased; new ones are kept until it is resumed.",
        "paused",
    ),
    Action("resume", "POST", "/resume", "Resume a paused inbox.", "resumed"),
    Action("delete", "DELETE", "", "Delete an inbox. Its messages are cancelled.", "deleting"),
):
    add_action(inboxes, INBOX, _action)


def _settings(
    event_types: list[str] | None, cel: str | None, notification_url: str | None, lease_seconds: int | None
) -> dict[str, Any]:
    given = {
        "event_types": event_types or None,
        "filter": cel,
        "notification_url": notification_url,
        "default_lease_seconds": lease_seconds,
    }
    return {name: value for name, value in given.items() if value is not None}
