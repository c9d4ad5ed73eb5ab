"""Hold the feed back where the market waits for us: a stage may not run far ahead of those after it."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from db.repositories import checkpoints
from db.repositories.checkpoints import Checkpoint
from runtime.sources import Batch
from schemas.frames import MINUTE_MS

#: How often the others' positions are read while this stage is well within its limit.
_LOOK_EVERY_BATCHES = 4


class Pace:
    """A guide for the first stage of a simulated market.

    Parameters
    ----------
    partition
        Of the stage.
    followers
        The services that work on what this stage hands on, directly or not.
    max_lag_minutes
        How much event time they may be behind.
    """

    def __init__(self, *, partition: int, followers: list[str], max_lag_minutes: int) -> None:
        self._partition = partition
        self._followers = followers
        self._max_lag_ms = max_lag_minutes * MINUTE_MS
        self._born_ms: int | None = None
        self._batches = 0
        self._held = False

    async def before_read(self, connection: asyncpg.Connection, at: Checkpoint) -> bool:
        """Wait a little while the slowest follower is too far behind."""
        if at.event_time_ms is None:
            return True
        if self._born_ms is None:
            self._born_ms = at.event_time_ms
        self._batches += 1
        if not self._held and self._batches % _LOOK_EVERY_BATCHES:
            return True
        slowest = await self._slowest(connection)
        self._held = at.event_time_ms - slowest > self._max_lag_ms
        if self._held:
            await asyncio.sleep(0.02)
        return not self._held

    async def _slowest(self, connection: asyncpg.Connection) -> int:
        places = await checkpoints.progress(connection, self._followers)
        assert self._born_ms is not None
        slowest = None
        for service in self._followers:
            place = places.get((service, self._partition))
            reached = place.event_time_ms if place and place.event_time_ms is not None else self._born_ms
            slowest = reached if slowest is None else min(slowest, reached)
        return slowest if slowest is not None else self._born_ms

    async def allow(self, connection: asyncpg.Connection, batch: Batch) -> int:
        """Allow all of a batch that was read."""
        return max(batch.rows, 1)

    async def relive(self, connection: asyncpg.Connection, frame: Any) -> None:
        """Need nothing."""
