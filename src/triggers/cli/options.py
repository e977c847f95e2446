"""Settings as flags. They are generated from `settings.py`, so `--help` is always up to date."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import typer

from triggers.cli.session import with_options
from triggers.node.settings import Setting, Settings, env_name, settings_list
from triggers.node.variables import load

DATABASE_SETTINGS = ("data_dir", "database_url", "pool_size", "log_format", "log_level")
"""Settings of commands that can run beside a running service."""


def with_settings(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command a `settings` argument and the named settings (all if none is named) as flags.

    Flags win over the environment. Logging is configured before the command runs.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        chosen = [setting for setting in settings_list() if not names or setting.name in names]

        def run(**arguments: Any) -> None:
            from triggers.observability import configure_logging

            flags = {setting.name: arguments.pop(setting.name) for setting in chosen}
            settings: Settings = load(os.environ, **flags)
            configure_logging(settings.log_format, settings.log_level)
            command(settings=settings, **arguments)

        return with_options(command, run, list(map(_flag, chosen)), given="settings")

    return decorate


def run_async(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on the event loop that the service uses."""
    import uvloop

    return uvloop.run(work)


def _duration(seconds: float) -> str:
    """`604800` as `7d`: the largest unit that gives a whole number."""
    units = {"d": 86_400, "h": 3600, "m": 60}
    return next(
        (f"{seconds / size:g}{unit}" for unit, size in units.items() if seconds % size == 0), f"{seconds:g}s"
    )


def _flag(setting: Setting) -> inspect.Parameter:
    kind = bool if setting.type is bool or "bool" in str(setting.type) else str
    flag = "--" + setting.name.replace("_", "-")
    shown = f"[{env_name(setting.name)}] {setting.help}"
    if setting.default is not None and not setting.secret and kind is str:
        shown += f" Default: {_duration(setting.default) if setting.duration else setting.default}."
    declarations = [f"{flag}/--no-{flag[2:]}"] if kind is bool else [flag]
    return inspect.Parameter(
        setting.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            kind | None,
            typer.Option(*declarations, help=shown, show_default=False),
        ],
    )
