"""The feature calculator: candles in, indicators and vectors out.

Runs the feed of its exchange beside the feature stage; writes `"rollingChartData"` and `ml_features`, sends
the stream `features`. A restart re-lives the journalled candles since the last snapshot, and the feed goes on
right behind the last one of them; with `system.enable_recovery` false it goes on from the exchange's now.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from functools import partial
from typing import Any

from db.repositories import outbox
from domain.partitioning import owned_symbols
from exchanges.feed import Feed
from pipeline.feature_stage import FeatureStage
from runtime.extra_indicators import check_extra_indicators, extra_indicators_of
from runtime.feature_wiring import engine_of
from runtime.feed_source import FeedSource
from runtime.feed_wiring import EventTimeFeed, Report, feed_for, serve_requests
from runtime.guide import Free, Guide
from runtime.pacing import Pace
from runtime.worker import Tasks, Worker, main
from schemas.events import decode_feed
from schemas.frames import NULL_MS

SERVICE = "feature_calculator"
#: Candles in a batch at most where a slow library computes what a user has added: the loop has to breathe.
_SLOW_BATCH_ROWS = 200
FOLLOWERS = ["ml_trainer", "ml_inference", "forecaster", "chart_monitor"]


async def build(worker: Worker) -> Tasks:
    """Wire a feed and a runner per partition."""
    tasks: dict[str, Coroutine[Any, Any, None]] = {}
    report = Report(worker)
    check_extra_indicators(worker.settings)
    for partition in worker.partitions:
        symbols = _symbols_of(worker, partition)
        resume = await _resume(worker, partition) if worker.recovers else {}
        feed = await feed_for(worker, symbols, resume, report, from_now=not worker.recovers)
        worker.market_now_ms = partial(getattr, feed, "exchange_now_ms")
        runner = worker.runner(
            partition,
            partial(_stage, worker, partition, symbols),
            FeedSource(
                partition=partition,
                feed=EventTimeFeed(feed) if worker.settings.pipeline.replay else feed,
            ),
            out_topic="features",
            max_batch_rows=_SLOW_BATCH_ROWS if worker.settings.features.extra_indicators else None,
            guide=_guide(worker, partition),
        )
        tasks[f"feed {partition}"] = _until_stopped(worker, feed)
        tasks[f"partition {partition}"] = runner.run(worker.stop)
        tasks[f"requests {partition}"] = serve_requests(worker, symbols, feed)
    tasks["dead letters"] = report.write()
    tasks["webhook"] = report.alerts.post()
    return tasks


def _symbols_of(worker: Worker, partition: int) -> tuple[str, ...]:
    """List the partition's own symbols and the reference symbols, in the order of the settings."""
    settings = worker.settings
    wanted = {*owned_symbols(settings.symbols, partition, settings.pipeline.partitions), *settings.references}
    return tuple(symbol for symbol in settings.symbols if symbol in wanted)


def _stage(worker: Worker, partition: int, symbols: tuple[str, ...]) -> FeatureStage:
    settings = worker.settings
    engine = engine_of(settings, symbols)
    owned = owned_symbols(settings.symbols, partition, settings.pipeline.partitions)
    return FeatureStage(
        symbols=symbols,
        owned=owned,
        references=engine.references,
        engine=engine,
        user_indicators=extra_indicators_of(settings, symbols),
    )


def _guide(worker: Worker, partition: int) -> Guide:
    """Let a simulated market wait for us; a real one does not."""
    if not worker.settings.market.is_simulated:
        return Free()
    return Pace(
        partition=partition, followers=FOLLOWERS, max_lag_minutes=worker.settings.pipeline.max_lag_minutes
    )


async def _until_stopped(worker: Worker, feed: Feed) -> None:
    """Run the feed; a stop cancels it."""
    running = asyncio.create_task(feed.run())
    stopped = asyncio.create_task(worker.stop.wait())
    await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if worker.stop.is_set():
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    else:
        await running


async def _resume(worker: Worker, partition: int) -> dict[str, int]:
    """Read from the journal how far each symbol was handed out and committed."""
    started = time.monotonic()
    connection = await worker.connect()
    try:
        newest = await outbox.newest(connection, "candles", partition)
    finally:
        await connection.close()
    if newest is None:
        return {}
    batch = decode_feed(newest.payload)
    resume = {
        symbol: int(known)
        for symbol, known in zip(batch.candles.symbols, batch.known_to_ms, strict=True)
        if known != NULL_MS
    }
    worker.log.info(
        f"{len(resume)} symbols go on from the journal", action="resume", took_s=time.monotonic() - started
    )
    return resume


if __name__ == "__main__":
    main(SERVICE, build)
