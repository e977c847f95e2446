"""The directory the private PostgreSQL lives in: its user, binaries, cluster, settings and socket.

    <data dir>/postgresql/
        lock               held with flock by the living `serve`
        postgresql.conf    written at every start to fit the machine
        pg_hba.conf        written at every start: who may connect (pg_ident.conf: as which roles)
        password           only if the user who runs `serve` has no name
        binaries-<version> only when root starts it: a copy that an unprivileged user can reach
        cluster/           what initdb made
        log/               one file a weekday, each emptied when its day comes round again
        socket             a private directory, or a link to one whose path is short enough

Files that take time to make are made beside their place and then renamed into it. So a start that is
killed halfway leaves nothing that the next start could take for complete.
"""

import fcntl
import os
import shutil
from pathlib import Path

import structlog

from triggers.errors import DataDirectoryError
from triggers.postgres.embedded_access import Access
from triggers.postgres.embedded_account import OF_ITS_OWN, SHARED, UNFINISHED, Account, unfinished_directory
from triggers.postgres.embedded_binaries import binaries, wheel
from triggers.postgres.embedded_cluster import Cluster
from triggers.postgres.embedded_settings import fitting_settings
from triggers.postgres.embedded_socket import PORT, SocketDirectory

log = structlog.get_logger()


class EmbeddedHome:
    """Knows the paths, and brings what is behind them into being. Blocks: call it from a thread. States:

    (nothing) ──lock──▶ ours ──prepare──▶ up to date: PostgreSQL may run
         ▲                │                   │
         └────────────────┴── the lock's descriptor is closed, by us or by our death
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.resolve()
        self.path = self.data_dir / "postgresql"
        self.log = self.path / "log"
        self.account = Account.choose(self.path / "cluster")
        self.cluster = Cluster(self.path / "cluster", self.account)
        self.socket_directory = SocketDirectory(self.path / "socket", self.account)
        self.access = Access(self.path)

    def require_usable(self) -> bool:
        """Raise what `lock` and `prepare` would, and leave all as it is; whether there is data yet."""
        self._require_directories()
        self.account.require_way_in(self._existing())
        wheel()
        self.cluster.require_usable()
        # Tried, because modes do not tell: root may write where they forbid it, and nobody below /proc.
        unfinished_directory(self._existing()[-1]).rmdir()
        return self.cluster.exists()

    def lock(self) -> int:
        """Make the directory ours until the returned descriptor is closed, by us or by our death."""
        self._require_directories()
        self.account.require_way_in(self._existing())
        for directory in (*reversed(self.path.parents), self.path):
            self.account.make_directory(directory)
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode().strip() or "unknown"
            os.close(descriptor)
            raise DataDirectoryError(
                f"The data directory {self.data_dir} is in use by another `triggers serve` "
                f"(process {holder}). Stop that one, or choose another directory with --data-dir."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return descriptor

    def prepare(self) -> list[str]:
        """Bring everything up to date; returns the command that runs PostgreSQL."""
        for unfinished in self.path.glob(f"{UNFINISHED}*"):
            if unfinished.is_dir():
                shutil.rmtree(unfinished, ignore_errors=True)
            else:
                unfinished.unlink()
        programs = binaries(self.account, self.path)
        self.cluster.require_usable()
        if not self.cluster.exists():
            if not self.account.is_ours and self.account.name in SHARED:
                log.warning(
                    "postgres_user_is_shared",
                    user=self.account.name,
                    advice=f"create the user `{OF_ITS_OWN}` before the first start",
                )
            self.cluster.initialise(programs)
        self.account.make_directory(self.log, private=True)
        self.socket_directory.make()
        self._write_configuration()
        self.access.write()
        # On the command line stands what is promised; ALTER SYSTEM may tune the rest.
        promised = {
            "config_file": self.path / "postgresql.conf",
            "hba_file": self.access.rules,
            "ident_file": self.access.names,
            "fsync": "on",
            "full_page_writes": "on",
            "synchronous_commit": "on",
            "listen_addresses": "",
            "port": PORT,
            "unix_socket_directories": '"{}"'.format(str(self.socket_directory.path).replace('"', '""')),
            "unix_socket_permissions": "0700",
            "logging_collector": "on",
        }
        arguments = [argument for name, value in promised.items() for argument in ("-c", f"{name}={value}")]
        return [str(programs / "postgres"), "-D", str(self.cluster.path), *arguments]

    def forget_recorded_pid(self) -> None:
        """Remove a recorded pid that now belongs to another process.

        PostgreSQL refuses to start while any process of its user has this pid, and in a container small
        numbers are soon used again. The pid of a dead process is left, because PostgreSQL uses it to find
        shared memory that is still in use.
        """
        self.cluster.forget_recorded_pid()
        self.socket_directory.forget_lock()

    def last_log_lines(self, since: float, count: int = 12) -> str:
        """The end of the newest log, if anything was written to it after `since` (Unix time)."""
        newest = max(self.log.glob("*.log"), key=lambda path: path.stat().st_mtime, default=None)
        if newest is None or newest.stat().st_mtime < since:
            return ""
        return "\n".join(newest.read_text(errors="replace").splitlines()[-count:])

    def _existing(self) -> list[Path]:
        """The existing directories on the path to our files, from the top."""
        return [path for path in (*reversed(self.path.parents), self.path) if path.exists()]

    def _require_directories(self) -> None:
        for path in self._existing():
            if not path.is_dir():
                raise DataDirectoryError(
                    f"{path} is not a directory. Name one with --data-dir; it is made if it is not there."
                )

    def _write_configuration(self) -> None:
        """Keep what initdb found by trying, such as the kind of shared memory, and write our settings."""
        settings = {
            "include": str(self.cluster.path / "postgresql.conf"),
            "log_directory": str(self.log),
            **fitting_settings(free_disk_bytes=shutil.disk_usage(self.path).free),
        }
        lines = ["# Written at every start; use ALTER SYSTEM to change what is here."]
        for name, value in settings.items():
            quoted = value.replace("\\", "\\\\").replace("'", "''")
            lines.append(f"{name} = '{quoted}'")
        path = self.path / "postgresql.conf"
        path.write_text("\n".join(lines) + "\n")
        path.chmod(0o644)
