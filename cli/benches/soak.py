"""Whether memory stays flat over a long replay."""

from __future__ import annotations

import asyncio
import math
import statistics
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from cli.benches.base.bench import NotMeasuredError, Sizes
from cli.benches.base.figure import Figure
from cli.benches.base.pipeline import folder_for_a_while
from cli.benches.base.processes import pss_by_part
from cli.benches.base.replaying import FIRST_MS, names, record_market, replay
from cli.benches.base.timing import slope
from runtime.directory import Directory
from runtime.drain import exchange_state
from schemas.frames import MINUTE_MS

GIVES = ("soak",)
TAKES = "15 minutes for a million candles"
ON_REQUEST = True

_SYMBOLS = 6
_CANDLES = 1_000_000
_MB = 1e6
#: Trainings come and go; what stays is judged.
_PASSING = ("training",)


@dataclass(slots=True)
class _Course:
    """Memory by how many candles were processed."""

    candles: list[float] = field(default_factory=list)
    parts: list[dict[str, int]] = field(default_factory=list)


def run(sizes: Sizes, wanted: Collection[str]) -> Iterator[Figure]:
    """Replay, and compare the memory of the end with that of the beginning."""
    with folder_for_a_while("soak", sizes) as folder:
        yield asyncio.run(_measure(sizes, folder))


async def _measure(sizes: Sizes, folder: Path) -> Figure:
    symbols = names(sizes.symbols or _SYMBOLS)
    candles = sizes.candles or _CANDLES
    record_market(folder / "recording", symbols, max(1, candles // len(symbols)))
    course = _Course()

    async def look(processes: list[psutil.Process]) -> None:
        try:
            url = f"http://127.0.0.1:{Directory.open(folder / 'var').port('exchange')}"
            state = await exchange_state(url)
        except Exception:  # noqa: BLE001  # before the folder and its exchange are there, nothing can be said
            return
        reached = state["acknowledged_ms"]
        assert isinstance(reached, int)
        done = max(0, (reached - FIRST_MS) // MINUTE_MS) * len(symbols)
        parts = pss_by_part(processes)
        if done and parts:
            course.candles.append(done)
            course.parts.append(parts)

    summary = await replay(folder / "recording", folder / "var", look=look)
    return judged(course.candles, course.parts, summary)


def judged(candles: Sequence[float], parts: Sequence[dict[str, int]], summary: dict[str, Any]) -> Figure:
    """Compare the last fifth with the second one; models are there and caches are full in both.

    Raises
    ------
    NotMeasuredError
        If the replay was over too soon.
    """
    sums = [sum(size for part, size in look.items() if part not in _PASSING) / _MB for look in parts]
    last = candles[-1] if candles else 0
    early = [mb for mb, done in zip(sums, candles, strict=True) if 0.2 * last <= done < 0.4 * last]
    late = [mb for mb, done in zip(sums, candles, strict=True) if done >= 0.8 * last]
    if len(early) < 2 or len(late) < 2:
        raise NotMeasuredError("the replay was over too soon to compare its parts: take more --candles")
    second_half = [place for place, done in enumerate(candles) if done >= 0.4 * last]
    names_of_parts = sorted({part for look in parts for part in look} - set(_PASSING))

    def rise(values: Sequence[float]) -> float:
        found = slope(
            [candles[place] / 1e6 for place in second_half], [values[place] for place in second_half]
        )
        return math.nan if found is None else found

    return Figure(
        name="soak",
        value=statistics.median(late),
        unit="MB",
        reference=statistics.median(early),
        bound=1.1,
        bound_of_ratio=True,
        says="the memory of the second fifth of the same replay; trainings under way are left out",
        more={
            "candles": summary["candles"],
            "seconds": summary["seconds"],
            "mb_per_million_candles": rise(sums),
            "parts_mb_per_million_candles": {
                part: rise([look.get(part, 0) / _MB for look in parts]) for part in names_of_parts
            },
            "most_mb": max(sums),
        },
    )
