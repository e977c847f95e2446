"""`triggers subscriptions`: push subscriptions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import typer

from triggers.cli.nouns import Action, Filter, Noun, add_action, add_list, add_show, one_of
from triggers.cli.service import members
from triggers.cli.session import CommandSession, with_options, with_session
from triggers.cli.tables import ColumnKind, TableColumn, TableLook, print_json, show_table
from triggers.cli.times import seconds_of
from triggers.errors import OperatorError

subscriptions = typer.Typer(no_args_is_help=True, help="Manage push subscriptions.")

SUBSCRIPTION = Noun(
    "subscription",
    "subscriptions",
    "subscriptions",
    "/v1/subscriptions",
    (
        TableColumn("subscription", "id", ColumnKind.ID),
        TableColumn("name", "name", read=lambda item: item["name"] or item["key"]),
        TableColumn("status", "status", ColumnKind.STATE),
        TableColumn("url", "target_url"),
        TableColumn("types", "event_types"),
        TableColumn("filter", "filter"),
        TableColumn("last success", "last_success_at", ColumnKind.TIME),
        TableColumn("failing since", "failing_since", ColumnKind.TIME),
        TableColumn("key", "key", only_wide=True),
        TableColumn("reason", "status_reason", only_wide=True),
        TableColumn("created", "created_at", ColumnKind.TIME, only_wide=True),
    ),
    names=("name", "key"),
    filters=(
        Filter(
            "--status",
            "status",
            "Only subscriptions with this status.",
            Literal["active", "paused", "disabled"],
        ),
    ),
)
_MATCHES = (
    TableColumn("event", "id", ColumnKind.ID),
    TableColumn("type", "type"),
    TableColumn("accepted", "created_at", ColumnKind.TIME),
    TableColumn("filter error", "filter_error"),
)


class _Field(NamedTuple):
    """A field of a subscription, as a flag."""

    flag: str
    type: Any
    help: str


_FIELDS = {
    "name": _Field("--name", str, "Display name."),
    "event_types": _Field(
        "--type", list[str], "Event type, or a pattern such as order.*; repeatable. Default: all types."
    ),
    "filter": _Field(
        "--filter", str, "CEL expression over payload and event, such as 'payload.total > 100.0'."
    ),
    "format": _Field("--format", str, "Format of the request body: standard, raw or cloudevents."),
    "headers": _Field("--header", list[str], "Extra request header, such as 'Name: value'; repeatable."),
    "ordering": _Field("--ordering", str, "none, or key: events with the same key are sent one at a time."),
    "ordering_key": _Field("--ordering-key", str, "JSON Pointer to the ordering key in the payload."),
    "max_concurrency": _Field("--max-concurrency", int, "Maximum requests in flight. Default: 64."),
    "rate_limit": _Field("--rate-limit", float, "Maximum requests per second. Default: no limit."),
    "delays": _Field(
        "--retry-delay", list[str], "Delay before the next attempt, such as 5s; repeat it for each attempt."
    ),
    "deadline": _Field(
        "--retry-deadline", str, "Time after the first attempt when retries stop, such as 2d."
    ),
    "expires_at": _Field("--expires-at", str, "RFC 3339 time when the subscription is disabled."),
}
_AT_CREATION = {
    "subscription_key": _Field(
        "--subscription-key",
        str,
        "A name of your choice for the subscription. If one with this name exists, no other is created.",
    ),
    "signature": _Field("--signature", str, "v1 (HMAC-SHA256) or v1a (ed25519). Default: v1."),
    "secret": _Field("--secret", str, "Your own signing secret. Default: a new secret, shown once."),
    "start": _Field(
        "--start", str, "First event to deliver: now, an RFC 3339 time, or an event id. Default: now."
    ),
}


def _with_fields(fields: dict[str, _Field]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these fields as flags, and collect the used flags in its argument `body`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def run(**arguments: Any) -> None:
            used = {name: value for name in fields if (value := arguments.pop(name)) not in (None, [])}
            command(body=_body(used), **arguments)

        flags = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[field.type | None, typer.Option(field.flag, help=field.help)],
            )
            for name, field in fields.items()
        ]
        return with_options(command, run, flags, given="body")

    return decorate


def _body(used: dict[str, Any]) -> dict[str, Any]:
    """Flags as the fields of a request."""
    body = dict(used)
    if "subscription_key" in body:
        body["key"] = body.pop("subscription_key")
    if "headers" in body:
        body["headers"] = dict(map(_header, body["headers"]))
    retry: dict[str, Any] = {}
    if "delays" in body:
        retry["delays"] = [seconds_of(text) for text in body.pop("delays")]
    if "deadline" in body:
        retry["deadline"] = seconds_of(body.pop("deadline"))
    return body | ({"retry": retry} if retry else {})


add_list(subscriptions, SUBSCRIPTION, "in the order of their creation")
add_show(subscriptions, SUBSCRIPTION)


@subscriptions.command("create")
@with_session()
@_with_fields(_FIELDS | _AT_CREATION)
def create(
    session: CommandSession,
    target_url: Annotated[str, typer.Argument(metavar="URL", help="URL that events are sent to.")],
    body: dict[str, Any],
) -> None:
    """Subscribe a URL, and print the subscription. Its secret is shown only once.

    \b
    Example:
      triggers subscriptions create https://example.com/hook --name billing --type 'order.*'
    """
    method = "PUT" if "key" in body else "POST"
    session.show(session.call(method, SUBSCRIPTION.path, {"target_url": target_url, **body}))


@subscriptions.command("change")
@with_session()
@_with_fields({"target_url": _Field("--target-url", str, "URL that events are sent to."), **_FIELDS})
def change(
    session: CommandSession,
    subscription: one_of(SUBSCRIPTION),  # type: ignore[valid-type]
    body: dict[str, Any],
    clear: Annotated[
        list[str] | None, typer.Option(help="Field to reset to its default, such as filter; repeatable.")
    ] = None,
) -> None:
    """Change the given fields of a subscription. Other fields stay as they are.

    \b
    Example:
      triggers subscriptions change billing --rate-limit 10 --clear filter
    """
    cleared = dict.fromkeys((name.replace("-", "_") for name in clear or ()), None)
    if both := cleared.keys() & body.keys():
        raise OperatorError(f"{', '.join(sorted(both))} cannot be both set and cleared.")
    if not body | cleared:
        raise OperatorError("Nothing to change. Give a field, or --clear.")
    session.show(session.call("PATCH", SUBSCRIPTION.path_of(session, subscription), body | cleared))


@subscriptions.command("disable")
@with_session()
def disable(
    session: CommandSession,
    subscription: one_of(SUBSCRIPTION),  # type: ignore[valid-type]
    reason: Annotated[str | None, typer.Option(help="Reason that the subscription shows.")] = None,
) -> None:
    """Disable a subscription, so that it matches no events. Its pending deliveries are cancelled.

    \b
    Example:
      triggers subscriptions disable billing --reason 'moved to the new shop'
    """
    path = SUBSCRIPTION.path_of(session, subscription)
    session.show(session.call("POST", f"{path}/disable", {"reason": reason} if reason else None))


for _action in (
    Action(
        "pause",
        "POST",
        "/pause",
        "Pause a subscription. Nothing is sent, but matching events are still collected.",
        "paused",
    ),
    Action(
        "resume", "POST", "/resume", "Resume a subscription, starting with the collected events.", "resumed"
    ),
    Action(
        "enable",
        "POST",
        "/enable",
        "Enable a subscription, so that it matches events from now on.",
        "enabled",
    ),
    Action("delete", "DELETE", "", "Delete a subscription, and cancel its pending deliveries.", "deleted"),
    Action("test", "POST", "/test", "Send a test event, and print its first attempt.", "sent"),
):
    add_action(subscriptions, SUBSCRIPTION, _action)


@subscriptions.command("rotate-secret")
@with_session()
def rotate_secret(
    session: CommandSession,
    subscription: one_of(SUBSCRIPTION),  # type: ignore[valid-type]
    overlap: Annotated[str, typer.Option(help="How long the old secret also signs.")] = "24h",
    signature: Annotated[str | None, typer.Option(help="v1 or v1a. Default: unchanged.")] = None,
    secret: Annotated[str | None, typer.Option(help="Your own secret. Default: a new secret.")] = None,
) -> None:
    """Sign with a new secret, and print it. It is shown only once.

    \b
    Example:
      triggers subscriptions rotate-secret billing --overlap 1h
    """
    body = {"overlap_seconds": int(seconds_of(overlap)), "signature": signature, "secret": secret}
    path = SUBSCRIPTION.path_of(session, subscription)
    session.show(session.call("POST", f"{path}/rotate-secret", body))


@subscriptions.command("dry-run")
@with_session(lists=True)
def dry_run(
    session: CommandSession,
    event_type: Annotated[
        list[str] | None,
        typer.Option("--type", help="Event type, or a pattern such as order.*; repeatable. Default: all."),
    ] = None,
    cel: Annotated[
        str | None, typer.Option("--filter", help="CEL expression over payload and event to try.")
    ] = None,
    last: Annotated[int, typer.Option(min=1, max=1000, help="Number of events to look at.")] = 100,
    among: Annotated[
        Literal["types", "all"],
        typer.Option(help="types: look at the newest events of these types. all: of all types."),
    ] = "types",
) -> None:
    """List the newest events that a subscription with these types and this filter would receive.

    \b
    Example:
      triggers subscriptions dry-run --type 'order.*' --filter 'payload.total > 50.0'
    """
    body = {"event_types": event_type or None, "filter": cel, "last": last, "among": among}
    text = session.call("POST", f"{SUBSCRIPTION.path}/dry-run", body)
    if session.as_json:
        print_json(text)
        return
    found = members(text)
    show_table(_MATCHES, found["matches"], TableLook(session.wide))
    failed = f", {found['failed']:,} of them because the filter failed" if found["failed"] else ""
    incomplete = "" if found["complete"] else " Older events were not tried."
    session.say(f"{found['matched']:,} of {found['judged']:,} events match{failed}.{incomplete}")


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise OperatorError(f"--header must be 'Name: value', not {text!r}.")
    return name.strip(), value.strip()


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.add_typer(subscriptions, name="subscriptions")
