"""The operating system's user that the private PostgreSQL runs as, and how directories are made for it."""

import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triggers.errors import DataDirectoryError, OperatorError

UNFINISHED = ".unfinished-"
OF_ITS_OWN = "triggers"
"""The user that PostgreSQL runs as if root starts it and there is no data. The service creates no users."""
SHARED = ("postgres", "nobody")
"""Users to run as if that one does not exist. Other programs of these users can read and change the data."""
# Nothing of ours: the service's environment holds secrets, and PG* variables would lead astray.
_ENVIRONMENT = {"LC_ALL": "C", "PATH": os.defpath}


@dataclass(frozen=True)
class Account:
    """Never root, which PostgreSQL refuses."""

    name: str
    uid: int
    gid: int

    @classmethod
    def choose(cls, cluster: Path) -> "Account":
        """Our own user. If we are root: the owner of the cluster if there is one, else a user without rights.

        Raises:
            OperatorError: we are root, and there is no such user.
        """
        if os.geteuid() != 0:
            return cls(f"user {os.geteuid()}", os.geteuid(), os.getegid())
        with suppress(OSError):
            owner = cluster.stat()
            if owner.st_uid != 0:
                return cls(_name_of(owner.st_uid), owner.st_uid, owner.st_gid)
        for name in (OF_ITS_OWN, *SHARED):
            with suppress(KeyError):
                entry = pwd.getpwnam(name)
                return cls(name, entry.pw_uid, entry.pw_gid)
        raise OperatorError(
            f"PostgreSQL cannot run as root: create the user `{OF_ITS_OWN}`, or start as another user."
        )

    @property
    def is_ours(self) -> bool:
        """Whether PostgreSQL runs as the user that we run as."""
        return self.uid == os.geteuid()

    def process_options(self) -> dict[str, Any]:
        """Arguments for subprocess that start a process as this user, which Ctrl-C does not reach."""
        options: dict[str, Any] = {
            "env": _ENVIRONMENT,
            "stdin": subprocess.DEVNULL,
            "start_new_session": True,
        }
        if not self.is_ours:
            options |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return options

    def hand_over(self, private: Path) -> None:
        """Make the file or directory this user's."""
        if not self.is_ours:
            os.chown(private, self.uid, self.gid)

    def require_way_in(self, directories: Iterable[Path]) -> None:
        """Raise DataDirectoryError if this user cannot enter one of them.

        The kernel is asked, as the user in question: modes alone do not tell of access lists.
        """
        if self.is_ours:
            return
        first_closed = 'for directory; do test -x "$directory" || { printf %s "$directory"; exit; }; done'
        closed = subprocess.run(
            ["/bin/sh", "-c", first_closed, "sh", *map(str, directories)],
            check=True,
            capture_output=True,
            text=True,
            cwd="/",
            **self.process_options(),
        ).stdout
        if closed:
            raise DataDirectoryError(
                f"The user {self.name}, who runs PostgreSQL when root starts it, "
                f"cannot enter {closed}. Let that user in (`chmod o+x {closed}`), choose another "
                "directory with --data-dir, or start as another user than root."
            )

    def make_directory(self, path: Path, *, private: bool = False) -> None:
        """Nothing is changed if it exists: modes and owners of what others made are theirs to decide."""
        if path.exists():
            return
        made = unfinished_directory(path.parent)
        if private:
            self.hand_over(made)
        elif not self.is_ours:
            made.chmod(0o711)
        try:
            put_in_place(made, path)
        except OSError:
            made.rmdir()
            if not path.exists():  # else another start was quicker, and the lock decides
                raise


def _name_of(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return f"user {user_id}"


def unfinished_directory(parent: Path) -> Path:
    """A directory to make something in, beside its place; the next start removes it if we die."""
    return Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=parent))


def put_in_place(made: Path, path: Path) -> None:
    """Rename what is finished into its place, and have the disk know."""
    made.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
