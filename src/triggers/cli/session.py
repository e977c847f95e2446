"""A session: one command's connection to the service, and the way in which it prints.

`with_session` gives a command the options that all commands of the API have: `--url`, `--key` and `--json`.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from triggers.cli.service import DEFAULT_URL, Key, Url, call, members, open_client, page_of
from triggers.cli.tables import TableColumn, TableLook, print_json, show_details, show_table
from triggers.errors import OperatorError

if TYPE_CHECKING:
    import httpx

PAGE = 1_000
"""Maximum number of items of a page."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON: one object per line.")]
Wide = Annotated[
    bool, typer.Option("--wide", help="Print all columns, with whole ids and exact times, at any width.")
]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Maximum number of items to list.")]


class Printer:
    """Prints what a command found, as the command's options say."""

    def __init__(self, *, as_json: bool, wide: bool = False) -> None:
        self.as_json = as_json
        self.wide = wide

    def show(self, text: bytes) -> None:
        """Print one thing: its members, or with --json the object. An empty answer prints nothing."""
        if not text:
            return
        if self.as_json:
            print_json(text)
        else:
            show_details(members(text))

    def show_list(self, columns: Sequence[TableColumn], items: Iterable[bytes]) -> None:
        """Print a list: a table when all items are there, or with --json each item as soon as it arrives."""
        if self.as_json:
            for item in items:
                print_json(item)
        else:
            show_table(columns, map(members, items), TableLook(self.wide, self.name_of))

    def say(self, text: str) -> None:
        """Print a remark for people on the standard error. With --json there is none."""
        if not self.as_json:
            typer.echo(text, err=True)

    def name_of(self, recipient_id: str) -> str | None:
        """The name of a subscription or an inbox, for display. None if it is not known."""
        del recipient_id
        return None


class CommandSession(Printer):
    """Calls the API for one command, and prints the answers."""

    def __init__(self, client: httpx.Client, *, as_json: bool, wide: bool = False) -> None:
        super().__init__(as_json=as_json, wide=wide)
        self.client = client

    def call(self, method: str, path: str, body: Any = None, **arguments: Any) -> bytes:
        """Send one request with a JSON body, if there is one, and return the body of the answer."""
        if body is not None:
            arguments["content"] = msgspec.json.encode(body)
        return call(self.client, method, path, **arguments).content

    def ask(self, method: str, path: str, body: Any = None, **arguments: Any) -> dict[str, Any]:
        """Send one request, and return the members of the answer."""
        return members(self.call(method, path, body, **arguments))

    def items(self, path: str, limit: int, *, member: str = "data", **parameters: Any) -> Iterator[bytes]:
        """The first `limit` items of a list as JSON texts. Parameters of None are not sent."""
        asked = {name: value for name, value in parameters.items() if value is not None}
        left = limit
        while left > 0:
            page, cursor = page_of(
                call(self.client, "GET", path, params=asked | {"limit": min(left, PAGE)}), member
            )
            yield from page[:left]
            left -= len(page)
            if cursor is None:
                return
            asked["cursor"] = cursor

    def name_of(self, recipient_id: str) -> str | None:
        """The name of a subscription or an inbox, for display. None if the key may not see it."""
        return self._names.get(recipient_id)

    @cached_property
    def _names(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for path in ("/v1/subscriptions", "/v1/inboxes"):
            try:
                page = [members(item) for item in self.items(path, PAGE)]
            except OperatorError as error:
                if error.facts.get("status") != 403:
                    raise
                continue
            found |= {each["id"]: shown for each in page if (shown := _name(each))}
        return found


def _name(item: dict[str, Any]) -> str | None:
    name: str | None = item.get("name") or item["key"]
    return name or item.get("target_url")


def with_session(*, lists: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command its argument `session`, made from the options --url, --key and --json.

    With `lists`, the command also has the option --wide.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def run(
            *, api_key: str, service_url: str, as_json: bool, wide: bool = False, **arguments: Any
        ) -> None:
            with open_client(service_url, api_key) as client:
                command(session=CommandSession(client, as_json=as_json, wide=wide), **arguments)

        options = [
            option("api_key", Key),
            option("service_url", Url, DEFAULT_URL),
            *printing_options(lists=lists),
        ]
        return with_options(command, run, options, given="session")

    return decorate


def printing_options(*, lists: bool) -> list[inspect.Parameter]:
    """The options of a command that prints: --json, and --wide if it prints tables."""
    return [option("as_json", Json, default=False), *([option("wide", Wide, default=False)] if lists else [])]


def with_options(
    command: Callable[..., None],
    run: Callable[..., None],
    options: Sequence[inspect.Parameter],
    *,
    given: str,
) -> Callable[..., None]:
    """Make `run` the command in place of `command`: with its name, its help and its parameters, where
    `options` take the place of the parameter `given`, which `run` passes."""
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != given]
    own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    run.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    run.__doc__ = command.__doc__
    run.__name__ = command.__name__
    return run


def option(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    """An argument or option of a command, as a parameter of its signature."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def json_of(value: Any) -> bytes:
    """A value as JSON, for what a command puts together from several answers."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def is_terminal() -> bool:
    """Whether a person reads what is printed."""
    return sys.stdout.isatty()
