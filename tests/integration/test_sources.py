"""Batches with the position behind them, from streams with holes and from a feed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import numpy as np
import pytest

from db.repositories import outbox
from db.repositories.checkpoints import Checkpoint, Position
from db.repositories.outbox import Message
from runtime.feed_source import FeedSource
from runtime.sources import Batch, HistoryGoneError
from runtime.stream_source import StreamSource
from schemas.events import decode_feed, encode, encode_feed
from schemas.frames import MINUTE_MS, NULL_MS, CandleFrame, FeatureFrame, FeedBatch
from streams import stream
from streams.connection import connect as connect_redis

T0 = 1_617_321_600_000
SYMBOLS = ("BTCUSDT", "ETHUSDT")
KEY = "test:{features:0}"
START = Checkpoint()


def message(minute: int, rows: int = 2, symbols: tuple[str, ...] = SYMBOLS) -> FeatureFrame:
    """Make a message with one row a symbol; it calls its own minute complete."""
    return FeatureFrame(
        symbols=symbols,
        symbol_index=np.arange(rows, dtype=np.int32),
        open_time_ms=np.full(rows, T0 + minute * MINUTE_MS),
        ohlcv=np.full((rows, 5), float(minute)),
        origin=np.zeros(rows, np.int8),
        vector=np.zeros((rows, 1), np.float32),
        is_complete=np.ones(rows, np.bool_),
        complete_to_ms=T0 + minute * MINUTE_MS,
        schema_hash="h",
        as_of_ms=np.full(rows, T0 + (minute + 1) * MINUTE_MS),
    )


def minutes(batch: Batch | None) -> list[int]:
    assert batch is not None
    found: list[int] = ((batch.frame.open_time_ms - T0) // MINUTE_MS).tolist()
    return found


class Wire:
    """A stream and its outbox."""

    def __init__(self, database: asyncpg.Connection, client: Any) -> None:
        self.database = database
        self.client = client
        self._sent = 0

    async def send(self, *frames: FeatureFrame, kept: bool = True, published: bool = True) -> None:
        for frame in frames:
            self._sent += 1
            payload = encode(frame)
            if kept:
                message = Message(sequence=self._sent, payload=payload, from_ms=T0, to_ms=T0)
                await outbox.add(self.database, "features", 0, message)
            if published:
                await stream.publish(self.client, KEY, self._sent, payload, cap=1000)

    async def source(self, at: Position = Position(), max_minutes: int = 60) -> StreamSource:  # noqa: B008
        source = StreamSource(
            topic="features",
            partition=0,
            key=KEY,
            frame_type=FeatureFrame,
            client=self.client,
            max_minutes=max_minutes,
        )
        await source.open(self.database, Checkpoint(position=at))
        return source

    async def read(self, source: StreamSource, max_rows: int = 100) -> Batch | None:
        return await source.read(self.database, max_rows=max_rows, timeout_s=0.05)

    async def drain(self, source: StreamSource, max_rows: int = 100) -> list[Batch]:
        batches = []
        while (batch := await self.read(source, max_rows)) is not None:
            batches.append(batch)
            await source.committed(batch, 0)
        return batches


@pytest.fixture
async def wire(database: asyncpg.Connection, redis_url: str) -> AsyncIterator[Wire]:
    client = connect_redis(redis_url)
    yield Wire(database, client)
    await client.aclose()


async def test_messages_are_joined_up_to_the_rows_allowed(wire: Wire) -> None:
    await wire.send(*[message(k) for k in range(5)])
    batches = await wire.drain(await wire.source(), max_rows=5)
    assert [minutes(batch) for batch in batches] == [[0, 0, 1, 1], [2, 2, 3, 3], [4, 4]]
    assert [batch.after for batch in batches] == [Position(3, 0), Position(5, 0), Position(6, 0)]


async def test_a_batch_spans_no_more_event_time_than_allowed(wire: Wire) -> None:
    await wire.send(*[message(k) for k in range(7)])
    batches = await wire.drain(await wire.source(max_minutes=3))
    assert [sorted(set(minutes(batch))) for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]


async def test_a_message_larger_than_allowed_is_given_in_parts_that_call_less_complete(wire: Wire) -> None:
    await wire.send(message(0), message(1))
    batches = await wire.drain(await wire.source(), max_rows=1)
    assert [batch.after for batch in batches] == [
        Position(1, 1), Position(2, 0), Position(2, 1), Position(3, 0),
    ]  # fmt: skip
    assert [batch.frame.complete_to_ms for batch in batches] == [
        T0 - MINUTE_MS, T0, T0, T0 + MINUTE_MS,
    ]  # fmt: skip


async def test_single_rows_are_never_joined_with_a_message_without_rows(wire: Wire) -> None:
    await wire.send(message(0, rows=0), message(1, rows=1), message(2, rows=0), message(3, rows=1))
    batches = await wire.drain(await wire.source(), max_rows=1)
    assert [batch.after for batch in batches] == [Position(k, 0) for k in (2, 3, 4, 5)]


async def test_messages_over_other_symbols_are_not_joined(wire: Wire) -> None:
    await wire.send(message(0), message(1, symbols=("ADAUSDT", "BTCUSDT")), message(2))
    batches = await wire.drain(await wire.source())
    assert [minutes(batch) for batch in batches] == [[0, 0], [1, 1], [2, 2]]


async def test_the_same_batch_comes_again_until_it_is_committed(wire: Wire) -> None:
    await wire.send(message(0), message(1))
    source = await wire.source()
    assert minutes(await wire.read(source)) == [0, 0, 1, 1]
    again = await wire.read(source)
    assert minutes(again) == [0, 0, 1, 1]
    assert again is not None
    await source.committed(again, 0)
    assert await wire.read(source) is None


async def test_reading_goes_on_inside_a_message(wire: Wire) -> None:
    await wire.send(message(0), message(1))
    source = await wire.source(Position(1, 1))
    batch = await wire.read(source)
    assert minutes(batch) == [0, 1, 1]
    assert batch is not None
    assert batch.frame.symbol_index.tolist() == [1, 0, 1]


@pytest.mark.parametrize("on_the_wire", [set(), {1, 2}, {3}, {1, 5}, {2, 4}])
async def test_whatever_the_wire_lacks_comes_from_the_outbox(wire: Wire, on_the_wire: set[int]) -> None:
    for number in range(1, 7):
        await wire.send(message(number), published=number in on_the_wire)
    batches = await wire.drain(await wire.source())
    assert [minute for batch in batches for minute in minutes(batch)] == [
        number for number in range(1, 7) for _ in range(2)
    ]


async def test_nothing_passes_a_hole_that_nobody_can_fill(wire: Wire) -> None:
    await wire.send(message(0))
    await wire.send(message(1), kept=False, published=False)
    await wire.send(message(2))
    batches = await wire.drain(await wire.source())
    assert [minutes(batch) for batch in batches] == [[0, 0]]


async def test_a_flushed_stream_that_begins_anew_is_joined_to_what_the_outbox_has(wire: Wire) -> None:
    source = await wire.source()
    await wire.send(message(0), message(1))
    first = await wire.drain(source)
    await wire.send(message(2), message(3))
    await wire.client.flushall()
    await wire.send(message(4))
    rest = await wire.drain(source)
    assert [minutes(batch)[::2] for batch in first + rest] == [[0, 1], [2, 3, 4]]


async def test_history_gives_exactly_the_rows_between_two_positions(wire: Wire) -> None:
    await wire.send(*[message(k) for k in range(4)])
    source = await wire.source()
    found = [
        (position, part.open_time_ms.tolist(), part.symbol_index.tolist())
        async for part, position in source.history(wire.database, Position(1, 1), Position(3, 1))
    ]
    times = [T0 + k * MINUTE_MS for k in range(3)]
    assert found == [
        (Position(1, 1), [times[0]], [1]),
        (Position(2, 0), [times[1]] * 2, [0, 1]),
        (Position(3, 0), [times[2]], [0]),
    ]


async def test_history_of_nothing_is_empty(wire: Wire) -> None:
    source = await wire.source()
    for at in (Position(), Position(7, 0)):
        assert [part async for part, _ in source.history(wire.database, at, at)] == []


async def test_history_that_is_no_longer_kept_is_an_error_that_says_so(wire: Wire) -> None:
    await wire.send(message(0), kept=False)
    await wire.send(message(1))
    source = await wire.source()
    with pytest.raises(HistoryGoneError, match="message 1 of features/0"):
        async for _ in source.history(wire.database, Position(), Position(3, 0)):
            pass


# --- the feed ---


class ListedFeed:
    """Gives the batches of a list."""

    def __init__(self, *batches: FeedBatch) -> None:
        self._batches = list(batches)
        self.acknowledged: list[int] = []

    async def next(self, *, max_rows: int, timeout_s: float) -> FeedBatch | None:
        return self._batches.pop(0) if self._batches else None

    async def acknowledge(self, committed_to_ms: int) -> None:
        self.acknowledged.append(committed_to_ms)


def handed(first: int, end: int, *, revised: int | None = None) -> FeedBatch:
    """Make the candles of both symbols from one minute up to, not including, another."""
    return FeedBatch(
        candles=candles(range(first, end)),
        known_to_ms=np.full(2, T0 + (end - 1) * MINUTE_MS),
        revisions=candles([] if revised is None else [revised]),
    )


def candles(of: Any) -> CandleFrame:
    numbers = np.repeat(np.array(list(of), np.int64), 2)
    return CandleFrame(
        symbols=SYMBOLS,
        symbol_index=np.tile(np.array([0, 1], np.int32), len(numbers) // 2),
        open_time_ms=T0 + numbers * MINUTE_MS,
        ohlcv=np.ones((len(numbers), 5)),
        origin=np.zeros(len(numbers), np.int8),
    )


async def journal(database: asyncpg.Connection, sequence: int, batch: FeedBatch) -> None:
    message = Message(sequence=sequence, payload=encode_feed(batch), from_ms=T0, to_ms=T0)
    await outbox.add(database, "candles", 0, message)


def of_feed(batch: Batch | None) -> list[int]:
    assert batch is not None
    found: list[int] = ((batch.frame.candles.open_time_ms - T0) // MINUTE_MS).tolist()
    return found


async def take(source: FeedSource, database: asyncpg.Connection, max_rows: int = 100) -> Batch | None:
    return await source.read(database, max_rows=max_rows, timeout_s=0.0)


async def test_a_large_batch_of_candles_is_given_in_parts_and_journalled_as_given(
    database: asyncpg.Connection,
) -> None:
    feed = ListedFeed(handed(0, 3, revised=0))
    source = FeedSource(partition=0, feed=feed)
    await source.open(database, START)
    parts = []
    while (batch := await take(source, database, max_rows=3)) is not None:
        parts.append(batch)
        await source.committed(batch, T0)
    assert [of_feed(part) for part in parts] == [[0, 0, 1], [1, 2, 2]]
    known = [((part.frame.known_to_ms - T0) // MINUTE_MS).tolist() for part in parts]
    assert known == [[1, 0], [2, 2]]
    assert [len(part.frame.revisions) for part in parts] == [0, 2]
    assert [part.after for part in parts] == [Position(2, 0), Position(3, 0)]
    assert feed.acknowledged == [T0, T0]
    for part in parts:
        assert part.journal is not None
        kept = decode_feed(part.journal)
        assert kept.candles.open_time_ms.tolist() == part.frame.candles.open_time_ms.tolist()
        assert kept.known_to_ms.tolist() == part.frame.known_to_ms.tolist()


async def test_a_batch_in_hand_that_was_committed_after_all_is_let_go(database: asyncpg.Connection) -> None:
    feed = ListedFeed(handed(0, 2), handed(2, 3))
    source = FeedSource(partition=0, feed=feed)
    await source.open(database, START)
    offered = await take(source, database, max_rows=2)
    assert offered is not None
    await journal(database, 1, offered.frame)
    await source.open(database, Checkpoint(position=offered.after, event_time_ms=T0))
    assert feed.acknowledged == [T0]
    assert of_feed(await take(source, database)) == [1, 1]


async def test_a_batch_in_hand_that_was_not_committed_comes_again(database: asyncpg.Connection) -> None:
    source = FeedSource(partition=0, feed=ListedFeed(handed(0, 2)))
    await source.open(database, START)
    assert of_feed(await take(source, database)) == [0, 0, 1, 1]
    await source.open(database, START)
    assert of_feed(await take(source, database)) == [0, 0, 1, 1]


async def test_minutes_that_another_owner_committed_are_left_out(database: asyncpg.Connection) -> None:
    feed = ListedFeed(handed(0, 2), handed(2, 4, revised=1), handed(4, 6))
    source = FeedSource(partition=0, feed=feed)
    await journal(database, 1, handed(0, 5))
    await source.open(database, Checkpoint(position=Position(2, 0), event_time_ms=T0 + 4 * MINUTE_MS))
    assert await take(source, database) is None
    only_revised = await take(source, database)
    assert of_feed(only_revised) == []
    assert only_revised is not None
    assert ((only_revised.frame.known_to_ms - T0) // MINUTE_MS).tolist() == [4, 4]
    await source.committed(only_revised, NULL_MS)
    assert of_feed(await take(source, database)) == [5, 5]


async def test_the_journal_gives_again_what_was_processed(database: asyncpg.Connection) -> None:
    for number in range(1, 5):
        await journal(database, number, handed(number, number + 1))
    source = FeedSource(partition=0, feed=ListedFeed())
    found = [
        (position.sequence, ((part.candles.open_time_ms[0] - T0) // MINUTE_MS))
        async for part, position in source.history(database, Position(2, 0), Position(4, 0))
    ]
    assert found == [(2, 2), (3, 3)]
    with pytest.raises(HistoryGoneError, match="entry 5"):
        async for _ in source.history(database, Position(5, 0), Position(6, 0)):
            pass
