"""What one more minute costs, and what questions cost, as the tables grow."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg
import numpy as np

from cli.answer import progress
from cli.benches.base import filling
from cli.benches.base.bench import Sizes
from cli.benches.base.figure import Figure
from cli.benches.base.pipeline import folder_for_a_while
from cli.benches.base.replaying import FIRST_MS, names
from db.connect import connect
from db.copy import write
from db.migrate import migrate
from db.partitions import ensure_partitions
from db.repositories.overview import read_overview
from pipeline.stage import Rows
from runtime.directory import Directory
from runtime.embedded.session import running as server
from schemas.frames import MINUTE_MS

GIVES = ("growth_insert", "growth_query")
TAKES = "10 minutes, with --full several hours and 60 GB"
ON_REQUEST = True

_CANDLES = 5_000_000
_FULL_CANDLES = 50_000_000
#: As long as candles are kept by default; so many partitions has a table.
_DAYS = 35
#: One in so many symbols has rows in the other tables too.
_OTHERS_ONE_IN = 10
_SHARES = (0.03, 0.1, 0.25, 0.5, 1.0)
_TRIES = 15
_DAY_MS = 1_440 * MINUTE_MS
#: Minutes at the end of each day that are left free for what is measured.
_FREE_MINUTES = 60

_QUESTIONS: dict[str, str] = {
    "newest candle of a symbol": """
        SELECT * FROM "rollingChartData" WHERE symbol = $1 ORDER BY timestamp DESC LIMIT 1""",
    "a day of a symbol": """
        SELECT * FROM "rollingChartData" WHERE symbol = $1
        AND timestamp >= to_timestamp($2) - interval '1 day' AND timestamp < to_timestamp($2)""",
    "last hour of all symbols": """
        SELECT count(*), avg(close) FROM "rollingChartData"
        WHERE timestamp >= to_timestamp($2) - interval '1 hour' AND length($1) > 0""",
    "open forecasts of the last hour of a symbol": """
        SELECT * FROM "persistentForecasts" WHERE symbol = $1
        AND created_at > to_timestamp($2) - interval '1 hour' AND expires_at > to_timestamp($2)""",
    "accuracy of a day": """
        SELECT forecast_horizon, avg((predicted_value - actual_value) ^ 2) FROM "persistentForecasts"
        WHERE forecast_type = 'price_direction' AND created_at > to_timestamp($2) - interval '1 day'
        AND created_at <= to_timestamp($2) AND length($1) > 0 GROUP BY 1""",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What was measured at one size."""

    chart_rows: int
    forecast_rows: int
    insert_us_per_row: float
    settle_us_per_row: float
    question_ms: Mapping[str, float]

    @property
    def all_questions_ms(self) -> float:
        """The time to ask each question once."""
        return sum(self.question_ms.values())


def run(sizes: Sizes, wanted: Collection[str]) -> Iterator[Figure]:
    """Fill the tables day by day, and measure at some sizes on the way."""
    points = asyncio.run(_measure(sizes))
    first, last = points[0], points[-1]
    says = f"the same with {first.chart_rows:,} chart rows, in the same run"
    if "growth_insert" in wanted:
        yield Figure(
            name="growth_insert",
            value=last.insert_us_per_row,
            unit="us per row of a minute",
            reference=first.insert_us_per_row,
            says=says,
            more={"chart_rows": last.chart_rows, "curve": [_as_json(point) for point in points]},
        )
    if "growth_query" in wanted:
        yield Figure(
            name="growth_query",
            value=last.all_questions_ms,
            unit=f"ms for {len(last.question_ms)} questions",
            reference=first.all_questions_ms,
            says=says,
            more={"chart_rows": last.chart_rows, "curve": [_as_json(point) for point in points]},
        )


def _as_json(point: Point) -> dict[str, Any]:
    return {
        "chart_rows": point.chart_rows,
        "forecast_rows": point.forecast_rows,
        "insert_us_per_row": point.insert_us_per_row,
        "settle_us_per_row": point.settle_us_per_row,
        "question_ms": dict(point.question_ms),
    }


async def _measure(sizes: Sizes) -> list[Point]:
    candles = sizes.candles or (_FULL_CANDLES if sizes.full else _CANDLES)
    per_symbol_day = 1_440 - _FREE_MINUTES
    symbols = names(sizes.symbols or max(10, round(candles / (_DAYS * per_symbol_day))))
    days = max(len(_SHARES), round(candles / (len(symbols) * per_symbol_day)))
    others = symbols[: max(1, len(symbols) // _OTHERS_ONE_IN)]
    stops = {max(1, round(share * days)) for share in _SHARES}
    with folder_for_a_while("growth", sizes) as folder:
        directory = Directory.create(folder / "var").with_free_ports()
        with server("postgres", directory):
            migrate(directory.postgres_url)
            connection = await connect(directory.postgres_url)
            try:
                return await _grow(connection, symbols, others, days, stops)
            finally:
                await connection.close()


async def _grow(
    connection: asyncpg.Connection,
    symbols: tuple[str, ...],
    others: tuple[str, ...],
    days: int,
    stops: set[int],
) -> list[Point]:
    points = []
    for day in range(1, days + 1):
        from_ms = FIRST_MS + (day - 1) * _DAY_MS
        to_ms = from_ms + _DAY_MS - _FREE_MINUTES * MINUTE_MS
        await filling.fill(connection, symbols, others, from_ms, to_ms)
        if day in stops:
            progress.print(f"day {day} of {days}", markup=False)
            await connection.execute("ANALYZE")
            points.append(await _point(connection, symbols, others, to_ms))
    return points


async def _point(
    connection: asyncpg.Connection, symbols: tuple[str, ...], others: tuple[str, ...], free_ms: int
) -> Point:
    insert_us, settle_us = [], []
    for turn in range(_TRIES):
        at_ms = free_ms + turn * MINUTE_MS
        insert_us.append(await _timed(connection, filling.minute_of_rows(symbols, others, at_ms)))
        settle_us.append(await _timed(connection, [filling.outcomes(others, at_ms)]))
    now_s = free_ms / 1000
    question_ms = {"the overview": await _asked(lambda: read_overview(connection))}
    for name, query in _QUESTIONS.items():
        arguments = (others[0], now_s) if "$2" in query else (others[0],)

        async def ask(query: str = query, arguments: tuple[Any, ...] = arguments) -> None:
            await connection.fetch(query, *arguments)

        question_ms[name] = await _asked(ask)
    return Point(
        chart_rows=await connection.fetchval('SELECT count(*) FROM "rollingChartData"'),
        forecast_rows=await connection.fetchval('SELECT count(*) FROM "persistentForecasts"'),
        insert_us_per_row=statistics.median(insert_us),
        settle_us_per_row=statistics.median(settle_us),
        question_ms=question_ms,
    )


async def _timed(connection: asyncpg.Connection, parts: list[Rows]) -> float:
    for part in parts:
        await ensure_partitions(connection, part)
    started = time.perf_counter()
    async with connection.transaction():
        for part in parts:
            await write(connection, part)
    return 1e6 * (time.perf_counter() - started) / sum(len(part) for part in parts)


async def _asked(ask: Any) -> float:
    await ask()
    times = []
    for _ in range(_TRIES):
        started = time.perf_counter()
        await ask()
        times.append(1000 * (time.perf_counter() - started))
    return float(np.median(times))
