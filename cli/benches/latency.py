"""From a closed candle on the exchange's socket to its committed forecasts, through five real processes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from cli.answer import progress
from cli.benches.base.bench import NotMeasuredError, Sizes
from cli.benches.base.commits import CommitWatch, forecast_commits, latencies_ms, watching
from cli.benches.base.figure import Figure
from cli.benches.base.floor import hops_ms
from cli.benches.base.frames import FrameWatch
from cli.benches.base.journey import steps_ms
from cli.benches.base.pipeline import Pipeline, caught_up, running
from cli.benches.base.processes import CpuWatch
from cli.benches.base.timing import quantile
from db.connect import connect
from db.repositories import jobs
from schemas.frames import MINUTE_MS

GIVES = ("latency_p50", "latency_p99", "latency_while_training_p99")
TAKES = "10 minutes"
ON_REQUEST = False

SPEED = 60
_MINUTES = 4.0
#: Trainings in the queue, so that the next begins as soon as one ends.
_WAITING_JOBS = 6
_FLOOR = "three bare commits of one row and the stream hops between them, on the same servers while all runs"


#: A number for each candle, by symbol and open minute.
Candles = dict[tuple[str, int], float]


@dataclass(slots=True)
class _Trainings:
    """When trainings were under way: stretches of `time.monotonic()`."""

    spans: list[tuple[float, float]] = field(default_factory=list)

    def cover(self, moment: float) -> bool:
        return any(begin <= moment <= end for begin, end in self.spans)


def run(sizes: Sizes, wanted: Collection[str]) -> Iterator[Figure]:
    """Measure on a live market at 60 times its speed: a minute passes every second."""
    yield from asyncio.run(_measure(sizes, wanted))


async def _measure(sizes: Sizes, wanted: Collection[str]) -> list[Figure]:
    settings = {"market.speed": str(SPEED), "data.history_days": "0.5", "system.log_level": "warning"}
    async with running("latency", sizes, settings) as pipeline, _listening(pipeline) as frames:
        connection = await connect(pipeline.postgres_url)
        horizons = len(pipeline.settings.training.forecast_horizons)
        took_s = await pipeline.until(
            lambda: caught_up(pipeline, connection, models=horizons), what="the first models", at_most_s=300
        )
        progress.print(f"models serve after {took_s:.0f} s; measuring", markup=False)
        async with watching(pipeline.postgres_url) as commits:
            seconds = 60 * (sizes.minutes or _MINUTES)
            spent = CpuWatch()
            spent.look(pipeline.processes())
            before = spent.seconds_by_part()
            quiet, committed = await _watched(pipeline, frames, commits, seconds)
            spent.look(pipeline.processes())
            more = {
                "steps": await steps_ms(connection, frames.seen, committed),
                "cpu_ms_per_minute": _per_minute(before, spent.seconds_by_part(), quiet),
            }
            floor = await hops_ms(pipeline.postgres_url, pipeline.directory.redis_url)
            figures = _quiet_figures(quiet, floor, wanted, more)
            if "latency_while_training_p99" in wanted:
                figures.append(await _training_figure(pipeline, frames, commits, connection, seconds, quiet))
        await connection.close()
    return figures


@contextlib.asynccontextmanager
async def _listening(pipeline: Pipeline) -> AsyncIterator[FrameWatch]:
    frames = FrameWatch(pipeline.exchange_url, pipeline.settings.symbols)
    task = asyncio.create_task(frames.run())
    try:
        yield frames
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _watched(
    pipeline: Pipeline, frames: FrameWatch, commits: CommitWatch, seconds: float
) -> tuple[Candles, Candles]:
    """Watch for a while and give every candle's latency in milliseconds, and when it was committed."""
    newest = max((minute for _, minute in frames.seen), default=0)
    await _pass(pipeline, seconds)
    committed = await forecast_commits(pipeline.postgres_url, commits, from_ms=newest)
    found = latencies_ms(frames.seen, committed, from_ms=newest + 2 * MINUTE_MS)
    if not found:
        raise NotMeasuredError("no candle was seen both on the socket and in the table")
    return found, committed


def _per_minute(before: dict[str, float], after: dict[str, float], candles: Candles) -> dict[str, float]:
    minutes = len({minute for _, minute in candles})
    return {part: 1000 * (spent - before.get(part, 0.0)) / minutes for part, spent in after.items()}


async def _pass(pipeline: Pipeline, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pipeline.stack.check()
        await asyncio.sleep(min(1.0, max(0.0, until - time.monotonic())))


def _quiet_figures(
    quiet: Candles, floor: list[float], wanted: Collection[str], more: dict[str, Any]
) -> list[Figure]:
    values = list(quiet.values())
    return [
        Figure(
            name=name,
            value=quantile(values, share),
            unit="ms",
            reference=quantile(floor, share),
            bound=bound,
            says=_FLOOR,
            more={"candles": len(values), "worst_ms": max(values), **more},
        )
        for name, share, bound in (("latency_p50", 0.5, 10.0), ("latency_p99", 0.99, 30.0))
        if name in wanted
    ]


async def _training_figure(
    pipeline: Pipeline,
    frames: FrameWatch,
    commits: CommitWatch,
    connection: asyncpg.Connection,
    seconds: float,
    quiet: Candles,
) -> Figure:
    progress.print("the same while models are trained", markup=False)
    trainings = _Trainings()
    task = asyncio.create_task(_keep_training(pipeline, connection, trainings))
    try:
        found, _ = await _watched(pipeline, frames, commits, seconds)
        # What a training takes from the servers themselves: caches, memory, the other half of a core.
        floor = await hops_ms(pipeline.postgres_url, pipeline.directory.redis_url)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    during = [ms for key, ms in found.items() if trainings.cover(frames.seen[key])]
    if not during:
        raise NotMeasuredError("no candle came while a model was trained")
    return Figure(
        name="latency_while_training_p99",
        value=quantile(during, 0.99),
        unit="ms",
        reference=quantile(list(quiet.values()), 0.99),
        bound=1.5,
        bound_of_ratio=True,
        says="latency_p99 of the same run, with no training under way",
        more={
            "candles": len(during),
            "p50_ms": quantile(during, 0.5),
            "worst_ms": max(during),
            "training_share": len(during) / len(found),
            "floor_p50_ms": quantile(floor, 0.5),
            "floor_p99_ms": quantile(floor, 0.99),
        },
    )


async def _keep_training(pipeline: Pipeline, connection: asyncpg.Connection, trainings: _Trainings) -> None:
    """Ask for trainings so that there is always one under way, and note when there is."""
    training = pipeline.settings.training
    began, asked_ms = time.monotonic(), 0
    while True:
        row = await connection.fetchrow(
            """
            SELECT count(*) FILTER (WHERE status = 'PENDING' AND job_type = 'TRAIN') AS waiting,
                   count(*) FILTER (WHERE status = 'RUNNING') AS running,
                   (SELECT (EXTRACT(EPOCH FROM max(timestamp)) * 1000)::bigint FROM ml_features) AS newest
            FROM ml_jobs
            """
        )
        assert row is not None
        now = time.monotonic()
        if row["running"]:
            trainings.spans.append((began, now))
        began = now
        # Two trainings of one horizon need two different times.
        if row["waiting"] < _WAITING_JOBS and row["newest"] > asked_ms:
            asked_ms = row["newest"]
            for horizon in training.forecast_horizons:
                await jobs.enqueue(
                    connection,
                    jobs.TrainRequest(
                        symbol="ALL",
                        forecast_horizon=horizon,
                        model_type=training.installed_model_types[0],
                        train_at_ms=asked_ms,
                        train_start_ms=0,
                        train_end_ms=asked_ms,
                    ),
                )
        await asyncio.sleep(0.1)
