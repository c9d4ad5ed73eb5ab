"""`tidecast evaluate` over a month of six symbols: seconds, and the memory of all its processes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import psutil

from cli.benches.base.bench import Sizes
from cli.benches.base.figure import Figure
from cli.benches.base.pipeline import folder_for_a_while
from cli.benches.base.processes import pss_bytes
from cli.benches.base.replaying import answer_of, names, record_market

GIVES = ("evaluate", "evaluate_memory")
TAKES = "4 minutes"
ON_REQUEST = False

_SYMBOLS = 6
_DAYS = 30
_MB = 1e6
_ROOT = Path(__file__).parents[2]
_SAYS_SECONDS = (
    "reading the recording and computing its vectors alone, by the same code in a process of its own, without"
    " any training or scoring"
)
_SAYS_MEMORY = "the processes at their smallest, once the first training was under way"
#: Prints the seconds that the vectors of a recording take.
_VECTORS = """
import json, sys, time
from pathlib import Path
from cli.evaluate import history_of
from cli.folder import settings_for_start
from cli.recording import candles_of, chosen_symbols, recorded_at
path = Path(sys.argv[1])
began_s = time.monotonic()
settings = settings_for_start(None, recorded_at(path, chosen_symbols(path)))
history_of(settings, candles_of(settings), lambda done: None)
print(json.dumps(time.monotonic() - began_s))
"""


def run(sizes: Sizes, wanted: Collection[str]) -> Iterator[Figure]:
    """Evaluate XGBoost at four horizons with weekly trainings, on a generated recording."""
    with folder_for_a_while("evaluate", sizes) as folder:
        symbols = names(sizes.symbols or _SYMBOLS)
        minutes = max(1, (sizes.candles or _DAYS * 1440 * len(symbols)) // len(symbols))
        record_market(folder / "recording", symbols, minutes)
        yield from asyncio.run(_measure(folder / "recording"))


async def _measure(recording: Path) -> list[Figure]:
    taken: list[int] = []

    async def look(processes: list[psutil.Process]) -> None:
        taken.append(sum(pss_bytes(process.pid) or 0 for process in processes))

    began_s = time.monotonic()
    words = ("--families", "xgboost", "--horizons", "5,15,30,60")
    answer = await answer_of("evaluate", recording, *words, look=look)
    seconds = time.monotonic() - began_s
    busy = [size for size in taken if size > max(taken) / 4] if any(taken) else []
    return [
        Figure(
            name="evaluate",
            value=seconds,
            unit="s",
            reference=await asyncio.to_thread(_vectors_s, recording),
            bound=600,
            says=_SAYS_SECONDS,
            more={"trainings": len(answer["trainings"]), "told_seconds": answer["seconds"]},
        ),
        Figure(
            name="evaluate_memory",
            value=max(taken) / _MB if busy else None,
            unit="MB",
            reference=min(busy) / _MB if busy else None,
            bound=2_000,
            says=_SAYS_MEMORY,
            error=None if busy else "this system does not tell proportional set sizes",
        ),
    ]


def _vectors_s(recording: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _VECTORS, str(recording)],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(json.loads(done.stdout.splitlines()[-1]))
