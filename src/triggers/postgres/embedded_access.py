"""Lets only the user who runs `serve` connect to the private PostgreSQL, as one of our two roles.

The kernel tells PostgreSQL which user is at the other end of its socket, and PostgreSQL looks up the name.
A user without a name needs a random password instead, which is in a file that only this user can read.
The rules are written at every start, to files outside of the cluster. The cluster's own rules may come from
an earlier release, which trusted every process of PostgreSQL's user.
"""

import os
import pwd
import tempfile
from contextlib import suppress
from pathlib import Path

from triggers.postgres.embedded_account import UNFINISHED, put_in_place
from triggers.postgres.embedded_cluster import SUPERUSER

ROLE = "triggers"
_ROLES = f"{SUPERUSER},{ROLE}"
_MAP = "serve"


class Access:
    """Blocks: call it from a thread. States, for a user without a name:

    no password ──write──▶ trusted ──keep_password──▶ asked for the password, at later starts too
    """

    def __init__(self, home: Path) -> None:
        self.rules = home / "pg_hba.conf"
        self.names = home / "pg_ident.conf"
        self._password_file = home / "password"

    def write(self) -> None:
        """Write the rules for the user of this process."""
        name = _own_name()
        if name is not None:
            self._write_rules(f"peer map={_MAP}")
            users = "".join(f'{_MAP} "{name}" {role}\n' for role in (SUPERUSER, ROLE))
        else:
            # Until there is a password, only processes that could also read the password file are trusted.
            self._write_rules("trust" if self.needs_password else "scram-sha-256")
            users = ""
        _replace(self.names, users, 0o644)

    @property
    def needs_password(self) -> bool:
        """Whether the roles must be given a password, because this user has no name and there is none yet."""
        return _own_name() is None and not self._password_file.exists()

    def keep_password(self, password: str) -> None:
        """Store the password that both roles have now, and require it from the next reload on."""
        _replace(self._password_file, password, 0o600)
        self._write_rules("scram-sha-256")

    def password(self) -> str | None:
        """The password to connect with; None if no password is needed."""
        if _own_name() is not None:
            return None
        with suppress(FileNotFoundError):
            return self._password_file.read_text(encoding="utf-8")
        return None

    def serving_user(self) -> int | None:
        """The id of the user who started `serve` last, the only one who can connect. None if nobody did."""
        try:
            return self.rules.stat().st_uid
        except FileNotFoundError:
            return None

    def _write_rules(self, method: str) -> None:
        _replace(self.rules, f"# Written at every start.\nlocal all {_ROLES} {method}\n", 0o644)


def _own_name() -> str | None:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return None


def _replace(path: Path, text: str, mode: int) -> None:
    descriptor, made = tempfile.mkstemp(prefix=UNFINISHED, dir=path.parent)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    put_in_place(Path(made), path)
