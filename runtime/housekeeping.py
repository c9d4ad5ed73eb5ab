"""Old days of candles are dropped, days past a threshold are held packed, and old rows of other tables go."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg

from config.sections import DataSettings
from db.connect import LOST_ANSWER
from db.partitions import maintain
from db.repositories import checkpoints, dead_letters, logs, scores
from db.tables import DAY_MS

if TYPE_CHECKING:
    from runtime.worker import Worker

EVERY_S = 60.0


async def keep_house(worker: Worker) -> None:
    """Look every minute whether a day is due, by event time; a replay drops nothing unless asked."""
    data = worker.settings.data
    retention = data.retention_days
    keep_all = worker.settings.pipeline.replay and not data.retention_in_replay
    looked_at_day: int | None = None
    while not worker.stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(worker.stop.wait(), EVERY_S)
        if worker.stop.is_set():
            return
        try:
            connection = await worker.connect()
            try:
                places = await checkpoints.progress(connection, ["forecaster", "ml_trainer", "ml_inference"])
                times = [place.event_time_ms for place in places.values()]
                if not times or None in times:
                    continue
                event_time_ms = min(ms for ms in times if ms is not None)
                if event_time_ms // 86_400_000 == looked_at_day:
                    continue
                done = await maintain(
                    connection,
                    event_time_ms=event_time_ms,
                    retention_days=None if keep_all else retention,
                    pack_after_days=data.compression_threshold,
                )
                if not done.busy:
                    looked_at_day = event_time_ms // 86_400_000
                if not keep_all:
                    await forget(connection, data, event_time_ms)
                if done.dropped or done.packed:
                    worker.log.info(
                        "old days were dropped or packed",
                        action="upkeep",
                        dropped=done.dropped,
                        packed=done.packed,
                    )
            finally:
                await connection.close(timeout=2)
        except LOST_ANSWER as error:
            worker.log.warning("upkeep has to wait", action="upkeep", problem=str(error))


async def forget(connection: asyncpg.Connection, data: DataSettings, event_time_ms: int) -> None:
    """Drop old rows of tables without day partitions: scores by event time, the others by the clock."""
    oldest = datetime.now(UTC) - timedelta(days=data.retention_days)
    await logs.drop_before(connection, oldest)
    await dead_letters.drop_before(connection, oldest)
    days = max(data.score_retention_days, data.retention_days)
    await scores.drop_before(connection, event_time_ms // DAY_MS * DAY_MS - days * DAY_MS)
