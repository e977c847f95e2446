"""`triggers keys`: API keys, over the API or in the database of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from triggers.cli.access import Access, Beside, with_access
from triggers.cli.completion import names_of
from triggers.cli.naming import find
from triggers.cli.nouns import Noun, one_of
from triggers.cli.orgs import MANY, ORGANISATION
from triggers.cli.service import segment
from triggers.cli.session import CommandSession
from triggers.cli.tables import ColumnKind, TableColumn
from triggers.cli.times import seconds_of
from triggers.domain import Scope, rfc3339
from triggers.errors import Invalid, OperatorError

if TYPE_CHECKING:
    from triggers.cli.tenants import DatabaseKeys

keys = typer.Typer(
    no_args_is_help=True,
    help="Manage the API keys of an organisation. With an API key, over the API; without one, in the database"
    " of this machine.",
)


def _status(key: Mapping[str, Any]) -> str:
    expires_at = key["expires_at"]
    if key["revoked_at"]:
        return "revoked"
    return "expired" if expires_at and datetime.fromisoformat(expires_at) < datetime.now(UTC) else "active"


KEY = Noun(
    "key",
    "keys",
    "keys",
    "/v1/keys",
    (
        TableColumn("key", "id", ColumnKind.ID),
        TableColumn("name", "name"),
        TableColumn("prefix", "prefix"),
        TableColumn("status", "", ColumnKind.STATE, read=_status),
        TableColumn("scopes", "scopes"),
        TableColumn("created", "created_at", ColumnKind.TIME),
        TableColumn("last used", "last_used_at", ColumnKind.TIME),
        TableColumn("expires", "expires_at", ColumnKind.TIME),
        TableColumn("revoked", "revoked_at", ColumnKind.TIME, only_wide=True),
    ),
    names=("name",),
)
OrgName = Annotated[
    str | None,
    typer.Option(
        "--org",
        help="Name of the organisation. Default: that of the API key. Without an API key it must be given.",
        autocompletion=names_of(ORGANISATION),
    ),
]
Scopes = Annotated[
    list[Scope] | None,
    typer.Option("--scope", help="Scope of the key; repeatable. Default: all scopes except admin and act."),
]


class WantedKey(NamedTuple):
    """A key that is to be made. `expires_after` is None if it never expires."""

    name: str | None
    scopes: list[Scope] | None
    live: bool
    expires_after: timedelta | None

    def expires_at(self) -> datetime | None:
        """The time when it expires, if it is made now."""
        return None if self.expires_after is None else datetime.now(UTC) + self.expires_after


class ApiKeys:
    """Keys over the API: those of the caller's organisation, or with the scope `admin` those of another."""

    def __init__(self, session: CommandSession, org: str | None) -> None:
        self._session = session
        own = org is None or session.ask("GET", "/v1/org")["name"] == org
        self._is_own = own
        self._noun = KEY
        if org is not None and not own:
            org_id = segment(find(session, ORGANISATION, org))
            self._noun = KEY._replace(path=f"{ORGANISATION.path}/{org_id}/keys")

    def listed(self) -> list[bytes]:
        """All keys."""
        return list(self._session.items(self._noun.path, MANY))

    def create(self, wanted: WantedKey) -> bytes:
        """Create a key."""
        expires_at = wanted.expires_at()
        body = {
            "name": wanted.name,
            "scopes": wanted.scopes,
            "live": wanted.live,
            "expires_at": None if expires_at is None else rfc3339(expires_at),
        }
        return self._session.call("POST", self._noun.path, body)

    def rotate(self, key: str, overlap: timedelta) -> bytes:
        """Make the successor of a key."""
        if not self._is_own:
            raise OperatorError(
                "A key of another organisation is rotated with a key of that organisation, or in the"
                " database, without an API key."
            )
        body = {"overlap_seconds": int(overlap.total_seconds())}
        return self._session.call("POST", f"{self._noun.path_of(self._session, key)}/rotate", body)

    def revoke(self, key: str) -> bytes:
        """Revoke a key."""
        return self._session.call("DELETE", self._noun.path_of(self._session, key))


def _keys(access: Access, org: str | None) -> ApiKeys | DatabaseKeys:
    if isinstance(access, Beside):
        from triggers.cli.tenants import DatabaseKeys

        if org is None:
            raise OperatorError(
                "Give --org NAME to use the database of this machine, or an API key with --key or"
                " TRIGGERS_API_KEY to use the API."
            )
        return DatabaseKeys(access.settings, org)
    return ApiKeys(access, org)


@keys.command("list")
@with_access(lists=True)
def list_keys(access: Access, org: OrgName = None) -> None:
    """List the keys of an organisation, including revoked keys.

    \b
    Example:
      triggers keys list
    """
    access.show_list(KEY.columns, _keys(access, org).listed())


@keys.command("create")
@with_access()
def create(
    access: Access,
    org: OrgName = None,
    name: Annotated[str | None, typer.Option(help="Name that says what the key is for.")] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Create a zap_live_ key instead of a zap_test_ key.")
    ] = False,
    scope: Scopes = None,
    expires_in: Annotated[
        str | None, typer.Option(help="Duration until the key expires, such as 90d. Default: never.")
    ] = None,
) -> None:
    """Create an API key and print it. It is shown only once.

    \b
    Examples:
      triggers keys create --name shop --scope events:write
      triggers keys create --org acme --live
    """
    lifetime = None if expires_in is None else timedelta(seconds=seconds_of(expires_in))
    if lifetime is not None and not lifetime:
        raise Invalid("--expires-in must be longer than 0.")
    _show_new(access, _keys(access, org).create(WantedKey(name, scope, live, lifetime)))


@keys.command("rotate")
@with_access()
def rotate(
    access: Access,
    key_id: one_of(KEY),  # type: ignore[valid-type]
    org: OrgName = None,
    overlap: Annotated[str, typer.Option(help="How long the old key stays valid.")] = "24h",
) -> None:
    """Create a new key with the same scopes and expiry. The old key expires after the overlap.

    \b
    Example:
      triggers keys rotate shop --overlap 1h
    """
    seconds = timedelta(seconds=seconds_of(overlap))
    _show_new(access, _keys(access, org).rotate(key_id, seconds))


@keys.command("revoke")
@with_access()
def revoke(
    access: Access,
    key_id: one_of(KEY),  # type: ignore[valid-type]
    org: OrgName = None,
) -> None:
    """Revoke a key. Running nodes reject it within a second.

    \b
    Example:
      triggers keys revoke shop
    """
    access.show(_keys(access, org).revoke(key_id))


@keys.command("import")
@with_access(lists=True)
def import_keys(
    access: Access,
    org: OrgName = None,
    prefix: Annotated[str | None, typer.Option(help="First 12 characters of the key.")] = None,
    sha256: Annotated[str | None, typer.Option(help="SHA-256 of the whole key, in hex.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="CSV file with the columns prefix, sha256 and, optionally, name.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    scope: Scopes = None,
) -> None:
    """Import keys of another system by prefix and SHA-256. They can then be used here unchanged.

    Keys are imported only into the database of this machine, without an API key.

    \b
    Example:
      triggers keys import --org acme --file keys.csv
    """
    if (file is None) == (prefix is None or sha256 is None):
        raise Invalid("Give either --prefix and --sha256, or --file.")
    place = _keys(access, org)
    if isinstance(place, ApiKeys):
        raise OperatorError(
            "Keys are imported into the database: leave out the API key, or name the database with"
            " --data-dir or --database-url."
        )
    rows = [(prefix or "", sha256 or "", None)] if file is None else place.read_rows(file)
    access.show_list(KEY.columns, place.import_all(rows, scope, file))


def _show_new(access: Access, key: bytes) -> None:
    access.show(key)
    access.say("The key is shown only once. Store it now.")


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.add_typer(keys, name="keys")
