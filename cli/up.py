"""`tidecast up`: run everything in the foreground until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import asyncpg
import psycopg
import typer

from cli.answer import progress
from cli.folder import DEFAULT_FOLDER, ConfigOption, FolderOption, existing_folder, settings_for_start
from cli.screen import Screen
from config.ml_config import Settings
from config.redaction import redact
from db.migrate import migrate
from db.repositories import deployment
from runtime.atomic_file import write_atomically
from runtime.directory import Directory, Identity, make_folder
from runtime.servers import check_servers, servers_of
from runtime.stack import Plan, Stack, StackError, occupied, programs, settings_file

_SAY_AGAIN_AFTER_S = 10.0
_DETACHED_WAIT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _LastStart:
    """What a folder knows of its last start."""

    settings: Settings
    identity: Identity


def up(
    folder: FolderOption = DEFAULT_FOLDER,
    no_workers: Annotated[bool, typer.Option("--no-workers", help="Start just the servers.")] = False,
    exchange: Annotated[
        str | None, typer.Option("--exchange", help="simulated, binanceus, coinbase or bybit.")
    ] = None,
    speed: Annotated[
        str | None, typer.Option("--speed", help="Speed of the simulated market: 1, 60, max.")
    ] = None,
    config: ConfigOption = None,
    shards: Annotated[int, typer.Option("--shards", help="Processes per worker.", min=1, max=64)] = 1,
    detach: Annotated[bool, typer.Option("--detach", help="Go on in the background.")] = False,
) -> None:
    """Start the servers, the simulated exchange and the workers; Ctrl-C ends all of it."""
    # Empty strings are what `make run EXCHANGE=` hands on.
    overrides = {"market.exchange": exchange or None, "market.speed": speed or None}
    last = None
    if no_workers and config is None and not any(overrides.values()):
        last = _last_start(folder)
    settings = last.settings if last else settings_for_start(config, overrides)
    if detach:
        _in_background(folder)
        return
    identity = last.identity if last else None
    with occupied(folder, settings, "up", shards=shards, identity=identity) as directory:
        plan = Plan(
            directory=directory,
            settings=settings,
            workers=not no_workers,
            shards=shards,
            keep_settings=last is not None,
        )
        for notice in settings.notices():
            progress.print(notice, markup=False)
        asyncio.run(_until_told(plan))


def _last_start(folder: Path) -> _LastStart | None:
    """Read whose folder this is and how it was started last; None where it never was.

    Servers alone make no rows that could mix with others, so any folder's may be started.
    """
    if not Directory.exists(folder):
        return None
    directory = Directory.open(folder)
    if directory.identity is None or not settings_file(directory).exists():
        return None
    _, settings = existing_folder(folder, None)
    check_servers(settings.servers)
    return _LastStart(settings=settings, identity=directory.identity)


async def _until_told(plan: Plan) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    stack = Stack(plan)
    ready = _ready_file(plan.directory)
    # Left by a launcher that was killed.
    ready.unlink(missing_ok=True)
    stack.start()
    try:
        if await _prepare_database(stack, stop):
            write_atomically(ready, _ready_mark(os.getpid()), mode=0o644)
            await Screen(plan).show(stack.check, stop)
    finally:
        ready.unlink(missing_ok=True)
        progress.print("stopping", markup=False)
        # Nothing else has to happen meanwhile, and a second Ctrl-C must not cut it short.
        took_s = stack.stop()
        progress.print(f"stopped in {took_s:.1f} s", markup=False)


async def _prepare_database(stack: Stack, stop: asyncio.Event) -> bool:
    """Migrate as soon as the server answers; False if told to stop before."""
    servers = servers_of(stack.plan.directory, stack.plan.settings.servers)
    # The folder's own server is on its way; one by URL may not be.
    say_at = time.monotonic() + (_SAY_AGAIN_AFTER_S if servers.embedded_postgres else 0.0)
    while not stop.is_set():
        stack.check()
        # supervisord starts its programs a second after its own start, or when somebody talks to it.
        programs(stack.plan.directory)
        try:
            await asyncio.to_thread(migrate, servers.postgres_url)
            await _claim(servers.postgres_url, stack.plan.directory.identity)
        except (psycopg.OperationalError, OSError) as error:
            if time.monotonic() >= say_at:
                say_at = time.monotonic() + _SAY_AGAIN_AFTER_S
                progress.print(
                    f"waiting for PostgreSQL: {redact(' '.join(str(error).split()))}", markup=False
                )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.05 if servers.embedded_postgres else 1.0)
        else:
            return True
    return False


async def _claim(url: str, identity: Identity | None) -> None:
    # The folder has been asked already; a database by URL may have been filled from another folder.
    if identity is not None:
        connection = await asyncpg.connect(url)
        try:
            await deployment.claim(connection, identity)
        finally:
            await connection.close()


def _ready_file(directory: Directory) -> Path:
    return directory.run / "ready"


def _ready_mark(pid: int) -> str:
    return f"{pid}\n"


def _in_background(folder: Path) -> None:
    """Start the same command again, in a session of its own, and return once it is ready."""
    make_folder(folder)
    arguments = [word for word in sys.argv[1:] if word != "--detach"]
    with (folder / "launcher.log").open("wb") as log:
        launcher = subprocess.Popen(
            [sys.executable, "-m", "cli.main", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + _DETACHED_WAIT_S
    while not _is_ready(folder, launcher):
        if launcher.poll() is not None:
            said = (folder / "launcher.log").read_text(errors="replace").strip()
            progress.print(said, style="red", markup=False)
            raise typer.Exit(launcher.returncode or 1)
        if time.monotonic() > deadline:
            raise StackError(f"not ready after {_DETACHED_WAIT_S:g} s: see {folder / 'launcher.log'}")
        time.sleep(0.05)
    progress.print(
        f"running in the background (process {launcher.pid}); end it with `tidecast down`", markup=False
    )


def _is_ready(folder: Path, launcher: subprocess.Popen[bytes]) -> bool:
    if not Directory.exists(folder):
        return False
    directory = Directory.open(folder)
    holder = directory.holder()
    if holder is None or holder.pid != launcher.pid:
        return False
    try:
        # A launcher that was killed has left its own, until this one has come to remove it.
        return _ready_file(directory).read_text() == _ready_mark(launcher.pid)
    except FileNotFoundError:
        return False
