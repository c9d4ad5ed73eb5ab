"""A thousand symbols close in the same minute: how long until the last forecast of them all is committed."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Collection, Iterator
from datetime import UTC, datetime

import asyncpg

from cli.answer import progress
from cli.benches.base.bench import NotMeasuredError, Sizes
from cli.benches.base.commits import forecast_commits, watching
from cli.benches.base.copying import copied_again
from cli.benches.base.figure import Figure
from cli.benches.base.frames import FrameWatch
from cli.benches.base.pipeline import Pipeline, caught_up, running
from cli.benches.base.processes import CpuWatch
from cli.benches.base.replaying import names
from db.connect import connect
from schemas.frames import MINUTE_MS

GIVES = ("burst_1000",)
TAKES = "8 minutes"
ON_REQUEST = False

_SYMBOLS = 1_000
_MINUTES = 2.0
#: A minute passes in ten seconds, so that one burst is over before the next.
_SPEED = 6
#: Pooled models are there after this much of the history.
_WINDOW_MINUTES = 120
_HISTORY_DAYS = 0.11
_WARM_UP_S = 1_200
_SAYS = "the rows of one such minute (charts, vectors, forecasts) once more, by bare COPY into equal tables"


def run(sizes: Sizes, wanted: Collection[str]) -> Iterator[Figure]:
    """Measure from the first closed candle on the socket to the last forecast, for several minutes."""
    yield asyncio.run(_measure(sizes))


async def _measure(sizes: Sizes) -> Figure:
    symbols = names(sizes.symbols or _SYMBOLS)
    settings = {
        "symbols": ",".join(symbols),
        "market.speed": str(_SPEED),
        "data.history_days": str(_HISTORY_DAYS),
        "training.window_size": str(_WINDOW_MINUTES),
        "system.log_level": "warning",
    }
    async with running("burst", sizes, settings) as pipeline:
        # The first of the symbols is the first on the wire.
        frames = FrameWatch(pipeline.exchange_url, symbols[:1])
        listening = asyncio.create_task(frames.run())
        connection = await connect(pipeline.postgres_url)
        try:
            await _wait(pipeline, connection)
            return await _bursts(pipeline, connection, frames, sizes, len(symbols))
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            await connection.close()


async def _wait(pipeline: Pipeline, connection: asyncpg.Connection) -> None:
    models = len(pipeline.settings.training.forecast_horizons)
    took_s = await pipeline.until(
        lambda: caught_up(pipeline, connection, models=models), what="the first models", at_most_s=_WARM_UP_S
    )
    progress.print(f"models serve after {took_s:.0f} s; measuring", markup=False)


async def _bursts(
    pipeline: Pipeline, connection: asyncpg.Connection, frames: FrameWatch, sizes: Sizes, symbols: int
) -> Figure:
    async with watching(pipeline.postgres_url) as commits:
        newest = max((minute for _, minute in frames.seen), default=0)
        spent = CpuWatch()
        spent.look(pipeline.processes())
        before = spent.seconds_by_part()
        until = time.monotonic() + 60 * (sizes.minutes or _MINUTES)
        while time.monotonic() < until:
            pipeline.stack.check()
            await asyncio.sleep(1)
        spent.look(pipeline.processes())
        committed = await forecast_commits(pipeline.postgres_url, commits, from_ms=newest)
    seconds = complete_s(frames.seen, committed, symbols, from_ms=newest + 2 * MINUTE_MS)
    if not seconds:
        raise NotMeasuredError(f"no minute's forecasts of all {symbols} symbols were committed in time")
    rows, copy_s = await _rows_again(connection, max(seconds))
    after = spent.seconds_by_part()
    return Figure(
        name="burst_1000",
        value=max(seconds.values()),
        unit="s",
        reference=copy_s,
        bound=2.0,
        says=_SAYS,
        more={
            "symbols": symbols,
            "bursts": len(seconds),
            "median_s": statistics.median(seconds.values()),
            "rows": rows,
            "cpu_ms_per_minute": {
                part: 1000 * (total - before.get(part, 0.0)) / len(seconds) for part, total in after.items()
            },
        },
    )


def complete_s(
    seen: dict[tuple[str, int], float],
    committed: dict[tuple[str, int], float],
    symbols: int,
    *,
    from_ms: int,
) -> dict[int, float]:
    """Give, by minute, the seconds from the first candle seen to the last commit; only complete minutes."""
    first: dict[int, float] = {}
    for (_, minute), moment in seen.items():
        first[minute] = min(first.get(minute, moment), moment)
    last: dict[int, list[float]] = {}
    for (_, minute), moment in committed.items():
        last.setdefault(minute, []).append(moment)
    return {
        minute: max(moments) - first[minute]
        for minute, moments in last.items()
        if minute >= from_ms and minute in first and len(moments) == symbols
    }


async def _rows_again(connection: asyncpg.Connection, minute: int) -> tuple[int, float]:
    opened = datetime.fromtimestamp(minute / 1000, UTC).isoformat()
    at = f"timestamptz '{opened}'"
    charts = await copied_again(
        connection, tables=("rollingChartData", "ml_features"), where=f'"timestamp" = {at}'
    )
    forecasts = await copied_again(
        connection, tables=("persistentForecasts",), where=f"created_at = {at} + interval '60 s'"
    )
    costs = [*charts.values(), *forecasts.values()]
    return sum(cost.rows for cost in costs), sum(cost.seconds for cost in costs)
