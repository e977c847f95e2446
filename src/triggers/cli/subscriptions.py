"""subscriptions: push subscriptions over HTTP, like anybody else; answers are printed as they come."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import msgspec
import typer

from triggers.cli.client import DEFAULT_URL, Key, Url, call, open_client
from triggers.errors import OperatorError
from triggers.node.settings import DURATION, parse_duration

subscriptions = typer.Typer(no_args_is_help=True, help="Push subscriptions: URLs that events are sent to.")

Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the subscription.")]
_PATH = "/v1/subscriptions"


class _Field(NamedTuple):
    """A field of a subscription, as a flag."""

    flag: str
    type: Any
    help: str


_FIELDS = {
    "name": _Field("--name", str, "A name for people."),
    "event_types": _Field("--type", list[str], "A type, or order.*; repeatable. Left out: every type."),
    "filter": _Field("--filter", str, "CEL over payload and event, such as 'payload.total > 100'."),
    "format": _Field("--format", str, "standard, raw or cloudevents."),
    "headers": _Field("--header", list[str], "'Name: value', sent with every delivery; repeatable."),
    "ordering": _Field("--ordering", str, "none, or key: one at a time for each key."),
    "ordering_key": _Field("--ordering-key", str, "JSON Pointer to the key in the payload."),
    "max_concurrency": _Field("--max-concurrency", int, "Requests in flight at once. Default: 64."),
    "rate_limit": _Field("--rate-limit", float, "Requests a second. Default: no limit."),
    "delays": _Field("--retry-delay", list[str], "Before the 2nd, 3rd … attempt, such as 5s; repeatable."),
    "deadline": _Field("--retry-deadline", str, "No attempt begins later after the first one, such as 2d."),
    "expires_at": _Field("--expires-at", str, "RFC 3339 time at which it is disabled."),
}
_AT_CREATION = {
    "subscription_key": _Field(
        "--subscription-key", str, "A key of yours: makes it only if it is not there."
    ),
    "signature": _Field("--signature", str, "v1 (HMAC-SHA256) or v1a (ed25519). Default: v1."),
    "secret": _Field("--secret", str, "A signing secret of yours. Default: one is made and shown once."),
    "start": _Field("--start", str, "now, an RFC 3339 time, or the id of an event."),
}


def _with_fields(fields: dict[str, _Field]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these fields as flags, and those that were used as a body in its argument `body`."""

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
    target_url: Annotated[str, typer.Argument(metavar="URL", help="Where events are sent to.")],
    key: Key,
    body: dict[str, Any],
    url: Url = DEFAULT_URL,
) -> None:
    """Subscribe a URL, and print the subscription with its secret: it is shown only now."""
    _print(url, key, "PUT" if "key" in body else "POST", "", {"target_url": target_url, **body})


@subscriptions.command("list")
def list_subscriptions(
    key: Key,
    url: Url = DEFAULT_URL,
    status: Annotated[str | None, typer.Option(help="active, paused or disabled.")] = None,
) -> None:
    """List the subscriptions, one a line."""
    parameters = {"limit": "1000"} | ({"status": status} if status else {})
    with open_client(url, key) as client:
        while True:
            page = call(client, "GET", _PATH, params=parameters).json()
            for each in page["data"]:
                typer.echo(msgspec.json.encode(each))
            if page["next_cursor"] is None:
                return
            parameters["cursor"] = page["next_cursor"]


@subscriptions.command("get")
def get(subscription_id: Id, key: Key, url: Url = DEFAULT_URL) -> None:
    """Show one subscription."""
    _print(url, key, "GET", f"/{subscription_id}")


@subscriptions.command("update")
@_with_fields({"target_url": _Field("--target-url", str, "Where events are sent to."), **_FIELDS})
def update(
    subscription_id: Id,
    key: Key,
    body: dict[str, Any],
    url: Url = DEFAULT_URL,
    clear: Annotated[
        list[str] | None, typer.Option(help="A field to set back to its default, such as filter; repeatable.")
    ] = None,
) -> None:
    """Change what is named and nothing else."""
    cleared = dict.fromkeys((name.replace("-", "_") for name in clear or ()), None)
    if both := cleared.keys() & body.keys():
        raise OperatorError(f"{', '.join(sorted(both))} cannot be set and cleared at once.")
    _print(url, key, "PATCH", f"/{subscription_id}", body | cleared)


@subscriptions.command("pause")
def pause(subscription_id: Id, key: Key, url: Url = DEFAULT_URL) -> None:
    """Send nothing for now; events keep collecting."""
    _print(url, key, "POST", f"/{subscription_id}/pause")


@subscriptions.command("resume")
def resume(subscription_id: Id, key: Key, url: Url = DEFAULT_URL) -> None:
    """Send again, beginning with what was collected."""
    _print(url, key, "POST", f"/{subscription_id}/resume")


@subscriptions.command("disable")
def disable(
    subscription_id: Id,
    key: Key,
    url: Url = DEFAULT_URL,
    reason: Annotated[str | None, typer.Option(help="Why, for whoever finds it disabled.")] = None,
) -> None:
    """Match nothing any more, and cancel what is queued."""
    _print(url, key, "POST", f"/{subscription_id}/disable", {"reason": reason} if reason else None)


@subscriptions.command("enable")
def enable(subscription_id: Id, key: Key, url: Url = DEFAULT_URL) -> None:
    """Match again, from now."""
    _print(url, key, "POST", f"/{subscription_id}/enable")


@subscriptions.command("delete")
def delete(subscription_id: Id, key: Key, url: Url = DEFAULT_URL) -> None:
    """End a subscription, and cancel what is queued."""
    _print(url, key, "DELETE", f"/{subscription_id}")


@subscriptions.command("rotate-secret")
def rotate_secret(
    subscription_id: Id,
    key: Key,
    url: Url = DEFAULT_URL,
    overlap: Annotated[str, typer.Option(help="For how long the old secret signs as well.")] = "24h",
    signature: Annotated[str | None, typer.Option(help="v1 or v1a. Default: as it is.")] = None,
    secret: Annotated[str | None, typer.Option(help="A secret of yours. Default: one is made.")] = None,
) -> None:
    """Sign with a new secret, and print it: it is shown only now."""
    body = {"overlap_seconds": int(_seconds(overlap)), "signature": signature, "secret": secret}
    _print(url, key, "POST", f"/{subscription_id}/rotate-secret", body)


@subscriptions.command("test")
def send_test(subscription_id: Id, key: Key, url: Url = DEFAULT_URL) -> None:
    """Send a test event to the subscription, and print its first attempt."""
    _print(url, key, "POST", f"/{subscription_id}/test")


def _print(url: str, key: str, method: str, path: str, body: dict[str, Any] | None = None) -> None:
    content = None if body is None else msgspec.json.encode(body)
    with open_client(url, key) as client:
        answer = call(client, method, _PATH + path, content=content)
    if answer.content:
        typer.echo(answer.text)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise OperatorError(f"A header is written as 'Name: value', not {text!r}.")
    return name.strip(), value.strip()


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError:
        raise OperatorError(f"{text!r} is not {DURATION}.") from None
