"""Run `tidecast replay` as a user does, and kill its processes as nobody should."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from cli.status import read_health
from exchanges.generator import GeneratedMarket
from runtime.directory import Directory
from runtime.stack import programs
from schemas.frames import MINUTE_MS

ROOT = Path(__file__).parent.parent.parent
START_MS = 1_700_000_040_000 // MINUTE_MS * MINUTE_MS
#: What to look for in a command line, by the kind of process.
KINDS = {
    "feature_calculator": "workers.feature_calculator",
    "ml_trainer": "workers.ml_trainer",
    "ml_inference": "workers.ml_inference",
    "forecaster": "workers.forecaster",
    "chart_monitor": "workers.chart_monitor",
    "exchange": "workers.simulated_exchange",
    "postgres": "postgres -D",
    "redis": "valkey-server",
    "training": "runtime.compute_process",
}
SETTINGS = """
[training]
window_size = 240
retrain_every_minutes = 180
rounds = 20
model_types = ["xgboost"]
[pipeline]
max_batch_minutes = 30
max_lag_minutes = 90
snapshot_minutes = 45
{more}
"""


def record(folder: Path, symbols: tuple[str, ...], minutes: int, halt: tuple[int, int] | None = None) -> Path:
    """Write a generated market as recorded candles; `halt` leaves minutes out for all symbols."""
    folder.mkdir()
    market = GeneratedMarket(symbols, seed=11, structure=0.3)
    for number, symbol in enumerate(symbols):
        candles = market.candles(symbol, START_MS, START_MS + (minutes - number * 7) * MINUTE_MS)
        if halt is not None:
            minute = (candles[:, 0] - START_MS) / MINUTE_MS
            candles = candles[(minute < halt[0]) | (minute >= halt[1])]
        columns = {"timestamp": pa.array(candles[:, 0].astype(np.int64), pa.timestamp("ms", "UTC"))}
        for column, name in enumerate(("open", "high", "low", "close", "volume"), start=1):
            columns[name] = pa.array(candles[:, column])
        pq.write_table(pa.table(columns), folder / f"{symbol}-1m.parquet")
    return folder


def settings_file(path: Path, more: str = "") -> Path:
    """Write settings that make a small replay go through everything a long one does."""
    path.write_text(SETTINGS.format(more=more))
    return path


#: What only keeps a test from hanging for ever: a busy machine may take many times as long as a quiet one.
PATIENCE_S = 1_200.0


def tidecast(*words: str | Path, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
    """Run a command that answers with JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *map(str, words), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@contextlib.contextmanager
def started(*words: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Start a command and end it whatever happens."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", *map(str, words), "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
        if process.poll() is None:
            process.kill()
            process.wait()


def find(launcher: subprocess.Popen[str], kind: str) -> psutil.Process | None:
    """Find the process of a kind below a launcher."""
    try:
        descendants = psutil.Process(launcher.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return None
    for process in descendants:
        with contextlib.suppress(psutil.Error):
            command = " ".join(process.cmdline())
            if KINDS[kind] in command and "lifeline" not in command and "supervisord" not in command:
                return process
    return None


def eventually(holds: Callable[[], bool], within_s: float = PATIENCE_S) -> bool:
    """Wait for a condition."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def all_workers_answer(folder: Path) -> bool:
    """Tell whether every worker in a folder says how it is."""
    if not Directory.exists(folder):
        return False
    directory = Directory.open(folder)
    workers = [program for program in programs(directory) if program.group == "workers"]
    return bool(workers) and all(read_health(directory, worker) is not None for worker in workers)


def reached_minute(folder: Path, worker: str) -> int:
    """Tell how many minutes of a recording a worker has processed; 0 while it does not say."""
    if not Directory.exists(folder):
        return 0
    directory = Directory.open(folder)
    for program in programs(directory):
        health = read_health(directory, program) if program.name == f"{worker}-0" else None
        if health is not None and health["last_event_time_ms"] is not None:
            return (int(health["last_event_time_ms"]) - START_MS) // MINUTE_MS + 1
    return 0


@dataclass(slots=True)
class Killer:
    """Kills processes of a replay at random moments until it ends.

    Attributes
    ----------
    kills
        By kind.
    """

    launcher: subprocess.Popen[str]
    random: Random
    kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))

    def run(self, *, rounds: int, pause_s: float) -> None:
        """Kill every kind once a round, in random order; a kind that is not there is tried at its turn.

        It begins with the first process that can be killed, however long the launcher takes to start one.
        """
        eventually(lambda: find(self.launcher, "redis") is not None or self.launcher.poll() is not None)
        for _ in range(rounds):
            kinds = list(KINDS)
            self.random.shuffle(kinds)
            for kind in kinds:
                if not self._wait(self.random.uniform(0.2, 1.0) * pause_s):
                    return
                victim = find(self.launcher, kind)
                if victim is not None:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        victim.kill()
                        self.kills[kind] += 1

    def _wait(self, seconds: float) -> bool:
        """Wait for the moment, or for the end; False at the end."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.launcher.wait(0.05)
                return False
        return True
