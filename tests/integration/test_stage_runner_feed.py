"""The runner with the feed as its source: nothing lost and nothing twice, whatever breaks."""

from __future__ import annotations

import asyncio

from schemas.frames import MINUTE_MS, FeedBatch

from .stage_stand import (
    RAISES,
    T0,
    Cutter,
    ListedFeed,
    Seen,
    Stand,
    expected,
    feeding,
    minute,
    reached,
    running,
    until,
)


async def test_candles_are_journalled_and_relived_after_a_kill(stand: Stand) -> None:
    feed, seen = ListedFeed(0), Seen()
    feed.allow(14)
    async with running(feeding(stand, feed), kill=True):
        await reached(stand, 14)
    again = ListedFeed(0, resume=14)
    again.allow(20)
    async with running(feeding(stand, again, seen=seen)):
        await reached(stand, 20)
    assert seen.relived
    assert seen.relived[0] > 0
    assert await stand.rows() == expected(*[minute(k) for k in range(20)])


async def test_the_feed_hears_again_how_far_everything_is_committed(stand: Stand) -> None:
    feed = ListedFeed(0)
    feed.allow(3)
    async with running(feeding(stand, feed)):
        await reached(stand, 3)
    again = ListedFeed(0, resume=3)

    async def heard() -> bool:
        return again.acknowledged == [T0 + 2 * MINUTE_MS]

    async with running(feeding(stand, again)):
        await until(heard)


async def test_a_feed_that_ran_while_another_process_owned_the_partition_brings_nothing_twice(
    stand: Stand,
) -> None:
    first, second, seen = ListedFeed(0), ListedFeed(0), Seen()
    first.allow(10)
    stop = asyncio.Event()
    owner = asyncio.create_task(feeding(stand, first).run(stop))
    await reached(stand, 10)
    async with running(feeding(stand, second, seen=seen)):

        async def waits() -> bool:
            return ("waiting", "the partition's owner") in seen.statuses

        await until(waits)
        second.allow(15)
        stop.set()
        await owner
        await reached(stand, 15)
    assert await stand.rows() == expected(*[minute(k) for k in range(15)])
    assert await stand.database.fetchval("SELECT count(*) FROM dead_letters") == 0


async def test_a_candle_batch_whose_commit_answer_is_lost_is_not_repeated(stand: Stand) -> None:
    feed = ListedFeed(0)
    feed.allow(12)
    cutter = Cutter(stand.url, every=4)
    async with cutter.open() as url, running(feeding(stand, feed, url=url)):
        await reached(stand, 12)
    assert cutter.lost >= 2
    assert await stand.rows() == expected(*[minute(k) for k in range(12)])


async def test_a_candle_that_always_fails_is_parked_and_the_feed_goes_on(stand: Stand) -> None:
    class Poisoned(ListedFeed):
        async def next(self, *, max_rows: int, timeout_s: float) -> FeedBatch | None:
            batch = await super().next(max_rows=max_rows, timeout_s=timeout_s)
            if batch is not None and int(batch.candles.open_time_ms[0]) == T0 + 2 * MINUTE_MS:
                batch.candles.ohlcv[1] = RAISES
            return batch

    feed = Poisoned(0)
    feed.allow(6)
    async with running(feeding(stand, feed), kill=True):
        await reached(stand, 6)
    wanted = expected(minute(0), minute(1), minute(2, 3.0), *[minute(k) for k in range(3, 6)])
    assert await stand.rows() == wanted
    assert await stand.database.fetchval("SELECT count(*) FROM dead_letters") == 1
    again = ListedFeed(0, resume=6)
    again.allow(8)
    async with running(feeding(stand, again)):
        await reached(stand, 8)
    assert await stand.rows() == expected(
        minute(0), minute(1), minute(2, 3.0), *[minute(k) for k in range(3, 8)]
    )
