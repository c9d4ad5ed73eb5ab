"""`tidecast replay` and `tidecast evaluate` as a user runs them, over a market made up for the purpose."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pa_parquet

from cli.answer import progress
from cli.benches.base.bench import NotMeasuredError
from cli.benches.base.processes import descendants
from config.sources import without_settings
from exchanges.generator import KNOWN, GeneratedMarket
from exchanges.recording import VALUE_COLUMNS
from schemas.frames import MINUTE_MS

#: 2024-01-01T00:00Z.
FIRST_MS = 1_704_067_200_000
SEED = 7
_ROOT = Path(__file__).parents[3]
_LOOK_EVERY_S = 1.0
_END_WITHIN_S = 20.0


def names(count: int) -> tuple[str, ...]:
    """Name symbols: the usual ones first."""
    known = tuple(KNOWN)
    return known[:count] + tuple(f"C{number:04}USDT" for number in range(count - len(known)))


def record_market(folder: Path, symbols: Sequence[str], minutes: int, *, seed: int = SEED) -> None:
    """Write generated candles as a recording, a file a symbol."""
    folder.mkdir(parents=True, exist_ok=True)
    market = GeneratedMarket(symbols, seed=seed)
    for symbol in symbols:
        rows = market.candles(symbol, FIRST_MS, FIRST_MS + minutes * MINUTE_MS)
        columns: dict[str, Any] = {"timestamp": rows[:, 0].astype(np.int64).astype("datetime64[ms]")}
        columns |= {name: rows[:, place + 1] for place, name in enumerate(VALUE_COLUMNS)}
        pa_parquet.write_table(pa.table(columns), folder / f"{symbol}-1m.parquet")


async def replay(
    recording: Path,
    folder: Path,
    *,
    config: Path | None = None,
    look: Callable[[list[psutil.Process]], Awaitable[None]] | None = None,
) -> dict[str, Any]:
    """Replay a recording into a folder and give the summary; `look` sees the processes every second.

    Without settings of its own it trains XGBoost alone: what else is installed must not change the figure.

    Raises
    ------
    NotMeasuredError
        If it fails.
    """
    if config is None:
        config = folder.with_name(f"{folder.name}.toml")
        config.write_text('[training]\nmodel_types = ["xgboost"]\n', encoding="utf-8")
    return await answer_of("replay", recording, "--dir", folder, "--config", config, look=look)


async def answer_of(
    command: str, *more: str | Path, look: Callable[[list[psutil.Process]], Awaitable[None]] | None = None
) -> dict[str, Any]:
    """Run a command of ours in processes of its own, and give its answer.

    Raises
    ------
    NotMeasuredError
        If it fails.
    """
    words = [sys.executable, "-m", "runtime.lifeline", str(os.getpid())]
    words += [sys.executable, "-m", "cli.main", command, *map(str, more), "--json"]
    process = await asyncio.create_subprocess_exec(
        *words,
        cwd=_ROOT,
        env=without_settings(os.environ),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C goes to this process, which then ends that one
    )
    assert process.stdout is not None
    assert process.stderr is not None
    told = asyncio.create_task(_pass_on(process.stderr))
    answer = asyncio.create_task(process.stdout.read())
    looking = asyncio.create_task(_look(process.pid, look))
    try:
        await process.wait()
    finally:
        looking.cancel()
        await _end(process)
        await asyncio.gather(looking, return_exceptions=True)
    last = await told
    if process.returncode:
        raise NotMeasuredError(f"tidecast {command} ended with code {process.returncode}: {last}")
    summary: dict[str, Any] = json.loads(await answer)
    return summary


async def _look(pid: int, look: Callable[[list[psutil.Process]], Awaitable[None]] | None) -> None:
    while look is not None:
        await look([psutil.Process(pid), *descendants(pid)])
        await asyncio.sleep(_LOOK_EVERY_S)


async def _pass_on(lines: asyncio.StreamReader) -> str:
    last = ""
    async for line in lines:
        last = line.decode(errors="replace").rstrip() or last
        progress.print(f"  {last}", markup=False)
    return last


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), _END_WITHIN_S)
    except TimeoutError:
        process.kill()
        await process.wait()
