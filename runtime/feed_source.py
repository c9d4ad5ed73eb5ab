"""Candles from the feed of this process, journalled so that recovery re-lives exactly what came."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Protocol

import asyncpg
import numpy as np

from db.repositories import outbox
from db.repositories.checkpoints import Checkpoint, Position
from runtime.sources import Batch, HistoryGoneError, behind_newest
from schemas.events import decode_feed, encode_feed
from schemas.frames import MINUTE_MS, NULL_MS, CandleFrame, FeedBatch


class FeedHandle(Protocol):
    """What the runner needs of a feed."""

    async def next(self, *, max_rows: int, timeout_s: float) -> FeedBatch | None:
        """Give what is ready."""
        ...

    async def acknowledge(self, committed_to_ms: int) -> None:
        """Learn that everything up to this minute is committed."""
        ...


class FeedSource:
    """Takes candles from the feed, and journals every batch so that recovery re-lives exactly what came."""

    topic = "candles"

    def __init__(self, *, partition: int, feed: FeedHandle) -> None:
        self._partition = partition
        self._feed = feed
        self._position = Position()
        self._in_hand: FeedBatch | None = None
        self._offered: Batch | None = None
        self._committed_to_ms: dict[str, int] = {}

    async def open(self, connection: asyncpg.Connection, at: Checkpoint) -> None:
        """Go on from what is committed; what is in hand and was committed after all is let go.

        It may have been committed by this process, whose COMMIT was answered to nobody, or by another one
        that owned the partition meanwhile. The feed is told again: that word may have been lost, too.
        """
        if self._offered is not None and at.position == self._offered.after:
            self.skip(self._offered)
        self._offered = None
        self._position = at.position
        newest = await outbox.newest(connection, self.topic, self._partition)
        if newest is not None:
            entry = decode_feed(newest.payload)
            symbols = entry.candles.symbols
            self._committed_to_ms = dict(zip(symbols, entry.known_to_ms.tolist(), strict=True))
        if self._in_hand is not None:
            self._in_hand = behind(self._in_hand, self._committed_to_ms)
        if at.event_time_ms is not None:
            await self._feed.acknowledge(at.event_time_ms)

    async def end(self, connection: asyncpg.Connection) -> Position:
        """Tell the position behind the newest entry of the journal."""
        return await behind_newest(connection, self.topic, self._partition)

    async def history(
        self, connection: asyncpg.Connection, start: Position, end: Position
    ) -> AsyncIterator[tuple[FeedBatch, Position]]:
        """Give again the journalled batches between two positions.

        Raises
        ------
        HistoryGoneError
            If the journal no longer holds them.
        """
        sequence = start.sequence
        while sequence < end.sequence:
            messages = await outbox.read(
                connection, self.topic, self._partition, first=sequence, last=end.sequence - 1
            )
            if not messages:
                raise HistoryGoneError(f"entry {sequence} of the candle journal is no longer kept")
            for message in messages:
                yield decode_feed(message.payload), Position(message.sequence, 0)
                sequence = message.sequence + 1

    async def read(self, connection: asyncpg.Connection, *, max_rows: int, timeout_s: float) -> Batch | None:
        """Take what the feed has, or the first part of what is in hand."""
        if self._in_hand is None:
            fresh = await self._feed.next(max_rows=max_rows, timeout_s=timeout_s)
            self._in_hand = None if fresh is None else behind(fresh, self._committed_to_ms)
        if self._in_hand is None:
            return None
        part = first_candles(self._in_hand, max_rows)
        self._offered = Batch(
            frame=part,
            rows=len(part.candles),
            after=Position(self._position.sequence + 1, 0),
            journal=encode_feed(part),
        )
        return self._offered

    async def committed(self, batch: Batch, complete_to_ms: int) -> None:
        """Let go of the batch and tell the feed how far the pipeline is."""
        self.skip(batch)
        self._position = batch.after
        await self._feed.acknowledge(complete_to_ms)

    def skip(self, batch: Batch) -> None:
        """Let go of the batch."""
        self._offered = None
        if self._in_hand is not None:
            self._in_hand = without_first_candles(self._in_hand, batch.rows)


def first_candles(batch: FeedBatch, count: int) -> FeedBatch:
    """Keep the first candles of a batch, and of what is known only what holds without the others."""
    if len(batch.candles) <= count:
        return batch
    rest = batch.candles.rows(slice(count, None))
    known_to = batch.known_to_ms.copy()
    np.minimum.at(known_to, rest.symbol_index, rest.open_time_ms - MINUTE_MS)
    return replace(
        batch,
        candles=batch.candles.rows(slice(0, count)),
        known_to_ms=known_to,
        revisions=CandleFrame.empty(batch.candles.symbols),
    )


def without_first_candles(batch: FeedBatch, count: int) -> FeedBatch | None:
    """Keep what `first_candles` left; None if that is nothing."""
    if len(batch.candles) <= count:
        return None
    return replace(batch, candles=batch.candles.rows(slice(count, None)))


def behind(batch: FeedBatch, committed_to_ms: Mapping[str, int]) -> FeedBatch | None:
    """Leave out the minutes that are committed already; None if nothing is left."""
    committed = np.array([committed_to_ms.get(s, NULL_MS) for s in batch.candles.symbols], np.int64)
    fresh = batch.candles.open_time_ms > committed[batch.candles.symbol_index]
    is_news = bool((batch.known_to_ms > committed).any()) or len(batch.revisions) > 0
    if fresh.all() and is_news:
        return batch
    if not fresh.any() and not is_news:
        return None
    return replace(
        batch,
        candles=batch.candles.rows(fresh),
        known_to_ms=np.maximum(batch.known_to_ms, committed),
    )
