"""The command line as a user starts it: real processes, and what is left of them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

TIDECAST = (sys.executable, "-m", "cli.main")
ROOT = Path(__file__).parents[2]
#: What only keeps a test from hanging for ever: a busy machine may take many times as long as a quiet one.
PATIENCE_S = 300.0


def tidecast(*words: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*TIDECAST, *map(str, words)],
        env=environment(environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


def answer(*words: str | Path) -> dict[str, Any]:
    """Run a command that succeeds, and read its JSON."""
    result = tidecast(*words, "--json")
    assert result.returncode == 0, result.stderr
    read: dict[str, Any] = json.loads(result.stdout)
    return read


def eventually(holds: Callable[[], bool], within_s: float = PATIENCE_S) -> bool:
    """Wait for a condition."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def processes_of(folder: Path) -> list[psutil.Process]:
    """Find every living process that belongs to a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            belongs = process.environ().get("STACK_DIR") == str(folder)
            if (belongs or str(folder) in process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def is_gone(process: psutil.Process) -> bool:
    """Tell whether a process has ended, whoever has to take note of that."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextlib.contextmanager
def up(folder: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `tidecast up --no-workers` until it is ready, and end it after the block."""
    command = [*TIDECAST, "up", "--no-workers", "--dir", str(folder), *words]
    with subprocess.Popen(
        command, env=environment({}), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as launcher:
        try:
            ready = folder / "run" / "ready"

            def is_ready() -> bool:
                # That of a launcher that was killed is removed by the next one, at any moment.
                with contextlib.suppress(FileNotFoundError):
                    return ready.read_text() == f"{launcher.pid}\n"
                return False

            assert eventually(lambda: is_ready() or launcher.poll() is not None)
            assert launcher.poll() is None, launcher.stderr.read() if launcher.stderr else ""
            yield launcher
        finally:
            if launcher.poll() is None:
                launcher.terminate()
            launcher.communicate(timeout=PATIENCE_S)


def environment(changes: dict[str, str]) -> dict[str, str]:
    """Give this process's environment without what would reach a pipeline, changed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TIDECAST_", "STACK_"))}
    return {**kept, **changes}
