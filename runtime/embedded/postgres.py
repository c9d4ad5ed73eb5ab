"""Become the embedded PostgreSQL of a folder: make its cluster when needed, leave root, exec the server.

The process id stays the same, so that a supervisor sees, signals and reaps the real server.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from runtime import account
from runtime.directory import DATABASE, Directory
from runtime.embedded.binaries import postgres_bin, within_reach
from runtime.embedded.lock import hold_until_death
from runtime.lifeline import die_with_parent

#: What differs from PostgreSQL's own defaults. Durability is complete: fsync, synchronous_commit and
#: full_page_writes stay on.
SETTINGS: dict[str, str] = {
    "shared_buffers": "128MB",
    "max_connections": "100",
    # Bulk writes of a replay would otherwise force a checkpoint every few seconds.
    "max_wal_size": "2GB",
    "min_wal_size": "256MB",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    # pglz, all that this build has, took 10% longer for 9% less WAL (300,000 rows by COPY, some updated).
    "wal_compression": "off",
    # One statement over a table with a partition a day locks all of them and their indexes.
    "max_locks_per_transaction": "256",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
}


def run(directory: Directory, extra: Sequence[str] = ()) -> NoReturn:
    """Become the server; `extra` are further `name=value` settings.

    SIGINT ends it fast; SIGTERM waits for clients. It dies with its parent.
    """
    binaries = within_reach(postgres_bin())
    data = directory.postgres_data
    directory.make_folders()
    hold_until_death(directory.run / "postgres.lock")
    account.own_folders((directory.sockets,))
    if not data.exists():
        _initialise(directory, binaries, data)
    account.own_folders((data,))
    account.leave_root()
    die_with_parent(signal.SIGINT)
    _remove_stale_pid(data)
    os.chdir(data)
    arguments = server_arguments(directory, binaries, extra)
    os.execv(arguments[0], arguments)  # noqa: S606  # no shell is wanted


def server_arguments(directory: Directory, binaries: Path, extra: Sequence[str] = ()) -> list[str]:
    """Write the command line of the server; later settings win."""
    settings = {
        **SETTINGS,
        **_shared_memory(),
        "listen_addresses": "127.0.0.1",
        "port": str(directory.port("postgres")),
        "unix_socket_directories": str(directory.sockets),
        **dict(each.split("=", 1) for each in extra),
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return [str(binaries / "postgres"), "-D", str(directory.postgres_data), *options]


def _shared_memory() -> dict[str, str]:
    # Containers often have 64 MB of /dev/shm, in which parallel queries fail.
    try:
        status = os.statvfs("/dev/shm")  # noqa: S108  # asked for its size only
    except OSError:
        return {}
    too_small = status.f_blocks * status.f_frsize < 256 * 1024**2
    return {"dynamic_shared_memory_type": "mmap"} if too_small else {}


def _initialise(directory: Directory, binaries: Path, data: Path) -> None:
    # Made beside its final name and renamed when complete: whatever is cut short is simply made again.
    new = data.with_name(f"{data.name}.new")
    account.own_folders((new,))
    child = os.fork()
    if child == 0:
        try:
            account.leave_root()
            die_with_parent(signal.SIGKILL)
            for torn in new.iterdir():
                shutil.rmtree(torn) if torn.is_dir() else torn.unlink()
            _make_cluster(directory, binaries, new)
        except BaseException as error:  # noqa: BLE001  # the child must never return into the parent's code
            print(f"the PostgreSQL cluster could not be made: {error!r}", file=sys.stderr, flush=True)  # noqa: T201
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(os.waitstatus_to_exitcode(status) or 1)
    new.rename(data)


def _make_cluster(directory: Directory, binaries: Path, new: Path) -> None:
    with tempfile.NamedTemporaryFile("w", dir=directory.sockets, suffix=".password") as password:
        password.write(directory.postgres_password)
        password.flush()
        subprocess.run(
            [
                str(binaries / "initdb"),
                f"--pgdata={new}",
                f"--username={DATABASE}",
                "--encoding=UTF8",
                *_by_version(major_version(binaries)),
                "--auth-local=scram-sha-256",
                "--auth-host=scram-sha-256",
                f"--pwfile={password.name}",
            ],
            check=True,
            cwd=new,
            stdout=sys.stderr,
        )
    subprocess.run(
        [str(binaries / "postgres"), "--single", "-D", str(new), "postgres"],
        input=f"CREATE DATABASE {DATABASE};\n",
        text=True,
        check=True,
        cwd=new,
        stdout=subprocess.DEVNULL,
    )


def major_version(binaries: Path) -> int:
    """Ask a `postgres` binary for its major version.

    Raises
    ------
    OSError
        If it does not tell.
    """
    answer = subprocess.run(
        [str(binaries / "postgres"), "--version"], capture_output=True, text=True, check=False
    )
    found = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    if found is None:
        raise OSError(
            f"{binaries / 'postgres'} tells no version: {(answer.stderr or answer.stdout).strip()!r}"
        )
    return int(found[1])


def _by_version(major: int) -> list[str]:
    # Text is ordered by code points, whatever becomes of the system's C library.
    words = ["--locale=C", "--data-checksums"]
    if major >= 14:
        words.append("--no-instructions")
    if major >= 17:
        # Knows upper and lower case beyond ASCII, too.
        words += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return words


def _remove_stale_pid(data: Path) -> None:
    # The lock says that no server of this folder lives. After a restart of the machine its old process id may
    # belong to somebody else, and PostgreSQL would take that one for a running server and refuse for ever.
    file = data / "postmaster.pid"
    try:
        pid = int(file.read_text().split()[0])
    except (FileNotFoundError, ValueError, IndexError):
        return
    try:
        lives_here = Path(f"/proc/{pid}/cwd").resolve(strict=True) == data.resolve()
    except OSError:
        lives_here = not Path("/proc/self").exists()
    if not lives_here:
        file.unlink(missing_ok=True)
