"""Reads the settings from the environment, from files that it names, and from flags."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec

from triggers.errors import SettingsError
from triggers.node.settings import ENV_PREFIX, Setting, Settings, env_name, settings_list
from triggers.postgres.connection_parameters import require_honoured

DURATION = "a duration such as 500ms, 30s, 15m, 24h or 7d, of at most 100 years"

_LONGEST_SECONDS = 100 * 365 * 86_400.0  # added to any time of ours it is a time that Python can name

# Kubernetes sets these in every pod, for each Service named `triggers` or `triggers-<something>`.
_KUBERNETES_NAME = re.compile(r"TRIGGERS_(\w+_)?(SERVICE|PORT)_\w+")
_KUBERNETES_ADDRESS = re.compile(r"(tcp|udp|sctp)://")


def load(environ: Mapping[str, str], **flags: Any) -> Settings:
    """Settings from the environment. Flags that are not None override it.

    A secret can also be read from a file that `TRIGGERS_<NAME>_FILE` names.

    Raises:
        SettingsError: a value is wrong; the message names the setting, its value and the expected values. Or
            the database's URL or a PG* variable asks for something that the driver cannot honour.
    """
    values: dict[str, Any] = {}
    for setting in settings_list():
        raw: Any = flags.get(setting.name)
        if raw is None:
            raw = _from_environment(setting, environ) or _from_file(setting, environ)
        if raw is None:
            continue
        values[setting.name] = _parse(setting, raw)
    try:
        settings = msgspec.convert(values, Settings)
    except msgspec.ValidationError as error:
        raise SettingsError(f"A setting is wrong: {error}.") from None
    if settings.database_url:
        require_honoured(settings.database_url, environ)
    return settings


def unknown_variables(environ: Mapping[str, str], others: Collection[str] = ()) -> dict[str, str | None]:
    """Variables with our prefix that are not settings, each with the variable that was probably meant.

    `others` are variables that are read too. Those that Kubernetes sets are left out.
    """
    known = {env_name(setting.name) for setting in settings_list()}
    known |= {env_name(setting.name) + "_FILE" for setting in settings_list() if setting.secret}
    known |= set(others)
    # Without the prefix, which would make all names similar.
    similar = {name.removeprefix(ENV_PREFIX): name for name in known}
    return {
        name: next(
            (similar[near] for near in get_close_matches(name.removeprefix(ENV_PREFIX), similar, n=1)), None
        )
        for name, value in sorted(environ.items())
        if name.startswith(ENV_PREFIX)
        and name not in known
        and not (_KUBERNETES_NAME.fullmatch(name) or _is_service_address(name, value))
    }


def parse_duration(text: str) -> float:
    """Seconds from `90`, `500ms`, `30s`, `15m`, `24h` or `7d`; ValueError if it is not a DURATION."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?", text.strip())
    if not found:
        raise ValueError(text)
    seconds = float(found[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2] or "s"]
    if seconds > _LONGEST_SECONDS:
        raise ValueError(text)
    return seconds


def _parse(setting: Setting, raw: Any) -> Any:
    try:
        if setting.duration and isinstance(raw, str):
            return parse_duration(raw)
        return msgspec.convert(raw, setting.type, strict=False)
    except (ValueError, msgspec.ValidationError) as error:
        wanted = f"It must be {DURATION}" if setting.duration else _wanted(setting, error)
        shown = "(hidden)" if setting.secret else repr(raw)
        raise SettingsError(f"{env_name(setting.name)} is {shown}. {wanted}.") from None


def _wanted(setting: Setting, error: Exception) -> str:
    """The values that a setting takes, in the words of the person who sets it."""
    if isinstance(setting.default, bool):
        return "It must be 1, 0, true or false"
    if get_origin(kind := get_args(setting.type)[0]) is Literal:
        return f"It must be one of {', '.join(get_args(kind))}"
    return re.sub(r"Expected `int( \| null)?`(, got `str`)?", "It must be a whole number", str(error))


def _is_service_address(name: str, value: str) -> bool:
    """Whether it is the address that Kubernetes gives a Service, such as `TRIGGERS_PORT=tcp://10.0.0.7:80`."""
    return name.endswith("_PORT") and _KUBERNETES_ADDRESS.match(value) is not None


def _from_environment(setting: Setting, environ: Mapping[str, str]) -> str | None:
    name = env_name(setting.name)
    value = environ.get(name)
    return None if value is None or _is_service_address(name, value) else value


def _from_file(setting: Setting, environ: Mapping[str, str]) -> str | None:
    path = setting.secret and environ.get(env_name(setting.name) + "_FILE")
    if not path:
        return None
    name = f"{env_name(setting.name)}_FILE"
    try:
        return Path(path).read_text(encoding="utf-8-sig").strip()
    except OSError as error:
        raise SettingsError(f"{name}: {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{name}: {path} is not a text file in UTF-8.") from None
