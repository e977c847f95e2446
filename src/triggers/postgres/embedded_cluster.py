"""The data of the private PostgreSQL: what initdb makes, and what the postmaster notes there."""

import os
import shutil
import subprocess
from pathlib import Path

from triggers.errors import DataDirectoryError
from triggers.postgres.embedded_account import Account, put_in_place, unfinished_directory
from triggers.postgres.embedded_binaries import MAJOR

SUPERUSER = "postgres"
_MIB = 1024 * 1024
_WAL_FILE_MIB = 1
_WAL_FILES_A_TURN = 4096 // _WAL_FILE_MIB  # of the last eight digits of their names
_WAL_AHEAD_MIB = 512  # at most: half of what it may come to


class Cluster:
    """Blocks: call it from a thread. States, of the directory and of the postmaster in it:

    absent ──initialise──▶ made ──launched──▶ starting ──▶ ready
                             ▲                   └────┬──────┘
                             ├──── stopped ───────────┤
                             └──── killed: the pid stays recorded, and is forgotten if
                                   it has become another process's
    """

    def __init__(self, path: Path, account: Account) -> None:
        self.path = path
        self._account = account

    def exists(self) -> bool:
        """Whether there is data."""
        return self.path.exists()

    def require_usable(self) -> None:
        """Raise DataDirectoryError if there is data that this release or this user cannot serve."""
        if not self.exists():
            return
        owner = self.path.stat().st_uid
        if owner != self._account.uid:
            raise DataDirectoryError(
                f"{self.path} belongs to user {owner}, but PostgreSQL would run as {self._account.name}. "
                f"Start as the same user as before, or give it away while nothing runs: "
                f"`chown -R {self._account.uid}:{self._account.gid} {self.path} {self.path.parent / 'log'}`."
            )
        try:
            major = (self.path / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            raise DataDirectoryError(
                f"{self.path} holds no PostgreSQL data (PG_VERSION is missing). "
                "Restore it from a backup, or choose another directory with --data-dir."
            ) from None
        if major != MAJOR:
            raise DataDirectoryError(
                f"{self.path} was made by PostgreSQL {major}, and this release runs PostgreSQL {MAJOR}. "
                "Run the release that made it, dump the data with pg_dump, and load it into a new directory."
            )

    def initialise(self, binaries: Path) -> None:
        """Make the data with initdb. Raises DataDirectoryError with what it says if it fails."""
        unfinished = unfinished_directory(self.path.parent)
        self._account.hand_over(unfinished)
        command = [
            *(str(binaries / "initdb"), "-D", str(unfinished), "-U", SUPERUSER, "--no-instructions"),
            *("--auth-local=reject", "--auth-host=reject", "--data-checksums", "--encoding=UTF8"),
            # Built in, so that an update of the C library never reorders an index.
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            # In megabytes. Where there is no file of the write-ahead log to use, a commit waits for one to be
            # filled with zeros: 40 ms for one of 16 MB, on a disk with 400 MB a second.
            f"--wal-segsize={_WAL_FILE_MIB}",
        ]
        made = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.path.parent,
            **self._account.process_options(),
        )
        if made.returncode != 0:
            reason = "\n".join((made.stdout + made.stderr).splitlines()[-12:])
            raise DataDirectoryError(
                f"PostgreSQL's data could not be created in {self.path.parent}:\n{reason}"
            )
        self._make_wal_ahead(unfinished / "pg_wal")
        put_in_place(unfinished, self.path)

    def _make_wal_ahead(self, wal: Path) -> None:
        """Make files of the write-ahead log in advance, which PostgreSQL would make while callers wait.

        When a file is full, PostgreSQL continues in the file with the next number, and makes that file only
        if it does not exist. Later, each checkpoint gives new numbers to files that are no longer needed.
        """
        newest = max(path.name for path in wal.iterdir() if path.is_file())
        timeline, number = newest[:8], int(newest[8:16], 16) * _WAL_FILES_A_TURN + int(newest[16:], 16)
        zeros = bytes(_WAL_FILE_MIB * _MIB)
        ahead_mib = min(shutil.disk_usage(wal).free // 16 // _MIB, _WAL_AHEAD_MIB)
        for ahead in range(1, 1 + ahead_mib // _WAL_FILE_MIB):
            turn, place = divmod(number + ahead, _WAL_FILES_A_TURN)
            path = wal / f"{timeline}{turn:08X}{place:08X}"
            with path.open("xb") as file:
                file.write(zeros)
                os.fsync(file.fileno())
            path.chmod(0o600)
            self._account.hand_over(path)

    def recorded_pid(self) -> int | None:
        """The process that postmaster.pid names, living or not."""
        lines = self._pid_file_lines()
        return int(lines[0]) if lines and lines[0].strip().isdigit() else None

    def is_ready(self, pid: int) -> bool:
        """Whether the postmaster `pid` accepts connections; it says so in the file's eighth line."""
        lines = self._pid_file_lines()
        return len(lines) > 7 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"

    def forget_recorded_pid(self) -> None:
        """Remove the file that names a postmaster."""
        (self.path / "postmaster.pid").unlink(missing_ok=True)

    def _pid_file_lines(self) -> list[str]:
        try:
            return (self.path / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []
