"""Every setting: one list for the environment, the command line and `--help`. `variables.py` reads them."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Literal, get_type_hints
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Meta

from triggers.errors import SettingsError
from triggers.outbound.addresses import Network, OutboundPolicy

ENV_PREFIX = "TRIGGERS_"
FIRST_ORGANISATION = "default"
"""Name of the organisation that the first run creates."""
KEY_FILE = "first-key"
"""File in the data directory that gets the first API key if there is no terminal."""


def secret(description: str) -> Meta:
    """Describe a setting that is never shown."""
    return Meta(description=description, extra_json_schema={"secret": True})


def duration(description: str) -> Meta:
    """Describe a setting in seconds. Flags and variables also take `500ms`, `30s`, `15m`, `24h` or `7d`."""
    return Meta(description=description, extra_json_schema={"duration": True})


class ServiceSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """The places where the service listens, stores and logs."""

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
        str | None, secret("URL of your PostgreSQL 15 to 18. Default: a private PostgreSQL.")
    ] = None
    redis_url: Annotated[
        str | None, secret("URL of a Redis that nodes share for wake-ups and rate limits.")
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
        Meta(
            description="`auto`: on a terminal, short lines for requests and deliveries, and `console` for"
            " the rest; elsewhere `json`."
        ),
    ] = "auto"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Minimum level of logged events.")
    ] = "info"
    log_accepted: Annotated[
        bool, Meta(description="Log each request that stores events, besides the count of events per second.")
    ] = False


class LimitSettings(ServiceSettings, frozen=True, kw_only=True):
    """Adds the limits of time and size."""

    dedup_window: Annotated[
        float, duration("Time in which events with the same dedup_id are duplicates.")
    ] = 86_400
    inbox_retention: Annotated[
        float,
        duration(
            "Time after which unread messages of default inboxes expire. Use the same value on every node."
        ),
    ] = 7 * 86_400
    receive_timeout: Annotated[
        float,
        duration(
            "Maximum time for a request to arrive completely. Clients must also read responses at"
            " 16 KiB/s or faster."
        ),
    ] = 30
    keep_alive: Annotated[
        float,
        duration(
            "Time after which idle connections of callers are closed. Must be longer than the"
            " idle timeout of a load balancer in front."
        ),
    ] = 75
    shutdown_timeout: Annotated[
        float, duration("Maximum time that a shutdown waits for requests and deliveries in flight.")
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


class Settings(LimitSettings, frozen=True, kw_only=True):
    """Settings of the operator. A field is the flag `--field-name` and the variable `TRIGGERS_FIELD_NAME`.

    The fields of the base classes come first. `--help` and the documentation have the same order.
    """

    secret_keys: Annotated[
        str | None,
        secret(
            "Keys that encrypt secrets in the database, in base64, separated by commas. The first"
            " key encrypts. Default with a private PostgreSQL: a key in the data directory."
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
    console: Annotated[
        Literal["on", "off"],
        Meta(description="`off` removes the console, and the routes that sign people in to it."),
    ] = "on"
    dev: Annotated[
        bool,
        Meta(
            description="For development on this machine: also deliver to http:// URLs of this machine, and"
            " show the components of the console at /console/_kit. Only with a loopback address and a private"
            " PostgreSQL."
        ),
    ] = False
    disable_after: Annotated[
        float, duration("Time without any success after which a failing subscription is disabled.")
    ] = 5 * 86_400
    outbound_proxy: Annotated[
        str | None, secret("Egress proxy that supports CONNECT: http://[user:password@]host:port.")
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
        if self.dev and self.database_url:
            raise SettingsError("TRIGGERS_DEV cannot be used with TRIGGERS_DATABASE_URL.")
        if self.dev and not _is_loopback(self.host):
            raise SettingsError("TRIGGERS_DEV needs a loopback address in TRIGGERS_HOST, such as 127.0.0.1.")
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
        allow: list[Network] = [*_LOOPBACK] if self.dev else []
        for text in filter(None, map(str.strip, (self.outbound_allow or "").split(","))):
            try:
                allow.append(ipaddress.ip_network(text))
            except ValueError:
                raise SettingsError(
                    "TRIGGERS_OUTBOUND_ALLOW must be a list of CIDRs, such as 10.20.0.0/16,fd00:1::/64."
                    f" {text!r} is not a CIDR, or its address is not the first address of its network."
                ) from None
        return OutboundPolicy(
            allow=tuple(allow), allow_http=self.outbound_allow_http or self.dev, proxy_url=self.outbound_proxy
        )

    def masked(self) -> dict[str, Any]:
        """The settings for display. A secret shows only that it is set. Other URLs have no passwords."""
        return {name: _masked(describe(name), getattr(self, name)) for name in self.__struct_fields__}

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{k}={v!r}' for k, v in self.masked().items())})"


def _masked(setting: Setting, value: Any) -> Any:
    if setting.secret:
        return value and "(set)"
    return _USER_OF_URL.sub("//…@", value) if isinstance(value, str) else value


_USER_OF_URL = re.compile(r"//[^/?#\s]*@")
_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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
