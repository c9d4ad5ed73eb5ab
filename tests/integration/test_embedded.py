"""The embedded servers are ordinary processes that lose nothing and outlive nobody."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from runtime.directory import Directory, Identity, take_lock
from runtime.embedded import session
from runtime.ports import held

from .command_line import eventually, is_gone

IDENTITY = Identity(exchange="simulated", market="generated", seed=1, partitions=1)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to leave root")


@contextlib.contextmanager
def born() -> Iterator[Directory]:
    # Not pytest's own folder: its long path would never let the sockets lie inside.
    with tempfile.TemporaryDirectory(prefix="tidecast-") as folder:
        directory = Directory.create(Path(folder) / "var", IDENTITY)
        with held(directory.ports.values()):
            yield directory


@pytest.fixture(scope="module")
def directory() -> Iterator[Directory]:
    """A folder whose servers have been made once; every test starts and stops them."""
    with born() as directory:
        yield directory


@pytest.fixture
def fresh() -> Iterator[Directory]:
    """A folder without servers."""
    with born() as directory:
        yield directory


@contextlib.contextmanager
def server(name: session.ServerName, directory: Directory) -> Iterator[subprocess.Popen[bytes]]:
    """A server that the test may kill."""
    directory.make_folders()
    with (directory.log / f"{name}.log").open("ab") as log:
        process = session.start(name, directory, log=log)
        try:
            session.wait_until_up(name, directory, process)
            yield process
        finally:
            session.stop(name, process)


def test_acknowledged_rows_survive_the_death_of_postgres(directory: Directory) -> None:
    with server("postgres", directory) as process, psycopg.connect(directory.postgres_url) as connection:
        connection.execute("CREATE TABLE kept (n integer)")
        connection.execute("INSERT INTO kept SELECT generate_series(1, 1000)")
        connection.commit()
        process.kill()
    with server("postgres", directory), psycopg.connect(directory.postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1000,)


def test_acknowledged_entries_survive_the_death_of_redis(directory: Directory) -> None:
    with server("redis", directory) as process:
        client = redis.Redis.from_url(directory.redis_url)
        for number in range(100):
            client.xadd("stream", {"n": number}, id=f"0-{number + 1}")
        client.close()
        process.kill()
    with server("redis", directory):
        client = redis.Redis.from_url(directory.redis_url)
        assert client.xlen("stream") == 100
        client.close()


def test_both_servers_listen_on_loopback_only_and_want_their_password(directory: Directory) -> None:
    with server("postgres", directory) as postgres, server("redis", directory) as valkey:
        for process in (postgres, valkey):
            listening = [
                connection.laddr.ip
                for connection in psutil.Process(process.pid).net_connections("inet")
                if connection.status == psutil.CONN_LISTEN
            ]
            assert listening == ["127.0.0.1"]
        wrong = directory.postgres_url.replace(directory.postgres_password, "wrong")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(wrong)
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=directory.port("redis"), retry=None).ping()


def test_no_password_stands_on_a_command_line(directory: Directory) -> None:
    with server("postgres", directory) as postgres, server("redis", directory) as valkey:
        said = " ".join(psutil.Process(postgres.pid).cmdline() + psutil.Process(valkey.pid).cmdline())
        assert directory.postgres_password not in said
        assert directory.redis_password not in said


def test_postgres_is_as_durable_as_it_can_be(directory: Directory) -> None:
    with server("postgres", directory), psycopg.connect(directory.postgres_url) as connection:
        for name in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums"):
            assert connection.execute(f"SHOW {name}").fetchone() == ("on",)  # type: ignore[arg-type]


def test_an_initialisation_that_was_cut_short_is_made_again(fresh: Directory) -> None:
    torn = fresh.server_home / "postgres.new"
    (torn / "base").mkdir(parents=True)
    (torn / "PG_VERSION").write_text("18\n")
    with server("postgres", fresh):
        assert not torn.exists()


def test_a_second_server_waits_for_the_first_one_of_the_folder(directory: Directory) -> None:
    with server("postgres", directory) as first:
        second = session.start("postgres", directory)
        try:
            lock = os.open(directory.run / "postgres.lock", os.O_RDWR)
            assert not take_lock(lock, 0.0)
            os.close(lock)
            assert second.poll() is None
            session.stop("postgres", first)
            session.wait_until_up("postgres", directory, second)
        finally:
            session.stop("postgres", second)


def test_a_process_id_that_now_belongs_to_somebody_else_does_not_keep_postgres_from_starting(
    directory: Directory,
) -> None:
    with server("postgres", directory):
        pid_file = (directory.postgres_data / "postmaster.pid").read_text()
    # As after the power went: the file stayed, and its number was given to another process.
    stale = [str(os.getpid()), *pid_file.splitlines()[1:]]
    (directory.postgres_data / "postmaster.pid").write_text("\n".join(stale) + "\n")
    with server("postgres", directory):
        pass


@pytest.mark.parametrize("name", ["postgres", "redis"])
def test_a_server_ends_when_its_parent_is_killed(directory: Directory, name: session.ServerName) -> None:
    code = (
        "import sys, time; from pathlib import Path; from runtime.directory import Directory\n"
        "from runtime.embedded import session\n"
        f"directory = Directory.open(Path({str(directory.path)!r}))\n"
        f"process = session.start({name!r}, directory)\n"
        f"session.wait_until_up({name!r}, directory, process)\n"
        "print(process.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    assert eventually(lambda: is_gone(child))


@as_root
def test_the_servers_of_root_run_as_nobody_below_a_folder_that_is_closed_to_it(fresh: Directory) -> None:
    fresh.path.parent.chmod(0o700)
    with server("postgres", fresh) as postgres, server("redis", fresh) as valkey:
        for process in (postgres, valkey):
            assert psutil.Process(process.pid).username() == "nobody"
    assert fresh.path.stat().st_uid == 0


@as_root
def test_root_without_its_capability_moves_the_servers_to_where_nobody_can_reach(
    fresh: Directory,
) -> None:
    fresh.path.parent.chmod(0o700)
    closed = fresh.path.parent / "other"
    code = (
        "from pathlib import Path; from runtime.directory import Directory\n"
        "from runtime.embedded import session\n"
        f"directory = Directory.create(Path({str(closed)!r}))\n"
        "print(directory.server_home)\n"
        "with session.running('postgres', directory), session.running('redis', directory):\n"
        "    print('up')\n"
    )
    # What docker --cap-drop=DAC_OVERRIDE leaves of root.
    command = ["setpriv", "--bounding-set", "-dac_override", sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    home, *rest = result.stdout.split("\n")
    assert rest[:1] == ["up"], result.stderr + (closed / "log" / "postgres.log").read_text()
    assert home.startswith("/var/lib/tidecast/")
    subprocess.run(["rm", "-rf", home], check=True)


def test_binaries_that_are_not_there_are_named(directory: Directory) -> None:
    for name, variable in (("postgres", "TIDECAST_POSTGRES_BIN"), ("redis", "TIDECAST_REDIS_SERVER")):
        result = subprocess.run(
            [sys.executable, "-m", "runtime.embedded", name, str(directory.path)],
            env={**os.environ, variable: "/nowhere"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 1
        assert "/nowhere" in result.stderr
        assert variable in result.stderr


def test_servers_of_a_folder_with_a_long_name_start() -> None:
    # their sockets lie in a short folder elsewhere, which whoever starts them makes for them
    with tempfile.TemporaryDirectory(prefix="tidecast-") as base:
        directory = Directory.create(Path(base) / ("x" * 60) / ("y" * 60), IDENTITY)
        try:
            assert not directory.run.is_relative_to(directory.path)
            with session.running("redis", directory), session.running("postgres", directory, ["fsync=off"]):
                assert redis.Redis.from_url(directory.redis_url).ping()
                with psycopg.connect(directory.postgres_url) as connection:
                    assert connection.execute("SELECT 1").fetchone() == (1,)
        finally:
            shutil.rmtree(directory.run, ignore_errors=True)
