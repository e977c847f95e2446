"""The private PostgreSQL: made, found, ended, survived. Real processes, each stopped by its own number."""

import asyncio
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from triggers.errors import DataDirectoryError, OperatorError
from triggers.node import worker_process
from triggers.node.check import check_configuration
from triggers.node.resources import migrate_only
from triggers.node.settings import Settings
from triggers.postgres import embedded_account, embedded_binaries, embedded_cluster
from triggers.postgres.connection_parameters import VARIABLES
from triggers.postgres.database import Database
from triggers.postgres.embedded import (
    DirectoryState,
    EmbeddedPostgres,
    default_data_dir,
    inspect,
    running_url,
)
from triggers.postgres.embedded_account import Account
from triggers.postgres.embedded_cluster import SUPERUSER, Cluster
from triggers.postgres.embedded_home import EmbeddedHome
from triggers.postgres.embedded_settings import fitting_settings

by_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes users")

# What a `serve` does with it, on the event loop that `serve` uses. The user changes
# only after the imports: the interpreter may lie where that user cannot go.
OWNER = """
import os, sys, uvloop
from pathlib import Path
import asyncpg, structlog
from triggers.postgres.embedded import EmbeddedPostgres

async def main():
    if len(sys.argv) > 2:
        os.setgroups([])
        os.setgid(int(sys.argv[3]))
        os.setuid(int(sys.argv[2]))
    postgres = EmbeddedPostgres(Path(sys.argv[1]))
    url = await postgres.start()
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("select current_user") == "triggers"
    await connection.close()
    print("url", url, flush=True)
    await postgres.run()

uvloop.run(main())
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory anyone may enter, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="embedded-"))
    path.chmod(0o755)
    yield path
    for process in processes_under(path):
        process.kill()
    deadline = time.monotonic() + 10
    while processes_under(path) and time.monotonic() < deadline:
        time.sleep(0.02)
    shutil.rmtree(path)


@pytest.fixture
def fresh_dir(place: Path) -> Path:
    return place / "data"


@pytest.fixture(scope="module")
def made_once() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="embedded-"))
    path.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded_cluster, "_WAL_AHEAD_MIB", 0)  # half a gigabyte less to copy
        asyncio.run(start_and_stop(path))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def data_dir(made_once: Path, fresh_dir: Path) -> Path:
    """A data directory after a first start, which takes longer than most of what is tested here."""
    subprocess.run(["/bin/cp", "-a", made_once, fresh_dir], check=True)
    return fresh_dir


async def start_and_stop(data_dir: Path) -> None:
    async with running(data_dir):
        pass


async def is_refused(data_dir: Path, why: str) -> None:
    """By a start, and by a check that there could be one."""
    with pytest.raises(DataDirectoryError, match=why):
        inspect(data_dir)
    with pytest.raises(DataDirectoryError, match=why):
        await EmbeddedPostgres(data_dir).start()


def processes_under(path: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["name"]):
        with suppress(psutil.Error):
            if process.info["name"] == "postgres" and process.cwd().startswith(f"{path}/"):
                found.append(process)
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def postmaster_pid(data_dir: Path) -> int:
    return int((data_dir / "postgresql/cluster/postmaster.pid").read_text().split()[0])


@asynccontextmanager
async def running(data_dir: Path) -> AsyncIterator[EmbeddedPostgres]:
    postgres = EmbeddedPostgres(data_dir)
    await postgres.start()
    supervisor = asyncio.create_task(postgres.run())
    try:
        yield postgres
    finally:
        await postgres.stop()
        await supervisor


@contextmanager
def owner(data_dir: Path, user: tuple[int, int] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Another process that starts PostgreSQL, killed at the end without a chance to stop it."""
    arguments = [str(data_dir)]
    if user:
        arguments += [str(number) for number in user]
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"HOME": str(data_dir)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


@contextmanager
def process_of_the_same_user(data_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    cluster = (data_dir / "postgresql/cluster").stat()
    identity = {"user": cluster.st_uid, "group": cluster.st_gid} if os.geteuid() == 0 else {}
    with subprocess.Popen(["/bin/sleep", "100"], **identity) as process:
        yield process
        process.kill()


def read_url(process: subprocess.Popen[str]) -> str:
    """Blocks until the owner's PostgreSQL accepts connections; its log lines come on the same stream."""
    assert process.stdout
    for line in process.stdout:
        if line.startswith("url "):
            return line.removeprefix("url ").strip()
    raise AssertionError("the owner ended before its PostgreSQL was ready")


def psql(url: str, query: str, **user: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [embedded_binaries.wheel() / "pginstall18/bin/psql", url, "-Atc", query],
        env={"PGPORT": "1", "PGUSER": "nonsense", "PGHOST": "nowhere.invalid"},
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        **user,
    )


async def ask(url: str, query: str) -> Any:
    connection = await asyncpg.connect(url, timeout=5)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.02)


async def answers(url: str) -> bool:
    with suppress(OSError, asyncpg.PostgresError):
        return await ask(url, "SELECT true") is True
    return False


async def store_a_row(url: str) -> None:
    await ask(url, "CREATE TABLE kept AS SELECT 42 AS answer")


async def stored_row(url: str) -> object:
    return await ask(url, "SELECT answer FROM kept")


async def test_first_start_gives_a_durable_database_of_the_expected_kind(fresh_dir: Path) -> None:
    async with running(fresh_dir) as postgres:
        expected = {
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "data_checksums": "on",
            "listen_addresses": "",
            "server_encoding": "UTF8",
            "max_connections": "200",
            "TimeZone": "UTC",
        }
        for name, value in expected.items():
            assert await ask(postgres.url, f"SHOW {name}") == value, name
        assert str(await ask(postgres.url, "SHOW server_version")).startswith("18.")
        owner_name = "SELECT datdba::regrole::text FROM pg_database WHERE datname = current_database()"
        assert await ask(postgres.url, owner_name) == "triggers"
        assert await ask(postgres.url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False


async def test_the_first_rush_waits_for_no_file_of_the_write_ahead_log(fresh_dir: Path) -> None:
    wal = fresh_dir / "postgresql/cluster/pg_wal"
    current = "SELECT pg_walfile_name(pg_current_wal_lsn())"

    def files() -> dict[str, int]:
        return {entry.name: entry.inode() for entry in os.scandir(wal)}

    async with running(fresh_dir) as postgres:
        made, before = files(), await ask(postgres.url, current)
        await ask(
            postgres.url, "CREATE TABLE rush AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)"
        )
        after = await ask(postgres.url, current)
        assert int(after, 16) - int(before, 16) > 15
        used = {name: file for name, file in files().items() if before <= name <= after}
        assert used.items() <= made.items()  # a checkpoint may give older ones a new name meanwhile


async def test_nothing_listens_on_tcp_and_the_socket_is_private(data_dir: Path) -> None:
    async with running(data_dir):
        processes = processes_under(data_dir)
        assert postmaster_pid(data_dir) in [process.pid for process in processes]
        assert [c for process in processes for c in process.net_connections("inet")] == []
        assert mode(data_dir / "postgresql/socket") == 0o700
        assert mode(data_dir / "postgresql/cluster") == 0o700


async def test_postgres_sees_nothing_of_our_environment(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIGGERS_SECRET_KEY", "hidden")
    monkeypatch.setenv("PGOPTIONS", "-c jit=on")
    async with running(data_dir):
        seen = psutil.Process(postmaster_pid(data_dir)).environ()
    assert {"LC_ALL", "PATH"} <= seen.keys()
    assert {"TRIGGERS_SECRET_KEY", "PGOPTIONS", "HOME"}.isdisjoint(seen)


async def test_psql_understands_the_url_whatever_the_environment_says(data_dir: Path) -> None:
    async with running(data_dir) as postgres:
        said = psql(postgres.url, "SELECT current_user, current_database()")
    assert (said.stdout, said.stderr) == ("triggers|triggers\n", "")


async def test_no_variable_reaches_the_private_server(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variables reach neither this process nor the worker that inherits its environment."""
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "nonsense")
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGSSLNEGOTIATION", "direct")
    async with running(data_dir) as postgres:
        database = Database(postgres.url, pool_size=2)
        await database.open()
        row = await database.row("SELECT current_user")
        await database.close()
        assert row is not None
        assert row[0] == "triggers"
        environ = worker_process._environ(Settings(), postgres.url, "")
        assert VARIABLES.isdisjoint(environ)
    operators = worker_process._environ(Settings(database_url="postgresql://db/x"), "postgresql://db/x", "")
    assert operators.keys() >= VARIABLES, "which are for the operator's own database"


async def test_data_survives_a_restart_which_is_quick(data_dir: Path) -> None:
    async with running(data_dir) as postgres:
        await store_a_row(postgres.url)
    assert processes_under(data_dir) == []
    began = time.monotonic()
    async with running(data_dir) as postgres:
        assert time.monotonic() - began < 3
        assert await stored_row(postgres.url) == 42


async def test_a_second_start_is_refused_while_the_first_lives(data_dir: Path) -> None:
    async with running(data_dir) as postgres:
        with pytest.raises(DataDirectoryError, match=rf"in use by another.*process {os.getpid()}"):
            await EmbeddedPostgres(data_dir).start()
        assert await answers(postgres.url)
    async with running(data_dir) as postgres:
        assert await answers(postgres.url)


async def test_a_killed_postgres_comes_back_with_its_data(data_dir: Path) -> None:
    async with running(data_dir) as postgres:
        await store_a_row(postgres.url)
        for _ in range(2):
            killed = postmaster_pid(data_dir)
            os.kill(killed, signal.SIGKILL)
            await eventually(lambda: answers(postgres.url))
            assert postmaster_pid(data_dir) != killed
            assert await stored_row(postgres.url) == 42


async def test_a_busy_orphan_does_not_hold_up_the_restart(data_dir: Path) -> None:
    async with running(data_dir) as postgres:
        busy = await asyncpg.connect(postgres.url)
        orphan = busy.get_server_pid()
        counting = asyncio.create_task(busy.fetchval("SELECT count(*) FROM generate_series(1, 2000000000)"))

        async def has_begun() -> bool:
            active = "SELECT array_agg(pid) FROM pg_stat_activity WHERE state = 'active'"
            return orphan in await ask(postgres.url, active)

        await eventually(has_begun)
        os.kill(postmaster_pid(data_dir), signal.SIGKILL)
        await eventually(lambda: answers(postgres.url), seconds=5)
        with pytest.raises((OSError, asyncpg.PostgresError)):
            await counting
        assert orphan not in [process.pid for process in processes_under(data_dir)]


async def test_what_a_killed_owner_left_is_taken_over(data_dir: Path) -> None:
    with owner(data_dir) as process:
        url = await asyncio.to_thread(read_url, process)
        await store_a_row(url)
    left = postmaster_pid(data_dir)
    assert left in [process.pid for process in processes_under(data_dir)]
    began = time.monotonic()
    async with running(data_dir) as postgres:
        assert time.monotonic() - began < 3
        assert left not in [process.pid for process in processes_under(data_dir)]
        assert await stored_row(postgres.url) == 42


async def test_a_recorded_number_that_is_now_someone_elses_is_left_alone(data_dir: Path) -> None:
    async with running(data_dir) as postgres:
        await store_a_row(postgres.url)
    with process_of_the_same_user(data_dir) as bystander:
        stale = f"{bystander.pid}\n{data_dir}/postgresql/cluster\n1\n5432\n\n\n  1  1\nready\n"
        (data_dir / "postgresql/cluster/postmaster.pid").write_text(stale)
        (data_dir / "postgresql/socket/.s.PGSQL.5432.lock").write_text(stale)
        async with running(data_dir) as postgres:
            assert await stored_row(postgres.url) == 42
        assert bystander.poll() is None


async def test_the_data_of_another_major_is_refused_and_kept(data_dir: Path) -> None:
    version = data_dir / "postgresql/cluster/PG_VERSION"
    version.write_text("16\n")
    await is_refused(data_dir, r"made by PostgreSQL 16.*runs PostgreSQL 18")
    version.write_text("18\n")
    async with running(data_dir) as postgres:
        assert await answers(postgres.url)


async def test_a_cluster_that_lost_its_contents_is_not_made_anew(data_dir: Path) -> None:
    (data_dir / "postgresql/cluster/PG_VERSION").unlink()
    await is_refused(data_dir, "PG_VERSION is missing")


async def test_a_failed_start_tells_why_and_leaves_the_directory_free(data_dir: Path) -> None:
    settings = data_dir / "postgresql/cluster/postgresql.auto.conf"
    settings.write_text("shared_buffers = 'nonsense'\n")
    with pytest.raises(DataDirectoryError, match='invalid value for parameter "shared_buffers"'):
        await EmbeddedPostgres(data_dir).start()
    # This one is found out after the log has moved to its file.
    settings.write_text("")
    control = data_dir / "postgresql/cluster/global/pg_control"
    control.rename(control.with_suffix(".away"))
    with pytest.raises(DataDirectoryError, match=r"pg_control"):
        await EmbeddedPostgres(data_dir).start()
    control.with_suffix(".away").rename(control)
    async with running(data_dir) as postgres:
        assert await answers(postgres.url)


async def test_parents_keep_their_modes_and_what_is_made_is_private(place: Path) -> None:
    data_dir = place / "deep/down"
    parents = [place, *place.parents]
    os.chmod(place, 0o705)
    before = [mode(path) for path in parents]
    async with running(data_dir):
        pass
    assert [mode(path) for path in parents] == before
    assert os.listdir(place) == ["deep"]
    for made in (place / "deep", data_dir, data_dir / "postgresql"):
        assert mode(made) & 0o066 == 0


@by_root
async def test_root_hands_over_to_another_user_and_warns_if_others_are_that_user(
    fresh_dir: Path, logs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = pwd.getpwnam("nobody")
    users = {"postgres": nobody}
    monkeypatch.setattr(embedded_account.pwd, "getpwnam", users.__getitem__)
    async with running(fresh_dir):
        found = {uid for process in processes_under(fresh_dir) for uid in process.uids()}
        executable = Path(psutil.Process(postmaster_pid(fresh_dir)).exe())
    assert found == {nobody.pw_uid}
    assert executable.is_relative_to(fresh_dir)
    assert os.stat(executable).st_uid == 0, "whom PostgreSQL runs as cannot change what it runs"
    assert [line["user"] for line in logs if line["event"] == "postgres_user_is_shared"] == ["postgres"]
    # The user `triggers` is preferred, but the owner of existing data has priority.
    daemon = pwd.getpwuid(1)
    users["triggers"] = daemon
    assert Account.choose(fresh_dir / "nothing").uid == daemon.pw_uid
    assert Account.choose(fresh_dir / "postgresql/cluster").uid == nobody.pw_uid
    async with running(fresh_dir) as postgres:
        assert await answers(postgres.url)
        assert set(psutil.Process(postmaster_pid(fresh_dir)).uids()) == {nobody.pw_uid}
    assert [line["event"] for line in logs].count("postgres_user_is_shared") == 1, "there was data already"


@by_root
async def test_a_user_of_its_own_is_preferred(
    fresh_dir: Path, logs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    users = {"triggers": pwd.getpwuid(1), "postgres": pwd.getpwnam("nobody")}
    monkeypatch.setattr(embedded_account.pwd, "getpwnam", users.__getitem__)
    async with running(fresh_dir) as postgres:
        assert await answers(postgres.url)
        assert set(psutil.Process(postmaster_pid(fresh_dir)).uids()) == {1}
    assert "postgres_user_is_shared" not in [line["event"] for line in logs]


@by_root
async def test_no_process_of_another_user_gets_in(data_dir: Path) -> None:
    """Not even a process of PostgreSQL's own user can connect, although it can open the socket."""
    async with running(data_dir) as postgres:
        cluster = (data_dir / "postgresql/cluster").stat()
        for role in ("triggers", SUPERUSER):
            url = postgres.url.replace("user=triggers", f"user={role}")
            assert psql(url, "SELECT current_user").stdout == f"{role}\n"
            for user in (cluster.st_uid, 1):
                said = psql(url, "SELECT 1", user=user, group=cluster.st_gid, extra_groups=[])
                assert said.stdout == ""
                assert re.search("Peer authentication failed|Permission denied", said.stderr)
        await ask(postgres.url.replace("user=triggers", f"user={SUPERUSER}"), "CREATE ROLE other LOGIN")
        assert "no pg_hba.conf entry" in psql(postgres.url.replace("user=triggers", "user=other"), "").stderr


async def test_the_role_of_the_service_has_no_rights_beyond_its_database(data_dir: Path) -> None:
    async with running(data_dir) as postgres:
        await assert_no_rights(postgres.url)


async def assert_no_rights(url: str) -> None:
    rights = "rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls"
    assert await ask(url, f"SELECT {rights} FROM pg_roles WHERE rolname = current_user") is False


@contextmanager
def earlier_release(home: EmbeddedHome) -> Iterator[str]:
    """Serve a cluster in the way of earlier releases. Yields the URL of the superuser."""
    os.close(home.lock())
    programs = embedded_binaries.binaries(home.account, home.path)
    socket = home.path / "socket"
    home.account.make_directory(socket, private=True)
    made = embedded_account.unfinished_directory(home.path)
    home.account.hand_over(made)
    options = {"cwd": home.path, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    options |= home.account.process_options()
    initdb = [programs / "initdb", "-D", made, "-U", SUPERUSER, "--auth-local=trust", "--auth-host=reject"]
    locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    subprocess.run([*initdb, "--encoding=UTF8", *locale], check=True, **options)
    made.rename(home.cluster.path)
    served = [programs / "postgres", "-D", home.cluster.path, "-k", socket, "-c", "listen_addresses="]
    with subprocess.Popen(served, **options) as process:
        try:
            yield f"postgresql:///postgres?host={socket}&user={SUPERUSER}"
        finally:
            process.send_signal(signal.SIGINT)


async def test_a_data_directory_of_an_earlier_release_keeps_its_data_and_loses_trust(
    fresh_dir: Path,
) -> None:
    with earlier_release(EmbeddedHome(fresh_dir)) as trusted:
        await eventually(lambda: answers(trusted))
        await ask(trusted, "CREATE ROLE triggers LOGIN CREATEDB")
        await ask(trusted, "CREATE DATABASE triggers OWNER triggers")
        before = trusted.replace("/postgres?", "/triggers?").replace("user=postgres", "user=triggers")
        await migrate_only(Settings(), before)
        await store_a_row(before)
    async with running(fresh_dir) as postgres:
        assert await stored_row(postgres.url) == 42
        await migrate_only(Settings(), postgres.url)
        await assert_no_rights(postgres.url)
        rules = "SELECT array_agg(DISTINCT auth_method ORDER BY auth_method) FROM pg_hba_file_rules"
        assert await ask(postgres.url.replace("user=triggers", f"user={SUPERUSER}"), rules) == ["peer"]


def give_away(*paths: Path) -> None:
    """Make a user without a name the owner of these files."""
    subprocess.run(["/bin/chown", "-Rh", "12345:12345", *paths], check=True)


@by_root
async def test_a_user_without_a_name_has_a_password(data_dir: Path) -> None:
    """PostgreSQL cannot look up such a user's name. initdb needs a name too, so the data exists already."""
    nameless = (12345, 12345)
    home = data_dir / "postgresql"
    give_away(data_dir)
    urls = []
    for _ in range(2):
        with owner(data_dir, user=nameless) as process:
            urls.append(await asyncio.to_thread(read_url, process))
            for role in ("triggers", SUPERUSER):
                url = urls[-1].replace("user=triggers", f"user={role}")
                assert await ask(url, "SELECT current_user") == role
                with pytest.raises(asyncpg.InvalidPasswordError):
                    await ask(re.sub("password=.*", "password=wrong", url), "SELECT true")
    assert urls[0] == urls[1]
    assert mode(home / "password") == 0o600
    assert "trust" not in (home / "pg_hba.conf").read_text()


@by_root
async def test_the_copy_follows_the_wheels_version(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_binaries, "wheel_version", lambda: "9.9")
    async with running(data_dir) as postgres:
        assert await answers(postgres.url)
    assert [path.name for path in (data_dir / "postgresql").glob("binaries-*")] == ["binaries-9.9"]


@by_root
@pytest.mark.parametrize("closed", ["above", "data"])
async def test_a_parent_that_keeps_postgres_out_is_named_and_left_as_it_is(place: Path, closed: str) -> None:
    directory = place / closed
    directory.mkdir(mode=0o700)
    data_dir = directory / "data" if closed == "above" else directory
    await is_refused(data_dir, rf"cannot enter {directory}\. .*chmod o\+x {directory}`")
    assert mode(directory) == 0o700
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("below", ["", "data"])
async def test_a_file_in_place_of_a_directory_is_named(place: Path, below: str) -> None:
    (place / "file").write_text("mine")
    await is_refused(place / "file" / below, rf"^{place}/file is not a directory\.")
    assert (place / "file").read_text() == "mine"


@by_root
async def test_root_serves_the_data_of_any_user_but_not_its_own(data_dir: Path) -> None:
    """PostgreSQL runs as the owner of the data, whoever that is, and refuses to run as root."""
    home = data_dir / "postgresql"
    give_away(home / "socket", home / "log", home / "cluster")
    async with running(data_dir) as postgres:
        assert await answers(postgres.url)
        assert set(psutil.Process(postmaster_pid(data_dir)).uids()) == {12345}
    os.chown(home / "cluster", 0, 0)
    await is_refused(data_dir, r"belongs to user 0.*chown -R \d+:")


@by_root
async def test_the_data_of_another_user_is_refused(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner_of_data = (data_dir / "postgresql/cluster").stat().st_uid
    ours = Account("user 12345", 12345, 12345)
    monkeypatch.setattr(Account, "choose", lambda _: ours)
    await is_refused(data_dir, rf"belongs to user {owner_of_data}.*chown -R 12345:")


@by_root
async def test_an_ordinary_user_runs_it_from_the_wheel(place: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(place, nobody.pw_uid, nobody.pw_gid)
    data_dir = place / "data"
    user = (nobody.pw_uid, nobody.pw_gid)
    with owner(data_dir, user=user) as process:
        await asyncio.to_thread(read_url, process)
        with pytest.raises(DataDirectoryError, match=f"belongs to user {nobody.pw_uid}. Run this as that"):
            running_url(data_dir)
        postmaster = psutil.Process(postmaster_pid(data_dir))
        assert set(postmaster.uids()) == {nobody.pw_uid}
        assert not Path(postmaster.exe()).is_relative_to(place)
        assert list((data_dir / "postgresql").glob("binaries-*")) == []
        assert mode(data_dir) == 0o700
    with owner(data_dir, user=user) as process:  # this start takes over from the killed process
        await asyncio.to_thread(read_url, process)


@pytest.mark.parametrize("name", ["x" * 90 + "/" + "y" * 90, "a, b & 'c' + 100%"])
async def test_a_path_unfit_for_a_socket_gets_one_elsewhere(place: Path, name: str) -> None:
    data_dir = place / name
    async with running(data_dir) as postgres:
        await store_a_row(postgres.url)
        elsewhere = (data_dir / "postgresql/socket").readlink()
        assert mode(elsewhere) == 0o700
        assert running_url(data_dir) == postgres.url
    try:
        async with running(data_dir) as again:
            assert again.url == postgres.url
            assert await stored_row(again.url) == 42
        elsewhere.chmod(0o755)  # no longer private: not to be trusted, as after a reboot
        async with running(data_dir) as again:
            moved = (data_dir / "postgresql/socket").readlink()
            assert moved != elsewhere
            assert await stored_row(again.url) == 42
        moved.rmdir()
    finally:
        elsewhere.rmdir()


@pytest.mark.parametrize("stage", ["first files", pytest.param("after the binaries", marks=by_root)])
async def test_an_interrupted_first_start_is_made_good_by_the_next(fresh_dir: Path, stage: str) -> None:
    home = fresh_dir / "postgresql"

    async def has_come_so_far() -> bool:
        copied = stage == "first files" or any(home.glob("binaries-*"))
        return copied and any(home.glob(".unfinished-*/*"))

    with owner(fresh_dir):
        await eventually(has_come_so_far)
    assert not (home / "cluster").exists()
    async with running(fresh_dir) as postgres:
        assert await answers(postgres.url)
    assert processes_under(fresh_dir) == []


async def test_other_commands_find_the_one_that_runs(fresh_dir: Path) -> None:
    with pytest.raises(DataDirectoryError, match=f"No `triggers serve` is running in {fresh_dir}"):
        running_url(fresh_dir)
    async with running(fresh_dir) as postgres:
        assert running_url(fresh_dir) == postgres.url
        assert await answers(running_url(fresh_dir))
    with pytest.raises(DataDirectoryError, match="No `triggers serve`"):
        running_url(fresh_dir)


async def test_a_look_tells_what_a_start_would_find_and_changes_nothing(place: Path) -> None:
    data_dir = place / "data"
    assert inspect(data_dir) == DirectoryState(has_data=False, url=None)
    assert os.listdir(place) == []
    async with running(data_dir) as postgres:
        before = os.listdir(data_dir / "postgresql")
        assert inspect(data_dir) == DirectoryState(has_data=True, url=postgres.url)
        assert os.listdir(data_dir / "postgresql") == before
    assert inspect(data_dir) == DirectoryState(has_data=True, url=None)


async def test_where_nothing_can_be_made_is_refused() -> None:
    await is_refused(Path("/proc/nowhere"), r"^The data directory /proc/nowhere cannot be used")


async def test_a_check_reads_the_schema_of_the_one_that_runs(data_dir: Path) -> None:
    settings = Settings(data_dir=str(data_dir), port=0)

    async def database() -> str:
        return dict(await check_configuration(settings))["database"]

    assert (await database()).endswith(". It is not running, so its schema was not checked.")
    async with running(data_dir) as postgres:
        assert re.fullmatch(r"ok, .*: \d+ pending migrations", await database())
        await migrate_only(settings, postgres.url)
        assert (await database()).endswith(": schema up to date")
        await ask(postgres.url, "INSERT INTO schema_migrations VALUES (99, 'later', now())")
        assert (await database()).startswith("The database is at migration 99")


async def test_a_second_stop_hurries_and_costs_no_data(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir)
    await store_a_row(await postgres.start())
    await asyncio.gather(postgres.stop(), postgres.stop(immediate=True))
    assert processes_under(data_dir) == []
    async with running(data_dir) as postgres:
        assert await stored_row(postgres.url) == 42


@pytest.mark.parametrize("way", ["cancelled", "stopped"])
async def test_a_start_that_is_given_up_leaves_nothing_running(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    async def has_launched() -> bool:
        return (data_dir / "postgresql/cluster/postmaster.pid").exists()

    with monkeypatch.context() as forever_starting:
        forever_starting.setattr(Cluster, "is_ready", lambda *_: False)
        postgres = EmbeddedPostgres(data_dir)
        starting = asyncio.create_task(postgres.start())
        await eventually(has_launched)
        if way == "cancelled":
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
        else:
            await postgres.stop()
            with pytest.raises(OperatorError, match="Stopped while PostgreSQL was starting"):
                await starting
    assert processes_under(data_dir) == []
    async with running(data_dir) as postgres:
        assert await answers(postgres.url)


def test_a_serve_that_is_stopped_while_it_starts_has_done_as_it_was_told(fresh_dir: Path) -> None:
    command = [Path(sys.executable).with_name("triggers"), "serve", "--port", "0", "--data-dir", fresh_dir]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 15
        while not (fresh_dir / "postgresql/lock").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        said, wrong = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, b"")
    # Root is warned if it has no user of its own to run PostgreSQL as.
    assert [line for line in wrong.splitlines() if b"postgres_user_is_shared" not in line] == []
    assert processes_under(fresh_dir) == []


async def test_what_the_service_does_wrong_fills_no_log(data_dir: Path) -> None:
    async with running(data_dir) as postgres:
        with pytest.raises(asyncpg.UndefinedTableError):
            await ask(postgres.url, "SELECT 'a secret' FROM nowhere")
        superuser = postgres.url.replace("user=triggers", "user=postgres")
        with pytest.raises(asyncpg.UndefinedTableError):
            await ask(superuser, "SELECT 'a secret' FROM nowhere_else")
    logged = "".join(path.read_text() for path in (data_dir / "postgresql/log").glob("*.log"))
    assert 'relation "nowhere_else" does not exist' in logged
    assert 'relation "nowhere" does not exist' not in logged
    assert "secret" not in logged


def test_settings_fit_the_machine() -> None:
    gib = 1024**3
    small = fitting_settings(memory_bytes=gib // 2, free_disk_bytes=gib)
    assert (small["shared_buffers"], small["max_wal_size"]) == ("64MB", "256MB")
    large = fitting_settings(memory_bytes=256 * gib, free_disk_bytes=1000 * gib)
    assert (large["shared_buffers"], large["max_wal_size"]) == ("1024MB", "1024MB")


def test_where_data_goes_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_data_dir() == Path("/var/lib/triggers")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/home/ada/data")
    assert default_data_dir() == Path("/home/ada/data/triggers")
