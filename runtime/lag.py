"""How far behind a worker is: event time between the newest thing known and what it has committed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import asyncpg

from db.connect import LOST_ANSWER
from db.repositories import checkpoints, dead_letters
from db.repositories.overview import read_overview
from schemas.frames import MINUTE_MS
from streams.topics import CONSUMERS, PRODUCER

if TYPE_CHECKING:
    from runtime.worker import Worker

EVERY_S = 2.0
#: Parked events are counted at every fifth look, over the last hour.
_PARKED_EVERY, _PARKED_S = 5, 3600.0
#: Inference waits for a model that is due, the forecaster for inference, and the feed for the slowest.
_MAY_WAIT = frozenset({"ml_inference", "forecaster", "feature_calculator"})


async def watch_lag(worker: Worker) -> None:
    """Measure every other second until the worker stops, for /health, /metrics and the live table."""
    connection: asyncpg.Connection | None = None
    looks = 0
    while not worker.stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(worker.stop.wait(), EVERY_S)
        if worker.stop.is_set():
            break
        try:
            if connection is None or connection.is_closed():
                connection = await worker.connect()
            await _measure(worker, connection)
            if looks % _PARKED_EVERY == 0:
                count = await dead_letters.parked_since(connection, worker.service, _PARKED_S)
                worker.health.trouble.parked = count
            looks += 1
        except LOST_ANSWER:
            worker.health.lag_s = None
    if connection is not None:
        with contextlib.suppress(*LOST_ANSWER):
            await connection.close(timeout=1)


async def _measure(worker: Worker, connection: asyncpg.Connection) -> None:
    source = _upstream(worker.service)
    places = await checkpoints.progress(connection, [worker.service, *([source] if source else [])])
    mine = [_event_time(places, worker.service, partition) for partition in worker.partitions]
    if None in mine or not mine:
        return
    behind_ms, behind_messages, furthest_ms = 0, 0, 0
    for partition, reached_ms in zip(worker.partitions, mine, strict=True):
        assert reached_ms is not None
        if source is None:
            # The newest minute that is over; the one in progress is nobody's lag.
            newest_ms = worker.market_now_ms() // MINUTE_MS * MINUTE_MS - MINUTE_MS
        else:
            newest_ms = _event_time(places, source, partition) or reached_ms
            sent, read = places.get((source, partition)), places.get((worker.service, partition))
            if sent is not None and read is not None:
                behind_messages += max(0, sent.outbox_sequence - read.position.sequence + 1)
        behind_ms = max(behind_ms, newest_ms - reached_ms)
        furthest_ms = max(furthest_ms, newest_ms)
    worker.health.lag_s = max(0.0, round(behind_ms / 1000, 1))
    worker.health.lag_rows = behind_messages
    worker.metrics.lag(worker.health.lag_s, behind_messages)
    worker.health.trouble.measured(
        time.monotonic(),
        place=tuple(_place(places, worker.service, partition) for partition in worker.partitions),
        newest_ms=furthest_ms,
        lag_ms=max(0, behind_ms),
        excused=await _is_excused(worker, connection),
    )
    if worker.service == "chart_monitor":
        overview = await read_overview(connection)
        if overview.completeness is not None:
            worker.metrics.completeness(overview.completeness)
        worker.metrics.open_trades(overview.open_trades)


async def show_checkpoint(worker: Worker, connection: asyncpg.Connection) -> None:
    """Show in /health how far the worker had come before it started."""
    places = await checkpoints.progress(connection, [worker.service])
    reached = [_event_time(places, worker.service, partition) for partition in worker.partitions]
    worker.health.last_event_time_ms = max((ms for ms in reached if ms is not None), default=None)


async def _is_excused(worker: Worker, connection: asyncpg.Connection) -> bool:
    """Tell whether a training is under way that this worker may have to wait for, while it catches up."""
    if worker.service not in _MAY_WAIT:
        return False
    found: bool = await connection.fetchval(
        """
        SELECT EXISTS (SELECT FROM ml_jobs
                       WHERE status = 'RUNNING' OR (status = 'PENDING' AND job_type = 'TRAIN'))
        """
    )
    return found


def _place(places: dict[tuple[str, int], checkpoints.Checkpoint], service: str, partition: int) -> object:
    place = places.get((service, partition))
    return None if place is None else (place.position, place.outbox_sequence, place.event_time_ms)


def _upstream(service: str) -> str | None:
    for topic, readers in CONSUMERS.items():
        if service in readers and PRODUCER[topic] != service:
            return PRODUCER[topic]
    return None


def _event_time(
    places: dict[tuple[str, int], checkpoints.Checkpoint], service: str, partition: int
) -> int | None:
    place = places.get((service, partition))
    return place.event_time_ms if place is not None else None
