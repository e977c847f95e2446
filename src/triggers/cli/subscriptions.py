"""`triggers subscriptions`: push subscriptions over the HTTP API. Answers are printed unchanged."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import msgspec
import typer

from triggers.cli.service import DEFAULT_URL, Key, Url, ask, call, open_client, segment
from triggers.errors import OperatorError
from triggers.node.variables import DURATION, parse_duration

subscriptions = typer.Typer(no_args_is_help=True, help="Manage push subscriptions.")

Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the subscription.")]
_PATH = "/v1/subscriptions"


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
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "body"]

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
        run.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]
        run.__doc__ = command.__doc__
        run.__name__ = command.__name__
        return run

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
        retry["delays"] = [_seconds(text) for text in body.pop("delays")]
    if "deadline" in body:
        retry["deadline"] = _seconds(body.pop("deadline"))
    return body | ({"retry": retry} if retry else {})


@subscriptions.command("create")
@_with_fields(_FIELDS | _AT_CREATION)
def create(
    target_url: Annotated[str, typer.Argument(metavar="URL", help="URL that events are sent to.")],
    key: Key,
    body: dict[str, Any],
    url: Url = DEFAULT_URL,
) -> None:
    """Subscribe a URL, and print the subscription. Its secret is shown only once."""
    _print(url, key, "PUT" if "key" in body else "POST", "", {"target_url": target_url, **body})


@subscriptions.command("list")
def list_subscriptions(
    key: Key,
    url: Url = DEFAULT_URL,
    status: Annotated[
        str | None, typer.Option(help="Only subscriptions that are active, paused or disabled.")
    ] = None,
) -> None:
    """List the subscriptions, one JSON object per line."""
    parameters = {"limit": "1000"} | ({"status": status} if status else {})
    with open_client(url, key) as client:
        while True:
            page = ask(client, "GET", _PATH, params=parameters)
            for each in page["data"]:
                typer.echo(msgspec.json.encode(each))
            if page["next_cursor"] is None:
                return
            parameters["cursor"] = page["next_cursor"]


@subscriptions.command("get")
def get(subscription_id: Id, key: Key, url: Url = DEFAULT_URL) -> None:
    """Show one subscription."""
    _print(url, key, "GET", f"/{segment(subscription_id)}")


@subscriptions.command("update")
@_with_fields({"target_url": _Field("--target-url", str, "URL that events are sent to."), **_FIELDS})
def update(
    subscription_id: Id,
    key: Key,
    body: dict[str, Any],
    url: Url = DEFAULT_URL,
    clear: Annotated[
        list[str] | None, typer.Option(help="Field to reset to its default, such as filter; repeatable.")
    ] = None,
) -> None:
    """Change the given fields of a subscription. Other fields stay as they are."""
    cleared = dict.fromkeys((name.replace("-", "_") for name in clear or ()), None)
    if both := cleared.keys() & body.keys():
        raise OperatorError(f"{', '.join(sorted(both))} cannot be both set and cleared.")
    _print(url, key, "PATCH", f"/{segment(subscription_id)}", body | cleared)


@subscriptions.command("pause")
def pause(subscription_id: Id, key: Key, url: Url = DEFAULT_URL) -> None:
    """Pause a subscription. Nothing is sent, but matching events are still collected."""
    _print(url, key, "POST", f"/{segment(subscription_id)}/pause")


@subscriptions.command("resume")
def resume(subscription_id: Id, key: Key, url: Url = DEFAULT_URL) -> None:
    """Resume a subscription, starting with the collected events."""
    _print(url, key, "POST", f"/{segment(subscription_id)}/resume")


@subscriptions.command("disable")
def disable(
    subscription_id: Id,
    key: Key,
    url: Url = DEFAULT_URL,
    reason: Annotated[str | None, typer.Option(help="Reason that the subscription shows.")] = None,
) -> None:
    """Disable a subscription, so that it matches no events. Its pending deliveries are cancelled."""
    _print(url, key, "POST", f"/{segment(subscription_id)}/disable", {"reason": reason} if reason else None)


@subscriptions.command("enable")
def enable(subscription_id: Id, key: Key, url: Url = DEFAULT_URL) -> None:
    """Enable a subscription, so that it matches events from now on."""
    _print(url, key, "POST", f"/{segment(subscription_id)}/enable")


@subscriptions.command("delete")
def delete(subscription_id: Id, key: Key, url: Url = DEFAULT_URL) -> None:
    """Delete a subscription, and cancel its pending deliveries."""
    _print(url, key, "DELETE", f"/{segment(subscription_id)}")


@subscriptions.command("rotate-secret")
def rotate_secret(
    subscription_id: Id,
    key: Key,
    url: Url = DEFAULT_URL,
    overlap: Annotated[str, typer.Option(help="How long the old secret also signs.")] = "24h",
    signature: Annotated[str | None, typer.Option(help="v1 or v1a. Default: unchanged.")] = None,
    secret: Annotated[str | None, typer.Option(help="Your own secret. Default: a new secret.")] = None,
) -> None:
    """Sign with a new secret, and print it. It is shown only once."""
    body = {"overlap_seconds": int(_seconds(overlap)), "signature": signature, "secret": secret}
    _print(url, key, "POST", f"/{segment(subscription_id)}/rotate-secret", body)


@subscriptions.command("test")
def send_test(subscription_id: Id, key: Key, url: Url = DEFAULT_URL) -> None:
    """Send a test event, and print its first attempt."""
    _print(url, key, "POST", f"/{segment(subscription_id)}/test")


def _print(url: str, key: str, method: str, path: str, body: dict[str, Any] | None = None) -> None:
    content = None if body is None else msgspec.json.encode(body)
    with open_client(url, key) as client:
        answer = call(client, method, _PATH + path, content=content)
    if answer.content:
        typer.echo(answer.text)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise OperatorError(f"--header must be 'Name: value', not {text!r}.")
    return name.strip(), value.strip()


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError:
        raise OperatorError(f"{text!r} is not {DURATION}.") from None
