"""`tidecast down`: end what runs in a folder."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import psutil
import typer

from cli.answer import give_json, progress, say
from cli.folder import DEFAULT_FOLDER, FolderOption, JsonOption
from runtime.directory import Directory
from runtime.stack import KILL_AFTER_S, supervisor_pid

_KILL_AFTER_S = KILL_AFTER_S + 1.0
_GONE_WITHIN_S = 20.0


def down(folder: FolderOption = DEFAULT_FOLDER, as_json: JsonOption = False) -> None:
    """End everything that runs in the folder, within ten seconds."""
    directory = Directory.open(folder)
    started = time.monotonic()
    was_running = _is_running(directory)
    launcher = _launcher(directory)
    while _is_running(directory) and time.monotonic() - started < _KILL_AFTER_S:
        _ask(directory, signal.SIGTERM)
        _wait_until_gone(directory, started + _KILL_AFTER_S)
    if _is_running(directory):
        # Everything below a killed launcher ends by itself.
        _ask(directory, signal.SIGKILL)
        _wait_until_gone(directory, time.monotonic() + 5.0)
    stopped = not _is_running(directory)
    if stopped and launcher is not None:
        # it has let go of the folder, and may need a moment more to be gone
        _wait_for_end(launcher, time.monotonic() + _GONE_WITHIN_S)
    took_s = round(time.monotonic() - started, 2)
    if as_json:
        give_json({"was_running": was_running, "stopped": stopped, "seconds": took_s})
    elif not was_running:
        say(f"nothing runs in {directory.path}")
    elif stopped:
        say(f"stopped in {took_s:.1f} s")
    if not stopped:
        progress.print(f"something in {directory.path} does not end: see `tidecast status`", markup=False)
        raise typer.Exit(1)


def _launcher(directory: Directory) -> psutil.Process | None:
    holder = directory.holder()
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(holder.pid) if holder is not None else None
    return None


def _wait_for_end(process: psutil.Process, deadline: float) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        # Its parent may be gone too, and then perhaps nobody takes note of its end.
        while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            time.sleep(0.02)


def _is_running(directory: Directory) -> bool:
    return directory.holder() is not None or supervisor_pid(directory) is not None


def _ask(directory: Directory, number: signal.Signals) -> None:
    holder = directory.holder()
    # The launcher ends its supervisor in good order; a supervisor alone has lost its launcher.
    pid = holder.pid if holder is not None else supervisor_pid(directory)
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _wait_until_gone(directory: Directory, deadline: float) -> None:
    while _is_running(directory) and time.monotonic() < deadline:
        time.sleep(0.05)
