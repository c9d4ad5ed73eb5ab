"""All processes of a pipeline under one supervisor: started together, gone together.

The supervisor is a child of this process and dies with it; this process adopts whatever loses its parent, so
that `stop` can end all of it. `Stack` is used under the folder's lock.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport

from config.errors import EX_CONFIG, ConfigurationError, Mistake
from config.ml_config import Settings
from config.sources import without_settings
from config.toml_writer import as_toml
from runtime.atomic_file import write_atomically
from runtime.attendant import Attendant
from runtime.directory import Directory, DirectoryError, Identity
from runtime.identity import identity_of
from runtime.lifeline import adopt_orphans
from runtime.ports import held

ROOT = Path(__file__).parent.parent
CONFIGURATION = ROOT / "supervisor.conf"
#: From the request to end until whatever is left is killed.
KILL_AFTER_S = 9.0
_LEFTOVER_WAIT_S = 10.0


class StackError(Exception):
    """The processes could not be started, or ended by themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One supervised process.

    Attributes
    ----------
    name
        Such as `postgres` or `forecaster-0`.
    group
        `servers` or `workers`.
    state
        In supervisord's words: RUNNING, STARTING, BACKOFF, STOPPED, EXITED, FATAL, STOPPING.
    pid
        0 while it does not run.
    exit_code
        Of its last life.
    up_s
        How long it has been running.
    started_s
        When it was started last, in seconds since 1970 UTC; 0 before the first time.
    """

    name: str
    group: str
    state: str
    pid: int
    exit_code: int
    up_s: float
    started_s: int = 0

    @property
    def has_ended_for_good(self) -> bool:
        """Whether the supervisor will not start it again.

        EXITED alone does not say so: it is also what a killed program is for the moment until its restart.
        """
        return self.state == "FATAL" or (self.state == "EXITED" and self.exit_code == EX_CONFIG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run in a folder.

    Attributes
    ----------
    directory, settings
        The workers get these settings as `settings.toml` in the folder.
    workers
        False for just the servers (and no simulated exchange).
    shards
        Processes per worker.
    keep_settings
        Leave `settings.toml` as it is: the settings were read from it.
    """

    directory: Directory
    settings: Settings
    workers: bool = True
    shards: int = 1
    keep_settings: bool = False

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Everything `supervisor.conf` and the processes need, on top of the given environment."""
        directory, servers = self.directory, self.settings.servers
        worker = ["--config", str(settings_file(directory)), "--dir", str(directory.path)]
        return {
            **without_settings(environ),
            "STACK_DIR": str(directory.path),
            "STACK_FOLDER": shlex.quote(str(directory.path)),
            "STACK_LOG": str(directory.log),
            "STACK_RUN": str(directory.run),
            "STACK_PYTHON": shlex.quote(sys.executable),
            "STACK_POSTGRES": _flag(servers.postgres_url is None),
            "STACK_REDIS": _flag(servers.redis_url is None),
            "STACK_SIMULATED": _flag(self.workers and self.settings.market.is_simulated),
            "STACK_WORKERS": _flag(self.workers),
            "STACK_SHARDS": str(self.shards),
            "STACK_WORKER_ARGUMENTS": shlex.join(worker),
            "STACK_EXCHANGE_ARGUMENTS": shlex.join([*worker, "--port", str(directory.port("exchange"))]),
            # What a worker prints shows up in its log at once.
            "PYTHONUNBUFFERED": "1",
        }

    def settled(self) -> Settings:
        """Complete the settings for the workers: with the simulated exchange's address."""
        market = self.settings.market
        if not market.is_simulated or market.base_url is not None:
            return self.settings
        address = f"http://127.0.0.1:{self.directory.port('exchange')}"
        return self.settings.model_copy(update={"market": market.model_copy(update={"base_url": address})})


@dataclass(slots=True)
class Stack:
    """The running processes of a plan."""

    plan: Plan
    _supervisor: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _attendant: Attendant = field(init=False)

    def __post_init__(self) -> None:
        self._attendant = Attendant(partial(_living, self.plan.directory))

    def start(self) -> None:
        """Start everything and return; what needs a server waits for it."""
        directory = self.plan.directory
        directory.make_folders()
        if not self.plan.keep_settings:
            write_atomically(settings_file(directory), as_toml(self.plan.settled()), mode=0o644)
        adopt_orphans()
        command = [sys.executable, "-m", "runtime.lifeline", str(os.getpid()), sys.executable]
        command += ["-m", "supervisor.supervisord", "-n", "-c", str(CONFIGURATION)]
        if os.geteuid() == 0:
            command += ["-u", "root"]
        with (directory.log / "supervisord.log").open("ab") as log:
            self._supervisor = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.plan.environment(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a terminal's Ctrl-C reaches only this process, which then stops all
            )
        self._attendant.start()

    @property
    def exit_code(self) -> int | None:
        """How the supervisor ended; None while it lives."""
        return self._supervisor.poll() if self._supervisor else None

    def check(self) -> None:
        """Raise if the supervisor has ended.

        Raises
        ------
        StackError
            If it has.
        """
        if self.exit_code is not None:
            log = self.plan.directory.log / "supervisord.log"
            raise StackError(f"supervisord ended with code {self.exit_code}: see {log}")

    def stop(self, kill_after_s: float = KILL_AFTER_S) -> float:
        """End everything, by force what is still there after `kill_after_s`; returns the seconds it took."""
        started = time.monotonic()
        self._attendant.stop()
        supervisor = self._supervisor
        if supervisor is None:
            return 0.0
        if supervisor.poll() is None:
            supervisor.terminate()
        while supervisor.poll() is None and time.monotonic() - started < kill_after_s:
            # supervisord looks at its children once a second, or when somebody talks to it.
            programs(self.plan.directory)
            with contextlib.suppress(subprocess.TimeoutExpired):
                supervisor.wait(0.05)
        left = kill_after_s - (time.monotonic() - started)
        end_descendants(max(0.0, left) if supervisor.poll() is not None else 0.0)
        supervisor.wait()
        self._supervisor = None
        return time.monotonic() - started


def settings_file(directory: Directory) -> Path:
    """Where the settings of the last start stand, secrets left out."""
    return directory.path / "settings.toml"


def programs(directory: Directory) -> list[Program]:
    """Ask the folder's supervisor for its processes; empty where none answers."""
    try:
        rows: Any = _proxy(directory).supervisor.getAllProcessInfo()
    except (OSError, xmlrpc.client.Error):
        return []
    return [
        Program(
            name=row["name"],
            group=row["group"],
            state=row["statename"],
            pid=row["pid"],
            exit_code=row["exitstatus"],
            up_s=float(row["now"] - row["start"]) if row["statename"] == "RUNNING" else 0.0,
            started_s=int(row["start"]),
        )
        for row in rows
    ]


def _living(directory: Directory) -> tuple[set[int], bool]:
    """Name the living processes, and say whether one has died and is not back yet."""
    rows = programs(directory)
    return {row.pid for row in rows if row.pid}, any(
        row.state == "EXITED" and not row.has_ended_for_good for row in rows
    )


def start_programs(directory: Directory, names: Sequence[str]) -> None:
    """Start processes that were stopped; names are `group:name`.

    Raises
    ------
    StackError
        If the supervisor does not answer or refuses.
    """
    _each(directory, "startProcess", names)


def stop_programs(directory: Directory, names: Sequence[str]) -> None:
    """Stop processes for good; names are `group:name`.

    Raises
    ------
    StackError
        If the supervisor does not answer or refuses.
    """
    _each(directory, "stopProcess", names)


def _each(directory: Directory, method: str, names: Sequence[str]) -> None:
    supervisor = _proxy(directory).supervisor
    for name in names:
        try:
            getattr(supervisor, method)(name)
        except (OSError, xmlrpc.client.Error) as error:
            raise StackError(f"supervisord did not {method} {name}: {error}") from error


def _proxy(directory: Directory) -> xmlrpc.client.ServerProxy:
    socket = f"unix://{directory.run / 'supervisor.sock'}"
    return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=SupervisorTransport(None, None, socket))


def end_descendants(grace_s: float) -> None:
    """End every descendant of this process: asked at first, killed after `grace_s`."""
    descendants = psutil.Process().children(recursive=True)
    for process in descendants:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(descendants, timeout=grace_s)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    # They are gone as soon as the kernel comes to it, which takes a moment on a busy machine.
    psutil.wait_procs(alive, timeout=5.0)


def supervisor_pid(directory: Directory) -> int | None:
    """Find the live supervisor of a folder, also one whose launcher was killed."""
    try:
        pid = int((directory.run / "supervisord.pid").read_text())
        process = psutil.Process(pid)
        ours = process.environ().get("STACK_DIR") == str(directory.path)
        return pid if ours and process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, ValueError, psutil.Error):
        return None


def _wait_for_leftovers(directory: Directory) -> None:
    # A supervisor whose launcher was killed ends by itself, a moment later.
    deadline = time.monotonic() + _LEFTOVER_WAIT_S
    while (pid := supervisor_pid(directory)) is not None:
        if time.monotonic() > deadline:
            raise StackError(f"process {pid} of an earlier run does not end: kill it")
        time.sleep(0.05)


@contextlib.contextmanager
def occupied(
    path: Path,
    settings: Settings,
    purpose: str,
    *,
    shards: int = 1,
    market: str | None = None,
    identity: Identity | None = None,
) -> Iterator[Directory]:
    """Hold a folder for these settings, made if it is new, with nothing of an earlier run left in it.

    Parameters
    ----------
    path, settings
        Where, and for which market.
    purpose
        The command, for whoever finds the folder locked; `up` and `replay` let others use the servers.
    shards
        Processes per worker, each of which needs a port.
    market
        See `identity_of`.
    identity
        Whose folder it is, where that is not read off the settings: of a start that makes no rows.

    Raises
    ------
    runtime.directory.DirectoryError
        If the folder cannot be used, is in use, or belongs to another market.
    ConfigurationError
        If there are more shards than partitions.
    StackError
        If processes of an earlier run do not end.
    """
    if identity is None:
        _check_recorded_path(settings)
        _check_shards(settings, shards)
        identity = identity_of(settings, market)
    directory = Directory.create(path, identity)
    with directory.lock(purpose):
        _wait_for_leftovers(directory)
        directory = directory.with_free_ports(shards, settings.pipeline.health_port_base)
        with held(directory.ports.values()):
            yield directory


def _check_shards(settings: Settings, shards: int) -> None:
    partitions = settings.pipeline.partitions
    if shards > partitions:
        problem = (
            f"{shards} processes a worker (--shards) need as many partitions at least, the others would have"
            " nothing to do: set it to that or more before the folder's first start, or take fewer shards"
        )
        raise ConfigurationError([Mistake(key="pipeline.partitions", value=str(partitions), problem=problem)])


def _check_recorded_path(settings: Settings) -> None:
    recorded = settings.market.recorded_path
    if recorded is not None and not recorded.is_dir():
        what = "is a file" if recorded.exists() else "does not exist"
        raise DirectoryError(f"{recorded} {what}: market.recorded_path names a folder of recorded candles")


def _flag(value: bool) -> str:
    return "true" if value else "false"
