"""Access to organisations and keys: over the API with an API key, or else in the database of this machine.

The database needs no API key, so the first key and a lost key are made there. One rule decides: with an API
key a command uses the API. Without one, or with --data-dir or --database-url, it uses the database.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from triggers.cli.service import DEFAULT_URL, Url, open_client
from triggers.cli.session import CommandSession, Printer, option, printing_options, with_options

if TYPE_CHECKING:
    from triggers.node.settings import Settings

OptionalKey = Annotated[
    str | None,
    typer.Option(
        "--key", envvar="TRIGGERS_API_KEY", help="API key. Without one, the database of this machine is used."
    ),
]
DataDir = Annotated[
    str | None, typer.Option("--data-dir", help="Use the private database in this directory, and no API key.")
]
DatabaseUrl = Annotated[
    str | None, typer.Option("--database-url", help="Use the database at this URL, and no API key.")
]


class Beside(Printer):
    """Access to the database of this machine, with its settings."""

    def __init__(self, settings: Settings, *, as_json: bool, wide: bool) -> None:
        super().__init__(as_json=as_json, wide=wide)
        self.settings = settings


Access = CommandSession | Beside


def with_access(*, lists: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command its argument `access`, made from its options and the environment."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def run(*, as_json: bool, wide: bool = False, **arguments: Any) -> None:
            key, url = arguments.pop("api_key"), arguments.pop("service_url")
            flags = {name: arguments.pop(name) for name in ("data_dir", "database_url")}
            if key is None or any(flags.values()):
                beside = Beside(_settings(flags), as_json=as_json, wide=wide)
                command(access=beside, **arguments)
                return
            with open_client(url, key) as client:
                command(access=CommandSession(client, as_json=as_json, wide=wide), **arguments)

        options = [
            option("api_key", OptionalKey, None),
            option("service_url", Url, DEFAULT_URL),
            option("data_dir", DataDir, None),
            option("database_url", DatabaseUrl, None),
            *printing_options(lists=lists),
        ]
        return with_options(command, run, options, given="access")

    return decorate


def _settings(flags: dict[str, Any]) -> Settings:
    from triggers.node.variables import load
    from triggers.observability import configure_logging

    settings = load(os.environ, **flags)
    configure_logging(settings.log_format, settings.log_level)
    return settings
