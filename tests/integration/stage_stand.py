"""A stage runner between a producer and the database: what it is fed with, and what it did."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
import numpy as np

from db.connect import connect
from db.repositories import checkpoints, outbox
from db.repositories.checkpoints import Position
from db.repositories.outbox import Message
from pipeline.stage import LogEntry, Rows, StateVersionError, StepResult
from runtime.feed_source import FeedSource
from runtime.stage_runner import RunnerSettings, StageRunner
from runtime.stream_source import StreamSource
from schemas.events import encode
from schemas.frames import MINUTE_MS, NULL_MS, CandleFrame, FeatureFrame, FeedBatch
from streams import stream

T0 = 1_617_321_600_000
SYMBOLS = ("BTCUSDT", "ETHUSDT")
IN, OUT = "test:{features:0}", "test:{predictions:0}"
SERVICE = "ml_inference"
#: What only keeps a test from hanging for ever.
PATIENCE_S = 120.0
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
