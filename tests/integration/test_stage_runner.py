"""The runner against real servers: nothing lost and nothing twice, whatever breaks."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
import numpy as np
import pytest

from db.connect import connect
from db.repositories import checkpoints, outbox
from db.repositories.checkpoints import Position
from db.repositories.outbox import Message
from pipeline.stage import LogEntry, Rows, StateVersionError, StepResult
from runtime.feed_source import FeedSource
from runtime.poison import POISON_TRIES
from runtime.stage_runner import RunnerSettings, StageRunner
from runtime.stream_source import StreamSource
from schemas.events import encode
from schemas.frames import MINUTE_MS, NULL_MS, CandleFrame, FeatureFrame, FeedBatch
from streams import stream
from streams.connection import connect as connect_redis

T0 = 1_617_321_600_000
SYMBOLS = ("BTCUSDT", "ETHUSDT")
IN, OUT = "test:{features:0}", "test:{predictions:0}"
SERVICE = "ml_inference"
PATIENCE_S = 20.0
#: Closes by which a test asks for trouble.
RAISES, REFUSED = 666.0, 777.0


class Sums:
    """Writes the running sum of each symbol's closes: a lost or doubled event shows in every later row."""

    name = "sums"
    version = 1

    def __init__(self) -> None:
        self._sum = dict.fromkeys(range(len(SYMBOLS)), 0.0)

    def step(self, batch: FeatureFrame) -> StepResult:
        closes = batch.ohlcv[:, 3]
        if (closes == RAISES).any():
            raise ArithmeticError(f"cannot bear {RAISES}")
        sums = []
        for symbol, close in zip(batch.symbol_index.tolist(), closes.tolist(), strict=True):
            self._sum[symbol] += close
            sums.append(self._sum[symbol])
        twice = np.repeat(np.arange(len(batch)), np.where(closes == REFUSED, 2, 1))
        rows = Rows(
            table="ml_features",
            op="insert",
            columns={
                "symbol": np.array(SYMBOLS, object)[batch.symbol_index][twice],
                "timestamp": batch.open_time_ms[twice],
                "close": np.array(sums)[twice],
                "is_complete": np.ones(len(twice), np.bool_),
                "schema_hash": ["h"] * len(twice),
                "vector": np.zeros((len(twice), 1), np.float32),
            },
        )
        return StepResult(
            rows=[rows] if len(batch) else [],
            out=batch if len(batch) else None,
            event_time_ms=batch.complete_to_ms,
        )

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self._sum)

    def restore(self, state: bytes) -> None:
        if not state:
            raise StateVersionError("empty")
        self._sum = msgspec.msgpack.decode(state, type=dict[int, float])

    def summary(self) -> dict[str, Any]:
        return {"sums": len(self._sum)}


class SumsOfCandles(Sums):
    """The same over candles as the feed gives them."""

    def step(self, batch: Any) -> StepResult:
        rows = batch.candles
        result = super().step(frame_of(rows.symbol_index, rows.open_time_ms, rows.ohlcv[:, 3]))
        return StepResult(rows=result.rows, out=result.out, event_time_ms=int(batch.known_to_ms.min()))


@dataclass
class Seen:
    """Remembers what a runner told."""

    statuses: list[tuple[str, str | None]] = field(default_factory=list)
    relived: list[int] = field(default_factory=list)
    logs: list[LogEntry] = field(default_factory=list)

    def log(self, entry: LogEntry, stack_trace: str | None = None) -> None:
        self.logs.append(entry)

    def batch(self, *values: Any) -> None: ...

    def rows(self, table: str, count: int) -> None: ...

    def latency(self, seconds: float) -> None: ...

    def status(self, service: str, status: str, waiting_for: str | None = None) -> None:
        self.statuses.append((status, waiting_for))

    def recovered(self, service: str, seconds: float, relived_rows: int) -> None:
        self.relived.append(relived_rows)


def frame_of(symbol_index: Any, open_time_ms: Any, close: Any) -> FeatureFrame:
    count = len(open_time_ms)
    ohlcv = np.repeat(np.asarray(close, float)[:, None], 5, axis=1)
    return FeatureFrame(
        symbols=SYMBOLS,
        symbol_index=np.asarray(symbol_index, np.int32),
        open_time_ms=np.asarray(open_time_ms, np.int64),
        ohlcv=ohlcv,
        origin=np.zeros(count, np.int8),
        vector=np.zeros((count, 1), np.float32),
        is_complete=np.ones(count, np.bool_),
        complete_to_ms=int(max(open_time_ms)) if count else T0,
        schema_hash="h",
    )


def minute(number: int, *closes: float) -> FeatureFrame:
    """Make the message of a minute, numbered from 0, with a close for each symbol."""
    values = closes or (float(number + 1), float(number + 1) / 4)
    return frame_of(range(len(values)), [T0 + number * MINUTE_MS] * len(values), values)


class Stand:
    """A producer, a consumer's runner and the database between them."""

    def __init__(self, database_url: str, database: asyncpg.Connection, client: Any) -> None:
        self.url = database_url
        self.database = database
        self.client = client
        self.sent = 0

    async def send(self, *frames: FeatureFrame, published: bool = True) -> None:
        """Do what the stage before does: commit a message, then put it on the wire."""
        for frame in frames:
            self.sent += 1
            payload = encode(frame)
            message = Message(sequence=self.sent, payload=payload, from_ms=T0, to_ms=T0)
            await outbox.add(self.database, "features", 0, message)
            if published:
                await stream.publish(self.client, IN, self.sent, payload, cap=1000)

    def runner(self, seen: Seen | None = None, url: str | None = None, **options: Any) -> StageRunner:
        limits = {
            name: options.pop(name) for name in ("max_batch_rows", "snapshot_minutes") if name in options
        }
        values: dict[str, Any] = {
            "service": SERVICE,
            "partition": 0,
            "make_stage": Sums,
            "source": self.source(),
            "out_topic": "predictions",
            "out_key": OUT,
            "connect": lambda: connect(url or self.url),
            "client": self.client,
            "settings": RunnerSettings(**{"snapshot_minutes": 10, **limits}),
            "observer": seen or Seen(),
        }
        return StageRunner(**values | options)

    def source(self) -> StreamSource:
        return StreamSource(
            topic="features", partition=0, key=IN, frame_type=FeatureFrame, client=self.client, max_minutes=60
        )

    async def rows(self) -> list[tuple[str, int, float]]:
        found = await self.database.fetch("SELECT symbol, timestamp, close FROM ml_features ORDER BY 2, 1")
        return [(r[0], checkpoints.milliseconds(r[1]), r[2]) for r in found]

    async def position(self, service: str = SERVICE) -> Position:
        return (await checkpoints.load(self.database, service, 0)).position

    async def done(self) -> None:
        """Wait until everything that was sent is processed."""
        await until(lambda: self.is_done())

    async def is_done(self) -> bool:
        return await self.position() == Position(self.sent + 1, 0)

    async def outgoing(self) -> list[tuple[str, int, float]]:
        """Read what went out, from the outbox."""
        answer = await self.database.fetch(
            "SELECT sequence FROM outbox WHERE topic = 'predictions' ORDER BY sequence"
        )
        assert [row[0] for row in answer] == list(range(1, len(answer) + 1))
        source = StreamSource(
            topic="predictions",
            partition=0,
            key=OUT,
            frame_type=FeatureFrame,
            client=self.client,
            max_minutes=60,
        )
        found = []
        history = source.history(self.database, Position(), Position(len(answer) + 1, 0))
        async for frame, _ in history:
            found += list(
                zip(
                    [SYMBOLS[k] for k in frame.symbol_index],
                    frame.open_time_ms.tolist(),
                    frame.ohlcv[:, 3].tolist(),
                    strict=True,
                )
            )
        return found


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110 - what is waited for lies in a database
            await asyncio.sleep(0.01)


def expected(*frames: FeatureFrame) -> list[tuple[str, int, float]]:
    """Fold the frames as an undisturbed stage would."""
    sums, rows = dict.fromkeys(range(len(SYMBOLS)), 0.0), []
    for frame in frames:
        for symbol, at, close in zip(
            frame.symbol_index.tolist(), frame.open_time_ms.tolist(), frame.ohlcv[:, 3].tolist(), strict=True
        ):
            sums[symbol] += close
            rows.append((SYMBOLS[symbol], at, sums[symbol]))
    return rows


@contextlib.asynccontextmanager
async def running(runner: StageRunner, *, kill: bool = False) -> AsyncIterator[asyncio.Event]:
    """Run until the block ends: stopped cleanly, or cut off as a killed process is."""
    stop = asyncio.Event()
    task = asyncio.create_task(runner.run(stop))
    try:
        yield stop
    finally:
        if task.done():
            task.result()
        if kill:
            task.cancel()
        else:
            stop.set()
        done, _ = await asyncio.wait({task}, timeout=PATIENCE_S)
        if not done:
            task.print_stack()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, PATIENCE_S)


@pytest.fixture
async def stand(database_url: str, redis_url: str) -> AsyncIterator[Stand]:
    database = await connect(database_url)
    client = connect_redis(redis_url)
    yield Stand(database_url, database, client)
    await client.aclose()
    await database.close()


async def test_rows_message_and_position_commit_together(stand: Stand) -> None:
    frames = [minute(k) for k in range(5)]
    async with running(stand.runner(max_batch_rows=2)):
        await stand.send(*frames)
        await stand.done()
    assert await stand.rows() == expected(*frames)
    assert [(symbol, at) for symbol, at, _ in await stand.outgoing()] == [r[:2] for r in expected(*frames)]
    assert await stream.last_sequence(stand.client, OUT) == 5
    at = await checkpoints.load(stand.database, SERVICE, 0)
    assert (at.position, at.event_time_ms, at.outbox_sequence) == (Position(6, 0), T0 + 4 * MINUTE_MS, 5)
    assert at.written == {"ml_features": 10}


async def test_nothing_of_a_batch_is_there_while_its_transaction_is_open(stand: Stand) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    class Slow(StageRunner):
        async def _save(self, *values: Any) -> None:
            await super()._save(*values)
            reached.set()
            await go_on.wait()

    runner = stand.runner()
    runner.__class__ = Slow
    async with running(runner):
        await stand.send(minute(0))
        await reached.wait()
        assert await stand.rows() == []
        assert await stand.position() == Position()
        assert await stream.last_sequence(stand.client, OUT) == 0
        go_on.set()
        await stand.done()
    assert await stand.rows() == expected(minute(0))


async def test_a_second_owner_waits_until_the_first_lets_go(stand: Stand) -> None:
    frames = [minute(k) for k in range(6)]
    second_saw = Seen()
    first_stop = asyncio.Event()
    first = asyncio.create_task(stand.runner().run(first_stop))
    await stand.send(*frames[:3])
    await stand.done()
    async with running(stand.runner(second_saw)):

        async def waits() -> bool:
            return ("waiting", "the partition's owner") in second_saw.statuses

        await until(waits)
        await stand.send(*frames[3:5])
        await stand.done()
        assert ("running", None) not in second_saw.statuses
        first_stop.set()
        await first
        await stand.send(frames[5])
        await stand.done()
    assert await stand.rows() == expected(*frames)


async def test_a_runner_whose_position_was_moved_starts_over_and_writes_nothing_twice(stand: Stand) -> None:
    frames = [minute(k) for k in range(4)]
    seen = Seen()
    async with running(stand.runner(seen)):
        await stand.send(*frames[:2])
        await stand.done()
        # Somebody else processes the third message.
        at = await checkpoints.load(stand.database, SERVICE, 0)
        await stand.database.execute(
            "UPDATE \"recoveryState\" SET position_sequence = 4 WHERE checkpoint_type = 'intermediate'"
        )
        assert at.position == Position(3, 0)
        await stand.send(*frames[2:])
        await stand.done()
    # Its row is not ours to write, but what it added is in the sums.
    wanted = [row for row in expected(*frames) if row[1] != T0 + 2 * MINUTE_MS]
    assert await stand.rows() == wanted
    assert any("FencedError" in entry.message for entry in seen.logs)


async def test_a_killed_runner_relives_what_followed_its_snapshot_and_goes_on_identically(
    stand: Stand,
) -> None:
    frames = [minute(k) for k in range(40)]
    seen = Seen()
    for first in range(0, 40, 8):
        async with running(stand.runner(seen, max_batch_rows=3), kill=True):
            await stand.send(*frames[first : first + 8])
            await stand.done()
    assert await stand.rows() == expected(*frames)
    assert any(seen.relived)
    assert max(seen.relived) <= 12, "more than one snapshot's distance was re-lived"


async def test_a_clean_stop_leaves_nothing_to_relive(stand: Stand) -> None:
    seen = Seen()
    frames = [minute(k) for k in range(7)]
    async with running(stand.runner(seen)):
        await stand.send(*frames[:5])
        await stand.done()
    async with running(stand.runner(seen)):
        await stand.send(*frames[5:])
        await stand.done()
    assert seen.relived == [0]
    assert await stand.rows() == expected(*frames)


async def test_a_snapshot_of_another_state_is_replaced_by_reliving_everything(stand: Stand) -> None:
    frames = [minute(k) for k in range(5)]
    async with running(stand.runner()):
        await stand.send(*frames[:3])
        await stand.done()
    await stand.database.execute(
        "UPDATE \"recoveryState\" SET snapshot = '' WHERE checkpoint_type = 'success'"
    )
    seen = Seen()
    async with running(stand.runner(seen)):
        await stand.send(*frames[3:])
        await stand.done()
    assert seen.relived == [3]
    assert await stand.rows() == expected(*frames)


async def test_redis_flushed_while_running_loses_nothing(stand: Stand) -> None:
    frames = [minute(k) for k in range(30)]
    async with running(stand.runner()):
        for number, frame in enumerate(frames):
            await stand.send(frame)
            if number % 7 == 3:
                await stand.client.flushall()
        await stand.done()
    assert await stand.rows() == expected(*frames)


async def test_a_hole_in_the_stream_is_read_from_the_outbox(stand: Stand) -> None:
    frames = [minute(k) for k in range(8)]
    await stand.send(*frames[:2])
    await stand.send(*frames[2:5], published=False)
    await stand.send(frames[5])
    await stand.send(*frames[6:], published=False)
    async with running(stand.runner()):
        await stand.done()
    assert await stand.rows() == expected(*frames)


async def test_without_redis_everything_arrives_through_the_outbox(stand: Stand) -> None:
    frames = [minute(k) for k in range(4)]
    dead = connect_redis("redis://127.0.0.1:1/0")
    stand_source = StreamSource(
        topic="features", partition=0, key=IN, frame_type=FeatureFrame, client=dead, max_minutes=60
    )
    async with running(stand.runner(source=stand_source, client=dead)):
        await stand.send(*frames, published=False)
        await stand.done()
    assert await stand.rows() == expected(*frames)
    await dead.aclose()


@pytest.mark.parametrize("bad", [RAISES, REFUSED])
@pytest.mark.parametrize("joined", [True, False])
async def test_an_event_that_always_fails_is_parked_and_the_rest_goes_on(
    stand: Stand, bad: float, joined: bool
) -> None:
    good = [minute(k) for k in range(12)]
    poisoned = minute(5, 6.0, bad)
    sent = [*good[:5], poisoned, *good[6:]]
    if joined:
        await stand.send(*sent)
    async with running(stand.runner(), kill=True):
        if not joined:
            await stand.send(*sent)
        await stand.done()
    wanted = expected(*good[:5], minute(5, 6.0), *good[6:])
    assert await stand.rows() == wanted
    letters = await stand.database.fetch("SELECT kind, exchange, error FROM dead_letters")
    assert [(row[0], row[1]) for row in letters] == [("poison", SERVICE)]
    errors = await stand.database.fetch(
        "SELECT operation_id FROM \"recoveryState\" WHERE checkpoint_type = 'error'"
    )
    assert [row[0] for row in errors] == [f"{SERVICE}/0/parked/6.1"]
    # Recovery steps over it, too.
    await stand.database.execute("DELETE FROM \"recoveryState\" WHERE checkpoint_type = 'success'")
    async with running(stand.runner()):
        await stand.send(minute(12))
        await stand.done()
    assert await stand.rows() == expected(*good[:5], minute(5, 6.0), *good[6:], minute(12))


async def test_an_event_is_tried_three_times_before_it_is_parked(stand: Stand) -> None:
    seen = Seen()
    async with running(stand.runner(seen)):
        await stand.send(minute(0, RAISES))
        await stand.done()
    assert sum(entry.subcategory == "step" for entry in seen.logs) == POISON_TRIES
    assert sum(entry.subcategory == "poison" for entry in seen.logs) == 1


async def test_a_message_without_rows_is_not_parked_with_its_neighbour(stand: Stand) -> None:
    nothing = frame_of([], [], [])
    await stand.send(nothing, minute(1, RAISES), nothing, minute(2))
    async with running(stand.runner()):
        await stand.done()
    async with running(stand.runner(), kill=True):
        await stand.send(minute(3))
        await stand.done()
    parked = await checkpoints.parked(stand.database, SERVICE, 0)
    assert parked == {Position(2, 0)}
    assert await stand.rows() == expected(minute(2), minute(3))


async def test_an_event_that_kills_the_process_again_and_again_is_parked(stand: Stand) -> None:
    class Deadly(Sums):
        def step(self, batch: FeatureFrame) -> StepResult:
            if (batch.ohlcv[:, 3] == RAISES).any():
                raise SystemExit(9)
            return super().step(batch)

    good = [minute(k) for k in range(8)]
    await stand.send(*good[:3], minute(3, 4.0, RAISES), *good[4:])
    deaths = 0
    for _ in range(60):
        task = asyncio.create_task(_until_dead(stand.runner(make_stage=Deadly), stand))
        if await asyncio.wait_for(task, PATIENCE_S):
            break
        deaths += 1
    assert await stand.rows() == expected(*good[:3], minute(3, 4.0), *good[4:])
    assert await checkpoints.parked(stand.database, SERVICE, 0) == {Position(4, 1)}
    assert deaths < 20


async def _until_dead(runner: StageRunner, stand: Stand) -> bool:
    """Tell whether everything got done before the runner died."""
    stop = asyncio.Event()
    done = asyncio.create_task(stand.done())

    async def work() -> bool:
        try:
            await runner.run(stop)
        except SystemExit:
            return False
        return True

    working = asyncio.create_task(work())
    await asyncio.wait({done, working}, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    done.cancel()
    await asyncio.gather(done, return_exceptions=True)
    return await working


async def test_sessions_ended_at_any_moment_write_nothing_twice(stand: Stand) -> None:
    frames = [minute(k) for k in range(60)]
    await stand.send(*frames)
    chance = Random(3)
    ended = 0
    async with running(stand.runner(max_batch_rows=3)), asyncio.timeout(2 * PATIENCE_S):
        while not await stand.is_done():
            before = await stand.position()

            async def got_on(before: Position = before) -> bool:
                return await stand.position() > before

            await until(got_on)
            for _ in range(chance.randrange(40)):
                await asyncio.sleep(0)  # so that it strikes here and there
            ended += await stand.database.fetchval(
                """
                SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()
                """
            )
    assert ended > 5
    assert await stand.rows() == expected(*frames)
    assert len(await stand.outgoing()) == 120


class Cutter:
    """A wire to PostgreSQL that lets COMMITs through and loses every n-th answer, connection and all."""

    def __init__(self, url: str, every: int) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 5432
        self._parts = parts
        self._every = every
        self._commits = 0
        self._in_transaction = False
        self.lost = 0

    def _commits_with(self, data: bytes) -> bool:
        """Know the end of a transaction, or a statement that moves the position in one of its own."""
        if b"BEGIN" in data:
            self._in_transaction = True
        ends = b"COMMIT;" in data or (not self._in_transaction and b'"attempts":0' in data)
        if b"COMMIT;" in data or b"ROLLBACK;" in data:
            self._in_transaction = False
        return ends

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        location = re.sub(r"@[^/]*$", f"@127.0.0.1:{port}", self._parts.netloc)
        try:
            yield urlunsplit(self._parts._replace(netloc=location))
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
        self._in_transaction = False
        cut = asyncio.Event()

        async def up() -> None:
            while data := await reader.read(65536):
                if self._commits_with(data):
                    self._commits += 1
                    if self._commits % self._every == 0:
                        cut.set()
                up_writer.write(data)
                await up_writer.drain()

        async def down() -> None:
            while data := await up_reader.read(65536):
                if cut.is_set():
                    self.lost += 1
                    return
                writer.write(data)
                await writer.drain()

        tasks = {asyncio.create_task(up()), asyncio.create_task(down())}
        _, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in (writer, up_writer):
            each.close()


async def test_a_commit_whose_answer_is_lost_is_not_repeated(stand: Stand) -> None:
    frames = [minute(k) for k in range(24)]
    await stand.send(*frames)
    cutter = Cutter(stand.url, every=3)
    async with cutter.open() as url, running(stand.runner(url=url, max_batch_rows=4)):
        await stand.done()
    assert cutter.lost >= 3
    assert await stand.rows() == expected(*frames)
    assert len(await stand.outgoing()) == 48


async def test_messages_go_once_every_reader_has_a_snapshot_behind_them(stand: Stand) -> None:
    frames = [minute(k) for k in range(30)]
    async with running(stand.runner(max_batch_rows=2, snapshot_minutes=5)):
        await stand.send(*frames)
        await stand.done()
    count = "SELECT count(*) FROM outbox WHERE topic = 'predictions'"
    assert await stand.database.fetchval(count) == 30, "the forecaster has not been here: all is kept"
    await stand.database.execute(
        """
        INSERT INTO "recoveryState" (service_name, operation_id, partition, checkpoint_type, state_data,
            position_sequence, position_row, outbox_sequence, event_time, created_at)
        VALUES ('forecaster', 'forecaster/0/x', 0, 'success', '{}', 21, 0, 0, now(), now())
        """
    )
    async with running(stand.runner(max_batch_rows=2, snapshot_minutes=5)):
        await stand.send(*[minute(k) for k in range(30, 37)])
        await stand.done()
    first = await stand.database.fetchval("SELECT min(sequence) FROM outbox WHERE topic = 'predictions'")
    assert first == 21


# --- the feed as the source ---


class ListedFeed:
    """Gives minutes that a test has listed, one a batch, as the real feed does: each once, in order."""

    def __init__(self, first: int, *, resume: int | None = None) -> None:
        self._next = first if resume is None else resume
        self._to = self._next
        self.acknowledged: list[int] = []

    def allow(self, to: int) -> None:
        self._to = max(self._to, to)

    async def next(self, *, max_rows: int, timeout_s: float) -> FeedBatch | None:
        if self._next >= self._to:
            await asyncio.sleep(min(timeout_s, 0.01))
            return None
        at = self._next
        self._next += 1
        return candles_of(at, at + 1)

    async def acknowledge(self, committed_to_ms: int) -> None:
        self.acknowledged.append(committed_to_ms)


def candles_of(first: int, end: int) -> FeedBatch:
    frames = [minute(k) for k in range(first, end)]
    whole = FeatureFrame.concat(frames)
    return FeedBatch(
        candles=CandleFrame(
            symbols=SYMBOLS,
            symbol_index=whole.symbol_index,
            open_time_ms=whole.open_time_ms,
            ohlcv=whole.ohlcv,
            origin=whole.origin,
        ),
        known_to_ms=np.full(len(SYMBOLS), T0 + (end - 1) * MINUTE_MS if end > first else NULL_MS),
        revisions=CandleFrame.empty(SYMBOLS),
    )


def feeding(stand: Stand, feed: ListedFeed, **options: Any) -> StageRunner:
    return stand.runner(
        service="feature_calculator",
        make_stage=SumsOfCandles,
        source=FeedSource(partition=0, feed=feed),
        out_topic="features",
        out_key=IN,
        **options,
    )


async def reached(stand: Stand, number: int) -> None:
    async def there() -> bool:
        at = await checkpoints.load(stand.database, "feature_calculator", 0)
        return at.event_time_ms == T0 + (number - 1) * MINUTE_MS

    await until(there)


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


# --- recovery switched off ---


def anew(stand: Stand, seen: Seen, **options: Any) -> StageRunner:
    """Make the runner of a process that may not recover."""
    return stand.runner(seen, settings=RunnerSettings(snapshot_minutes=10, recover=False), **options)


async def test_without_recovery_a_start_ignores_checkpoint_and_backlog(stand: Stand) -> None:
    frames = [minute(k) for k in range(9)]
    async with running(stand.runner(), kill=True):
        await stand.send(*frames[:4])
        await stand.done()
    await stand.send(*frames[4:6])
    seen, given_up = Seen(), []

    async def give_up(connection: asyncpg.Connection) -> None:
        given_up.append(connection.is_in_transaction())

    async with running(anew(stand, seen, give_up=give_up)):
        await stand.done()
        await stand.send(*frames[6:])
        await until(lambda: has_rows(stand, 14))
    assert await stand.rows() == [*expected(*frames[:4]), *expected(*frames[6:])]
    assert given_up == [True]
    told = [entry for entry in seen.logs if "switched off" in entry.message]
    assert [entry.context["left_out_messages"] for entry in told] == [2]


async def test_without_recovery_later_lives_of_the_process_recover_all_the_same(stand: Stand) -> None:
    frames = [minute(k) for k in range(12)]
    async with running(stand.runner()):
        await stand.send(*frames[:4])
        await stand.done()
    seen = Seen()
    async with running(anew(stand, seen), kill=True):
        await stand.send(*frames[4:8])
        await stand.done()
        await end_sessions(stand)
        await stand.send(*frames[8:10])
        await stand.done()
    rows = await stand.rows()
    began = len(expected(*frames[:4]))
    # However many messages were there before it began anew, it went on from them without a break.
    assert rows[began:] in [expected(*frames[k:10]) for k in range(4, 9)]
    assert len([entry for entry in seen.logs if "switched off" in entry.message]) == 1
    # A process that may recover finds the state of the one that might not.
    async with running(stand.runner()):
        await stand.send(*frames[10:])
        await stand.done()
    assert (await stand.rows())[began:] in [expected(*frames[k:]) for k in range(4, 9)]


async def test_without_recovery_a_birth_misses_nothing(stand: Stand) -> None:
    frames = [minute(k) for k in range(5)]
    await stand.send(*frames[:3])
    async with running(anew(stand, Seen())):
        await stand.send(*frames[3:])
        await stand.done()
    assert await stand.rows() == expected(*frames)


async def test_without_recovery_the_feed_goes_on_from_its_now_and_the_journal_without_a_hole(
    stand: Stand,
) -> None:
    feed = ListedFeed(0)
    feed.allow(4)
    async with running(feeding(stand, feed), kill=True):
        await reached(stand, 4)
    later, seen = ListedFeed(0, resume=7), Seen()
    later.allow(9)
    settings = RunnerSettings(snapshot_minutes=10, recover=False)
    async with running(feeding(stand, later, seen=seen, settings=settings), kill=True):
        await reached(stand, 9)
    again = ListedFeed(0, resume=9)
    again.allow(10)
    async with running(feeding(stand, again)):
        await reached(stand, 10)
    wanted = [*expected(*[minute(k) for k in range(4)]), *expected(*[minute(k) for k in range(7, 10)])]
    assert await stand.rows() == wanted


async def has_rows(stand: Stand, count: int) -> bool:
    return len(await stand.rows()) == count


async def end_sessions(stand: Stand) -> None:
    """Cut every connection to this database but the test's own."""
    await stand.database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
