"""Decides which parameters and variables of libpq are honoured, refused or ignored.

Operators know them from PostgreSQL's own programs, and write them into a URL or an environment. Our driver is
not libpq: it knows some of the parameters, sends the others to the server as settings, and reads only some of
the variables. The table below therefore lists all of them. If one says which server to trust, it is never
ignored silently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum, auto
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_plus

from triggers.errors import SettingsError


class Fate(Enum):
    """The way in which a parameter of the URL, and its variable, are treated."""

    HONOURED = auto()
    """It has the meaning that it has in libpq."""
    REFUSED = auto()
    """It changes the host, the identity, TLS or the session, and cannot be honoured."""
    WITHOUT_EFFECT = auto()
    """It is left out, because nobody relies on it, or because the service chooses the value itself."""


class Parameter(NamedTuple):
    """A parameter of libpq."""

    name: str
    variable: str | None
    fate: Fate
    except_for: tuple[str, ...] = ()
    """Values with the opposite fate. A refused parameter is accepted with one of these values, because that
    is what is done anyway. An honoured parameter is refused with one of them."""


_HONOURED, _REFUSED, _WITHOUT_EFFECT = Fate.HONOURED, Fate.REFUSED, Fate.WITHOUT_EFFECT

PARAMETERS: Final = (
    Parameter("host", "PGHOST", _HONOURED),
    Parameter("hostaddr", "PGHOSTADDR", _REFUSED),
    Parameter("port", "PGPORT", _HONOURED),
    Parameter("dbname", "PGDATABASE", _HONOURED),
    Parameter("user", "PGUSER", _HONOURED),
    Parameter("password", "PGPASSWORD", _HONOURED),
    Parameter("passfile", "PGPASSFILE", _HONOURED),
    Parameter("service", "PGSERVICE", _REFUSED),
    Parameter("target_session_attrs", "PGTARGETSESSIONATTRS", _HONOURED),
    Parameter("load_balance_hosts", "PGLOADBALANCEHOSTS", _REFUSED, ("disable",)),
    # ---- TLS
    Parameter("sslmode", "PGSSLMODE", _HONOURED),
    Parameter("sslnegotiation", "PGSSLNEGOTIATION", _HONOURED),
    Parameter("sslcert", "PGSSLCERT", _HONOURED),
    Parameter("sslkey", "PGSSLKEY", _HONOURED),
    Parameter("sslpassword", None, _HONOURED),
    Parameter("sslrootcert", "PGSSLROOTCERT", _HONOURED, ("system",)),
    Parameter("sslcrl", "PGSSLCRL", _HONOURED),
    Parameter("sslcrldir", "PGSSLCRLDIR", _REFUSED),
    Parameter("sslcertmode", "PGSSLCERTMODE", _REFUSED, ("allow",)),
    Parameter("sslsni", "PGSSLSNI", _REFUSED, ("1",)),
    Parameter("sslcompression", "PGSSLCOMPRESSION", _WITHOUT_EFFECT),
    Parameter("sslkeylogfile", None, _REFUSED),
    Parameter("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", _HONOURED),
    Parameter("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", _HONOURED),
    # ---- authentication
    Parameter("channel_binding", "PGCHANNELBINDING", _REFUSED, ("disable", "prefer")),
    Parameter("require_auth", "PGREQUIREAUTH", _REFUSED),
    Parameter("requirepeer", "PGREQUIREPEER", _REFUSED),
    Parameter("gssencmode", "PGGSSENCMODE", _REFUSED, ("disable", "prefer")),
    Parameter("gssdelegation", "PGGSSDELEGATION", _REFUSED, ("0",)),
    Parameter("gsslib", "PGGSSLIB", _HONOURED),
    Parameter("krbsrvname", "PGKRBSRVNAME", _HONOURED),
    Parameter("scram_client_key", None, _REFUSED),
    Parameter("scram_server_key", None, _REFUSED),
    Parameter("oauth_issuer", None, _REFUSED),
    Parameter("oauth_client_id", None, _REFUSED),
    Parameter("oauth_client_secret", None, _REFUSED),
    Parameter("oauth_scope", None, _REFUSED),
    # ---- the session
    Parameter("options", None, _HONOURED),
    Parameter("replication", None, _REFUSED, ("false", "off", "no", "0")),
    Parameter("min_protocol_version", "PGMINPROTOCOLVERSION", _REFUSED, ("3.0",)),
    Parameter("max_protocol_version", "PGMAXPROTOCOLVERSION", _WITHOUT_EFFECT),
    Parameter("application_name", "PGAPPNAME", _WITHOUT_EFFECT),
    Parameter("fallback_application_name", None, _WITHOUT_EFFECT),
    Parameter("client_encoding", "PGCLIENTENCODING", _WITHOUT_EFFECT),
    # ---- how long a connection waits
    Parameter("connect_timeout", "PGCONNECT_TIMEOUT", _WITHOUT_EFFECT),
    Parameter("keepalives", None, _WITHOUT_EFFECT),
    Parameter("keepalives_idle", None, _WITHOUT_EFFECT),
    Parameter("keepalives_interval", None, _WITHOUT_EFFECT),
    Parameter("keepalives_count", None, _WITHOUT_EFFECT),
    Parameter("tcp_user_timeout", None, _WITHOUT_EFFECT),
)
"""Every parameter of libpq 18. Any other one in the URL is a setting of the server."""

OTHER_VARIABLES: Final = {
    "PGOPTIONS": _REFUSED,  # the driver does not read it; `options` in the URL is honoured
    "PGREQUIRESSL": _REFUSED,
    "PGSERVICEFILE": _WITHOUT_EFFECT,
    "PGSYSCONFDIR": _WITHOUT_EFFECT,
    "PGLOCALEDIR": _WITHOUT_EFFECT,
    "PGOAUTHDEBUG": _WITHOUT_EFFECT,
    "PGGEQO": _WITHOUT_EFFECT,
    "PGDATESTYLE": _WITHOUT_EFFECT,  # every session sets this and the next one for itself
    "PGTZ": _WITHOUT_EFFECT,
}
"""The variables of libpq 18 that belong to no parameter, or whose fate differs from that of the parameter."""

VARIABLES: Final = frozenset({each.variable for each in PARAMETERS if each.variable} | OTHER_VARIABLES.keys())
"""Every variable of libpq 18."""

_BY_NAME: Final = {each.name: each for each in PARAMETERS}


def require_honoured(url: str, environ: Mapping[str, str]) -> None:
    """Raise SettingsError if the URL or the environment asks for something that cannot be honoured."""
    for name, value in _query(url):
        if (parameter := _BY_NAME.get(name)) and _is_refused(parameter, value):
            raise SettingsError(
                f"The parameter `{name}` of TRIGGERS_DATABASE_URL cannot be honoured"
                f"{_with_value(parameter, value)}. Remove it from the URL."
            )
    named = {name for name, _ in _query(url)}
    for parameter in PARAMETERS:
        value = environ.get(parameter.variable or "", "")
        if value and parameter.name not in named and _is_refused(parameter, value):
            raise SettingsError(
                f"The variable {parameter.variable} cannot be honoured{_with_value(parameter, value)}."
                " Unset it for this service."
            )
    for variable, fate in OTHER_VARIABLES.items():
        if fate is Fate.REFUSED and environ.get(variable):
            raise SettingsError(f"The variable {variable} cannot be honoured. Unset it for this service.")


def driver_arguments(url: str) -> dict[str, Any]:
    """The arguments by which the driver connects to `url`, without what has no effect."""
    base, mark, query = url.partition("?")
    kept = [part for part in query.split("&") if not _is_left_out(_pair(part)[0])]
    arguments: dict[str, Any] = {"dsn": f"{base}{mark}{'&'.join(kept)}" if kept != [""] else base}
    if ("sslmode", "disable") in _query(url):
        arguments["direct_tls"] = False  # otherwise PGSSLNEGOTIATION would require TLS
    return arguments


def _query(url: str) -> Iterator[tuple[str, str]]:
    return (_pair(part) for part in url.partition("?")[2].split("&") if part)


def _pair(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    return unquote_plus(name), unquote_plus(value)


def _is_left_out(name: str) -> bool:
    """Whether to leave a parameter out. A refused one that gets this far asks for what is done anyway."""
    parameter = _BY_NAME.get(name)
    return parameter is not None and parameter.fate is not Fate.HONOURED


def _is_refused(parameter: Parameter, value: str) -> bool:
    if parameter.fate is Fate.WITHOUT_EFFECT:
        return False
    return (parameter.fate is Fate.REFUSED) != (value in parameter.except_for)


def _with_value(parameter: Parameter, value: str) -> str:
    """The value is shown only if it is one of the words of the table, because it may be a secret."""
    return f" with the value `{value}`" if value in parameter.except_for else ""
