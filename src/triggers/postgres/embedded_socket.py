"""The directory of the private PostgreSQL's socket, at an address that is short enough."""

import os
import shutil
import tempfile
from pathlib import Path

from triggers.postgres.embedded_account import Account

PORT = 5432  # names the socket's file; nothing listens on TCP
# sun_path holds 108 bytes on Linux and 104 on macOS, one of them a closing zero.
_SOCKET_PATH_BYTES = 103


class SocketDirectory:
    """Private to PostgreSQL's user. Blocks: call it from a thread. States:

        absent ──make, the path is short──▶ a directory in its place
           └─────make, it is too long─────▶ a link to a directory elsewhere

    Each becomes the other if the data directory was moved. A link's target is used again as long as it
    is still private to PostgreSQL's user, so that the address survives restarts.
    """

    def __init__(self, place: Path, account: Account) -> None:
        self._place = place
        self._account = account

    @property
    def path(self) -> Path:
        """Where the socket really lies."""
        return self._place.resolve()

    @property
    def socket(self) -> Path:
        """The socket itself, there while a postmaster runs."""
        return self.path / f".s.PGSQL.{PORT}"

    def forget_lock(self) -> None:
        """Remove the file that names the process of the socket."""
        self.socket.with_name(f"{self.socket.name}.lock").unlink(missing_ok=True)

    def make(self) -> None:
        """In its place if the path is short enough, else elsewhere and a link to it."""
        place = self._place
        if _can_hold_socket(place):
            if place.is_symlink():
                place.unlink()
            self._account.make_directory(place, private=True)
            return
        if place.is_symlink() and self._is_private(place.resolve()):
            return
        if place.is_symlink():
            place.unlink()
        elif place.exists():
            shutil.rmtree(place)  # the data directory was moved to a longer path
        # Not predictable and not in a place of ours: mkdtemp is safe from whoever shares /tmp.
        target = Path(tempfile.mkdtemp(prefix="triggers-", dir=_short_directory()))
        self._account.hand_over(target)
        place.symlink_to(target)

    def _is_private(self, directory: Path) -> bool:
        try:
            status = directory.lstat()
        except FileNotFoundError:
            return False
        return directory.is_dir() and status.st_uid == self._account.uid and status.st_mode & 0o777 == 0o700


def _can_hold_socket(directory: Path) -> bool:
    # A comma would separate two hosts in the URL.
    length = len(os.fsencode(directory / f".s.PGSQL.{PORT}"))
    return length <= _SOCKET_PATH_BYTES and "," not in str(directory)


def _short_directory() -> str | None:
    """None stands for the system's temporary directory."""
    candidates = ["/run"] if os.geteuid() == 0 else [os.environ.get("XDG_RUNTIME_DIR", "")]
    return next((path for path in candidates if path and os.access(path, os.W_OK)), None)
