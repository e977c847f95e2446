"""Every setting: one list for the environment, the command line and `--help`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Meta

from triggers.errors import SettingsError
from triggers.outbound.addresses import Network, OutboundPolicy
from triggers.postgres.connection_parameters import require_honoured

ENV_PREFIX = "TRIGGERS_"
DURATION = "a duration such as 500ms, 30s, 15m, 24h or 7d, of at most 100 years"

_LONGEST_SECONDS = 100 * 365 * 86_400.0  # added to any time of ours it is a time that Python can name

# Kubernetes sets these in every pod, for each Service named `triggers` or `triggers-<something>`.
_KUBERNETES_NAME = re.compile(r"TRIGGERS_(\w+_)?(SERVICE|PORT)_\w+")
_KUBERNETES_ADDRESS = re.compile(r"(tcp|udp|sctp)://")


class Settings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """Settings of the operator. Each field is the flag `--field-name` and the variable `TRIGGERS_FIELD_NAME`.

    Durations are in seconds; flags and variables also take `500ms`, `30s`, `15m`, `24h`, `7d`.
    """

    host: Annotated[str, Meta(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Meta(description="Port to listen on; 0 chooses a free port.", ge=0, le=65535)] = 8080
    public_url: Annotated[
        str | None,
        Meta(
            description="URL of this service for callers. Links begin with its path, which a proxy must"
            " remove from the paths of requests. Default: host and port."
        ),
    ] = None
    data_dir: Annotated[
        str | None,
        Meta(
            description="Directory of the private PostgreSQL. Default: /var/lib/triggers for root, else"
            " ~/.local/share/triggers."
        ),
    ] = None
    database_url: Annotated[
        str | None,
        Meta(
            description="URL of your PostgreSQL 15 to 18. Default: a private PostgreSQL.",
            extra_json_schema={"secret": True},
        ),
    ] = None
    redis_url: Annotated[
        str | None,
        Meta(
            description="URL of a Redis that nodes share for wake-ups and rate limits.",
            extra_json_schema={"secret": True},
        ),
    ] = None
    pool_size: Annotated[
        int,
        Meta(
            description="Maximum number of pooled database connections, without those that store events.",
            ge=2,
            le=500,
        ),
    ] = 20
    log_format: Annotated[
        Literal["auto", "console", "json"],
        Meta(description="`auto` is `console` on a terminal and `json` elsewhere."),
    ] = "auto"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Minimum level of logged events.")
    ] = "info"
    log_accepted: Annotated[
        bool, Meta(description="Log each request that stores events, besides the count of events per second.")
    ] = False
    dedup_window: Annotated[
        float,
        Meta(
            description="Time in which events with the same dedup_id are duplicates.",
            extra_json_schema={"duration": True},
        ),
    ] = 86_400
    inbox_retention: Annotated[
        float,
        Meta(
            description="Time after which unread messages of default inboxes expire. Use the same value on"
            " every node.",
            extra_json_schema={"duration": True},
        ),
    ] = 7 * 86_400
    receive_timeout: Annotated[
        float,
        Meta(
            description="Maximum time for a request to arrive completely. Clients must also read responses at"
            " 16 KiB/s or faster.",
            extra_json_schema={"duration": True},
        ),
    ] = 30
    keep_alive: Annotated[
        float,
        Meta(
            description="Time after which idle connections of callers are closed. Must be longer than the"
            " idle timeout of a load balancer in front.",
            extra_json_schema={"duration": True},
        ),
    ] = 75
    shutdown_timeout: Annotated[
        float,
        Meta(
            description="Maximum time that a shutdown waits for requests and deliveries in flight.",
            extra_json_schema={"duration": True},
        ),
    ] = 30
    min_free_disk: Annotated[
        int, Meta(description="Minimum free disk space in MiB. Events are refused with 503 below it.", ge=0)
    ] = 512
    max_waiting_events: Annotated[
        int,
        Meta(
            description="Maximum number of events that wait to be stored; more are refused with 503. One"
            " organisation can use at most half of the free places.",
            ge=1,
        ),
    ] = 20_000
    max_waiting_bytes: Annotated[
        int,
        Meta(
            description="Maximum size in bytes of the events that wait to be stored; more are refused with"
            " 503. Request bodies that are still arriving may use twice as much in addition.",
            ge=1024,
        ),
    ] = 64 * 1024 * 1024

    max_pending: Annotated[
        int,
        Meta(
            description="Maximum number of unsettled deliveries and messages of an organisation, counted once"
            " a minute. While it has more, its events are refused with 429. 0 for no limit.",
            ge=0,
        ),
    ] = 5_000_000

    secret_keys: Annotated[
        str | None,
        Meta(
            description="Keys that encrypt secrets in the database, in base64, separated by commas. The first"
            " key encrypts. Default with a private PostgreSQL: a key in the data directory.",
            extra_json_schema={"secret": True},
        ),
    ] = None
    outbound_allow: Annotated[
        str | None,
        Meta(description="Private networks that deliveries may reach: CIDRs, separated by commas."),
    ] = None
    outbound_allow_http: Annotated[
        bool, Meta(description="Also deliver to plain http:// URLs, for intranets and tests.")
    ] = False
    metrics_host: Annotated[
        str | None,
        Meta(
            description="Address for /metrics. If it or the port is set, /metrics is served only there and"
            " not with the API. Default: the address of the API."
        ),
    ] = None
    metrics_port: Annotated[
        Annotated[int, Meta(ge=0, le=65535)] | None,
        Meta(
            description="Port for /metrics. If it or the address is set, /metrics is served only there and"
            " not with the API. Default: the port of the API."
        ),
    ] = None
    worker_metrics_port: Annotated[
        Annotated[int, Meta(ge=1, le=65535)] | None,
        Meta(
            description="Port for the metrics of `triggers worker`. `triggers serve` includes them in its"
            " /metrics."
        ),
    ] = None
    disable_after: Annotated[
        float,
        Meta(
            description="Time without any success after which a failing subscription is disabled.",
            extra_json_schema={"duration": True},
        ),
    ] = 5 * 86_400
    outbound_proxy: Annotated[
        str | None,
        Meta(
            description="Egress proxy that supports CONNECT: http://[user:password@]host:port.",
            extra_json_schema={"secret": True},
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.data_dir and self.database_url:
            raise SettingsError(
                "Set either TRIGGERS_DATA_DIR (for a private PostgreSQL) or TRIGGERS_DATABASE_URL (for your"
                " own), not both."
            )
        for setting in settings_list():
            if setting.duration and getattr(self, setting.name) <= 0:
                raise SettingsError(f"{env_name(setting.name)} must be longer than 0.")
        if self.public_url and not _is_public_url(self.public_url):
            raise SettingsError("TRIGGERS_PUBLIC_URL must be an http:// or https:// URL without a query.")
        if self.database_url and not re.match(r"postgres(ql)?://", self.database_url):
            raise SettingsError("TRIGGERS_DATABASE_URL must begin with postgresql://.")
        if self.redis_url and not re.match(r"(rediss?|unix)://", self.redis_url):
            raise SettingsError("TRIGGERS_REDIS_URL must begin with redis://, rediss:// or unix://.")
        if self.outbound_proxy and not _is_proxy(self.outbound_proxy):
            raise SettingsError("TRIGGERS_OUTBOUND_PROXY must be http://[user:password@]host:port.")
        self.outbound_policy()

    @property
    def root_path(self) -> str:
        """The path of the public URL, percent-encoded and without a slash at its end."""
        return quote(urlsplit(self.public_url or "").path.rstrip("/"), safe="/%:@!$&'()*+,;=~")

    @property
    def metrics_elsewhere(self) -> bool:
        """Whether /metrics is served at an address of its own."""
        return self.metrics_host is not None or self.metrics_port is not None

    def metrics_address(self) -> tuple[str, int]:
        """Host and port of /metrics, if it is served at an address of its own."""
        port = self.port if self.metrics_port is None else self.metrics_port
        return self.metrics_host or self.host, port

    def outbound_policy(self) -> OutboundPolicy:
        """The addresses that deliveries may reach."""
        allow: list[Network] = []
        for text in filter(None, map(str.strip, (self.outbound_allow or "").split(","))):
            try:
                allow.append(ipaddress.ip_network(text))
            except ValueError:
                raise SettingsError(
                    "TRIGGERS_OUTBOUND_ALLOW must be a list of CIDRs, such as 10.20.0.0/16,fd00:1::/64."
                    f" {text!r} is not a CIDR, or its address is not the first address of its network."
                ) from None
        return OutboundPolicy(
            allow=tuple(allow), allow_http=self.outbound_allow_http, proxy_url=self.outbound_proxy
        )

    def masked(self) -> dict[str, Any]:
        """The settings for display. A secret shows only that it is set."""
        return {
            name: (getattr(self, name) and "(set)") if describe(name).secret else getattr(self, name)
            for name in self.__struct_fields__
        }

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{k}={v!r}' for k, v in self.masked().items())})"


def _is_public_url(url: str) -> bool:
    try:
        urlsplit(url)
    except ValueError:  # such as a bracket without its other half
        return False
    return re.fullmatch(r"https?://[^/?#\s]+(/[^?#\s]*)?", url) is not None


def _is_proxy(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


class Setting(msgspec.Struct, frozen=True):
    """Name, type, default and help of one setting."""

    name: str
    type: Any
    default: Any
    help: str
    secret: bool
    duration: bool


def describe(name: str) -> Setting:
    """One setting by its field name."""
    return _SETTINGS[name]


def settings_list() -> list[Setting]:
    """Every setting, in the order of the class."""
    return list(_SETTINGS.values())


def env_name(name: str) -> str:
    """`database_url` → `TRIGGERS_DATABASE_URL`."""
    return ENV_PREFIX + name.upper()


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


def _read_fields() -> dict[str, Setting]:
    hints = get_type_hints(Settings, include_extras=True)
    found = {}
    for field in msgspec.structs.fields(Settings):
        meta: Meta = next(m for m in hints[field.name].__metadata__ if isinstance(m, Meta))
        extra = meta.extra_json_schema or {}
        found[field.name] = Setting(
            name=field.name,
            type=hints[field.name],
            default=field.default,
            help=meta.description or "",
            secret=bool(extra.get("secret")),
            duration=bool(extra.get("duration")),
        )
    return found


_SETTINGS = _read_fields()
