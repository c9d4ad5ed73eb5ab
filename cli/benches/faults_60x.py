"""A live market at 60 times its speed that cuts, garbles, delays, refuses and revises: what is left of it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np

from cli.answer import progress
from cli.benches.base.bench import NotMeasuredError, Sizes
from cli.benches.base.figure import Figure
from cli.benches.base.pipeline import Pipeline, caught_up, running
from cli.benches.base.processes import pss_by_part
from cli.benches.base.replaying import names
from cli.benches.base.timing import slope
from db.connect import connect
from db.repositories import checkpoints
from runtime.drain import SERVICES
from schemas.frames import MINUTE_MS

GIVES = ("faults_completeness", "faults_exceptions", "faults_memory")
TAKES = "35 minutes"
ON_REQUEST = True

_SPEED = 60
_SYMBOLS = 6
_MINUTES = 30.0
_MB = 1e6
#: On all the time, at these chances for each frame, candle or request.
_CONSTANT: dict[str, dict[str, float]] = {
    "duplicates": {"probability": 0.02, "seed": 1},
    "disorder": {"probability": 0.01, "seed": 2},
    "revisions": {"probability": 0.003, "seed": 3},
    "missing": {"probability": 0.005, "seed": 4},
    "truncated": {"probability": 0.003, "seed": 5},
    "garbage": {"probability": 0.003, "seed": 6},
    "halt": {"probability": 0.002, "seed": 7},
    "5xx": {"probability": 0.03, "seed": 8},
    "slow": {"probability": 0.03, "delay_s": 0.5, "seed": 9},
    "truncated_rest": {"probability": 0.01, "seed": 10},
    "cut_rest": {"probability": 0.01, "seed": 11},
    "429": {"probability": 0.02, "delay_s": 1, "seed": 12},
}
#: One after the other, one every so many seconds.
_NOW_AND_THEN: tuple[dict[str, Any], ...] = (
    {"cut": {"count": 1}},
    {"silence": {"duration_s": 5}},
    {"418": {"count": 1, "delay_s": 2}},
    {"cut": {"duration_s": 5}},
    {"silence": {"duration_s": 3}, "cut": {"count": 1}},
)
_EVERY_S = 20.0
#: From the last fault until what was lost has to be back.
_SETTLE_S = 180.0
_TRACEBACK = re.compile(r"Traceback \(most recent call last\)")


@dataclass(slots=True)
class _Course:
    """Memory by wall minutes."""

    minutes: list[float] = field(default_factory=list)
    parts: list[dict[str, int]] = field(default_factory=list)


def run(sizes: Sizes, wanted: Collection[str]) -> Iterator[Figure]:
    """Switch faults on through the exchange's control side, then compare the tables with what it played."""
    for figure in asyncio.run(_measure(sizes)):
        if figure.name in wanted:
            yield figure


async def _measure(sizes: Sizes) -> list[Figure]:
    symbols = names(sizes.symbols or _SYMBOLS)
    minutes = sizes.minutes or _MINUTES
    settings = {"market.speed": str(_SPEED), "data.history_days": "0.5", "symbols": ",".join(symbols)}
    async with running("faults", sizes, settings) as pipeline:
        connection = await connect(pipeline.postgres_url)
        models = len(pipeline.settings.training.forecast_horizons)
        await pipeline.until(
            lambda: caught_up(pipeline, connection, models=models), what="the first models", at_most_s=300
        )
        course = _Course()
        progress.print(f"faults on for {minutes:g} minutes", markup=False)
        await _misbehave(pipeline, course, minutes)
        counts = (await pipeline.ask("/sim/faults", {"all": False}))["counts"]
        to_ms = int((await pipeline.ask("/sim/state"))["now_ms"]) // MINUTE_MS * MINUTE_MS
        settled_s = await _settle(pipeline, connection, to_ms)
        complete = await _compare(pipeline, connection, to_ms)
        exceptions = traces(pipeline.directory.log)
        errors = await _errors(connection)
        await connection.close()
    return _figures(
        complete, exceptions, course, {"faults": counts, "settled_s": settled_s, "errors_logged": errors}
    )


async def _misbehave(pipeline: Pipeline, course: _Course, minutes: float) -> None:
    await pipeline.ask("/sim/faults", _CONSTANT)
    began = time.monotonic()
    turns, said = 0, began
    while (passed_s := time.monotonic() - began) < 60 * minutes:
        pipeline.stack.check()
        course.minutes.append(passed_s / 60)
        course.parts.append(pss_by_part(pipeline.processes()))
        if passed_s >= _EVERY_S * (turns + 1):
            # Only these: what is on for good would begin its chances anew.
            await pipeline.ask("/sim/faults", _NOW_AND_THEN[turns % len(_NOW_AND_THEN)])
            turns += 1
        if time.monotonic() - said > 60:
            said = time.monotonic()
            progress.print(f"{passed_s / 60:.0f} of {minutes:g} minutes", markup=False)
        await asyncio.sleep(2)


async def _settle(pipeline: Pipeline, connection: asyncpg.Connection, to_ms: int) -> float:
    async def is_settled() -> bool:
        places = await checkpoints.progress(connection, SERVICES)
        reached = [place.event_time_ms or 0 for place in places.values() if place is not None]
        return len(reached) == len(SERVICES) and min(reached) >= to_ms - MINUTE_MS

    return await pipeline.until(is_settled, what="the rest of the candles", at_most_s=_SETTLE_S)


async def _compare(pipeline: Pipeline, connection: asyncpg.Connection, to_ms: int) -> dict[str, Any]:
    """Hold the chart against what the exchange says it played, minute by minute."""
    expected = found = different = forecast = 0
    missing: list[str] = []
    for symbol in pipeline.settings.symbols:
        truth = await pipeline.ask(f"/sim/candles?symbol={symbol}&to={to_ms}")
        played = {int(row[0]): [float(value) for value in row[1:6]] for row in truth}
        rows = await connection.fetch(
            """
            SELECT (EXTRACT(EPOCH FROM timestamp) * 1000)::bigint AS minute, open, high, low, close, volume
            FROM "rollingChartData" WHERE symbol = $1 AND timestamp < to_timestamp($2 / 1000.0)
            """,
            symbol,
            to_ms,
        )
        have = {
            row["minute"]: [float(row[name]) for name in ("open", "high", "low", "close", "volume")]
            for row in rows
        }
        expected += len(played)
        found += len(played.keys() & have.keys())
        different += sum(
            not np.allclose(have[minute], played[minute], rtol=1e-9, atol=1e-7)
            for minute in played.keys() & have.keys()
        )
        missing += [f"{symbol} {minute}" for minute in sorted(played.keys() - have.keys())[:3]]
        forecast += await connection.fetchval(
            'SELECT count(DISTINCT created_at) FROM "persistentForecasts" WHERE symbol = $1', symbol
        )
    if not expected:
        raise NotMeasuredError("the exchange has played nothing")
    return {
        "expected": expected,
        "found": found,
        "different_values": different,
        "some_missing": missing,
        "forecast_minutes": forecast,
    }


async def _errors(connection: asyncpg.Connection) -> dict[str, int]:
    rows = await connection.fetch(
        """
        SELECT category || '/' || COALESCE(subcategory, '') AS kind, count(*) AS lines FROM "systemLogs"
        WHERE level IN ('error', 'critical') GROUP BY 1 ORDER BY 2 DESC LIMIT 20
        """
    )
    return {row["kind"]: row["lines"] for row in rows}


def traces(folder: Path) -> dict[str, int]:
    """Count the stack traces in log files, by file; files without are left out."""
    counts = {
        path.name: len(_TRACEBACK.findall(path.read_text(encoding="utf-8", errors="replace")))
        for path in sorted(folder.glob("*.log*"))
    }
    return {name: count for name, count in counts.items() if count}


def _figures(
    complete: dict[str, Any], exceptions: dict[str, int], course: _Course, more: dict[str, Any]
) -> list[Figure]:
    sums = [sum(size for part, size in look.items() if part != "training") / _MB for look in course.parts]
    # The first fifth fills caches.
    warm = len(sums) // 5
    rise = slope([minutes / 60 for minutes in course.minutes[warm:]], sums[warm:])
    third = max(1, (len(sums) - warm) // 3)
    early, late = float(np.median(sums[warm : warm + third])), float(np.median(sums[-third:]))
    return [
        Figure(
            name="faults_completeness",
            value=100 * complete["found"] / complete["expected"],
            unit="% of minutes",
            reference=100.0,
            bound=100,
            at_least=True,
            says="every minute that the exchange says it played, with its final values",
            more={**complete, **more},
        ),
        Figure(
            name="faults_exceptions",
            value=float(sum(exceptions.values())),
            unit="stack traces",
            bound=0,
            says="none: there shall be no stack trace in any log",
            more={"by_file": exceptions},
        ),
        Figure(
            name="faults_memory",
            value=late,
            unit="MB",
            reference=early,
            bound=1.1,
            bound_of_ratio=True,
            says="the memory of the first third of the time, once caches are warm; trainings are left out",
            more={"mb_per_hour": rise, "most_mb": max(sums)},
        ),
    ]
