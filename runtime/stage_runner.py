"""The one loop that runs every stage.

    read a batch  ->  stage.step  ->  one transaction: rows + outbox + position  ->  publish  ->  next

Starting, restarting and recovering are the same path: take the partition, read the committed position,
restore the newest snapshot, re-live what was processed since without writing it again, go on.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import asyncpg
from redis.exceptions import RedisError

from db.copy import write
from db.one_statement import SESSION, GuardError, UnfitError, statement_of
from db.partitions import ensure_partitions, forget_days, known_days
from db.repositories import checkpoints, outbox
from db.repositories.checkpoints import Checkpoint, FencedError, Position
from db.repositories.outbox import Message
from pipeline.stage import LogEntry, Rows, Stage, StateVersionError, StepResult
from runtime.sources import Batch, HistoryGoneError, Source
from schemas.events import encode
from schemas.frames import MINUTE_MS, NULL_MS, FeatureFrame
from streams import stream
from streams.topics import CONSUMERS

#: An event is poison when it raised this often alone, or was alone in flight in so many crashes.
POISON_TRIES = 3
#: Longest wait for input before the loop looks at its stop sign and clock.
READ_TIMEOUT_S = 0.5
_LOST_SERVER = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # What asyncpg says of a session that was ended in the middle of an answer.
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.QueryCanceledError,
    TimeoutError,
)
#: The database refuses what a step made: no server is lost, an event is bad.
_REFUSED = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, ValueError)


class Guide(Protocol):
    """Holds a runner back, and makes ready what a batch needs."""

    async def before_read(self, connection: asyncpg.Connection, at: Checkpoint) -> bool:
        """Tell whether to read now; waits a little where the answer is no."""
        ...

    async def allow(self, connection: asyncpg.Connection, batch: Batch) -> int:
        """Tell how many leading rows of the batch may be processed now; 0: ask again."""
        ...

    async def relive(self, connection: asyncpg.Connection, frame: Any) -> None:
        """Make ready what re-living a frame needs."""
        ...


class Free:
    """A guide that never holds back."""

    async def before_read(self, connection: asyncpg.Connection, at: Checkpoint) -> bool:
        """Allow."""
        return True

    async def allow(self, connection: asyncpg.Connection, batch: Batch) -> int:
        """Allow all of it."""
        return max(batch.rows, 1)

    async def relive(self, connection: asyncpg.Connection, frame: Any) -> None:
        """Need nothing."""


class Observer(Protocol):
    """Is told what a runner does: logs and metrics."""

    def log(self, entry: LogEntry, stack_trace: str | None = None) -> None:
        """Take a log line."""
        ...

    def batch(
        self, service: str, rows: int, event_time_ms: int, step_s: float, commit_s: float, age_s: float | None
    ) -> None:
        """Count a committed batch; `age_s` is how old its newest candle was by the exchange's clock."""
        ...

    def rows(self, table: str, count: int) -> None:
        """Count committed rows."""
        ...

    def latency(self, seconds: float) -> None:
        """Take the time from a candle's arrival to its committed rows."""
        ...

    def status(self, service: str, status: str, waiting_for: str | None = None) -> None:
        """Take the state of the service: starting, running, waiting, stopping."""
        ...

    def recovered(self, service: str, seconds: float, relived_rows: int) -> None:
        """Take how long recovery took."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerSettings:
    """The limits of a runner.

    Attributes
    ----------
    max_batch_rows
        Rows in one step.
    snapshot_minutes
        Event time between two snapshots.
    stream_cap
        Messages that Redis keeps at most; who falls behind reads the outbox.
    prefix
        Of the stream keys.
    recover
        Whether the first life of the process goes on from the checkpoint; otherwise it begins anew at the
        newest message, and only its later lives recover.
    head_start_s
        How long a stage that nobody waits for leaves the processors to the others when input comes after a
        pause.
    """

    max_batch_rows: int = 4000
    snapshot_minutes: int = 60
    stream_cap: int = 2000
    prefix: str = "tidecast"
    recover: bool = True
    head_start_s: float = 0.0


class StageRunner:
    """Runs one stage in one partition until it is told to stop.

    Parameters
    ----------
    service
        Name of the worker, the `service_name` of its checkpoints.
    partition
        Which share of the symbols.
    make_stage
        Builds a fresh stage; called again for every recovery.
    source
        Where its input comes from.
    out_topic, out_key
        Where its frames go; None if nothing follows.
    connect
        Opens a database connection, waiting as long as it takes.
    client
        A Redis client.
    clock
        Milliseconds of the market's time, for a stage that must notice silence; None in a simulated market,
        whose time is only what its candles say.
    give_up
        Ends in the tables what the state that is lost would have ended, when the stage begins anew.
    """

    def __init__(
        self,
        *,
        service: str,
        partition: int,
        make_stage: Callable[[], Stage[Any]],
        source: Source,
        out_topic: str | None,
        out_key: str | None,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
        client: Any,
        settings: RunnerSettings,
        observer: Observer,
        guide: Guide | None = None,
        clock: Callable[[], int] | None = None,
        give_up: Callable[[asyncpg.Connection], Awaitable[object]] | None = None,
    ) -> None:
        self.service = service
        self.partition = partition
        self._make_stage = make_stage
        self._source = source
        self._out_topic = out_topic
        self._out_key = out_key
        self._connect = connect
        self._client = client
        self._settings = settings
        self._observer = observer
        self._guide: Guide = guide or Free()
        self._clock = clock
        self._give_up = give_up
        self._must_begin_anew = not settings.recover
        self._at = Checkpoint()
        self._snapshot_ms: int | None = None
        self._row_limit = settings.max_batch_rows
        self._failures: dict[Position, int] = {}
        # Starts since anything was committed. A start of the process counts once; starting over within it
        # says nothing about poison.
        self._starts: int | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; a lost server or a lost partition starts over from what is committed."""
        pause_s = 0.05
        while not stop.is_set():
            _end_if_cancelled()
            before = self._at
            try:
                await self._life(stop)
            except (*_LOST_SERVER, FencedError) as error:
                self._note("warning", "connection", f"Starting over: {type(error).__name__}: {error}")
                self._observer.status(self.service, "waiting", "postgres")
                # The pause grows only while nothing gets done.
                pause_s = 0.05 if self._at != before else min(pause_s * 2, 1.0)
                await _pause(stop, pause_s)
            except _StepFailedError:
                pause_s = 0.05

    async def _life(self, stop: asyncio.Event) -> None:
        """Take the partition, recover, and work on one connection."""
        connection = await self._connect()
        try:
            await connection.execute(SESSION)
            if not await self._take(connection, stop):
                return
            stage = await self._recover(connection)
            self._observer.status(self.service, "running")
            await self._work(connection, stage, stop)
            self._observer.status(self.service, "stopping")
            await self._snapshot(connection, stage)
        finally:
            await _close(connection)

    async def _take(self, connection: asyncpg.Connection, stop: asyncio.Event) -> bool:
        """Become the one owner of the partition; the lock lives as long as the connection."""
        name = f"tidecast/{self.service}/{self.partition}"
        told = False
        while not await connection.fetchval("SELECT pg_try_advisory_lock(hashtextextended($1, 0))", name):
            if not told:
                self._note("warning", "ownership", "Another process owns this partition; waiting for it.")
                self._observer.status(self.service, "waiting", "the partition's owner")
                told = True
            await _pause(stop, 0.2)
            if stop.is_set():
                return False
        return True

    async def _recover(self, connection: asyncpg.Connection) -> Stage[Any]:
        """Bring a fresh stage to the committed position."""
        started = time.monotonic()
        self._observer.status(self.service, "starting")
        stage = self._make_stage()
        self._at = await checkpoints.load(connection, self.service, self.partition)
        if self._must_begin_anew:
            await self._begin_anew(connection)
        position = Position()
        kept = await checkpoints.newest_snapshot(connection, self.service, self.partition, stage.version)
        if kept is not None:
            try:
                stage.restore(kept.state)
                position = kept.position
                self._snapshot_ms = kept.event_time_ms
            except StateVersionError as error:
                self._note("warning", "recovery", f"Snapshot not used: {error}")
                stage = self._make_stage()
        relived = 0
        stepped_over = await checkpoints.parked(connection, self.service, self.partition)
        await self._source.open(connection, self._at)
        try:
            async for frame, at in self._source.history(connection, position, self._at.position):
                await self._guide.relive(connection, frame)
                for piece in _without(frame, at, stepped_over):
                    stage.step(piece)
                    relived += 1
        except HistoryGoneError as error:
            # Other settings or another version, and what a new state would be made of is no longer kept.
            self._note(
                "error",
                "recovery",
                f"The state begins anew at the committed position and warms again ({error}); what was open"
                " is given up. `tidecast recover` makes a new folder with a complete state.",
            )
            if self._give_up is not None:
                await self._give_up(connection)
            stage = self._make_stage()
            self._snapshot_ms = None
        if self._at.event_time_ms is not None:
            self._observer.recovered(self.service, time.monotonic() - started, relived)
            self._note("info", "recovery", "Recovered from the checkpoint.", relived_messages=relived)
        return stage

    async def _begin_anew(self, connection: asyncpg.Connection) -> None:
        """Leave checkpoint and backlog behind: a fresh state is committed behind the newest message.

        Where nothing was committed yet there is nothing to leave behind.
        """
        before = self._at
        if before.event_time_ms is not None:
            new = replace(before, position=max(before.position, await self._source.end(connection)))
            stage = self._make_stage()
            async with connection.transaction():
                await checkpoints.advance(
                    connection, self.service, self.partition, old=before, new=new, summary=stage.summary()
                )
                # It takes the place of the newest one, so that later lives recover from here.
                await self._save(connection, stage, new)
                if self._give_up is not None:
                    await self._give_up(connection)
            self._at = new
            self._note(
                "warning",
                "recovery",
                "Recovery is switched off: the checkpoint is ignored, and the state begins anew at the newest"
                " message.",
                left_out_messages=new.position.sequence - before.position.sequence,
            )
        self._must_begin_anew = False

    async def _work(self, connection: asyncpg.Connection, stage: Stage[Any], stop: asyncio.Event) -> None:
        while not stop.is_set():
            _end_if_cancelled()
            if not await self._guide.before_read(connection, self._at):
                continue
            asked_s = time.monotonic()
            batch = await self._source.read(connection, max_rows=self._row_limit, timeout_s=READ_TIMEOUT_S)
            if batch is None:
                self._tick(stage)
                continue
            # What came after a pause is live; what was there at once is a backlog, and waiting would cost.
            if 0 < self._settings.head_start_s < time.monotonic() - asked_s:
                await _pause(stop, self._settings.head_start_s)
            allowed = await self._guide.allow(connection, batch)
            if allowed < batch.rows:
                if allowed <= 0:
                    await _pause(stop, 0.02)
                    continue
                batch = await self._source.read(connection, max_rows=allowed, timeout_s=0.0) or batch
                if batch.rows > allowed:
                    continue
            if self._starts is None:
                self._starts = await checkpoints.count_start(connection, self.service, self.partition)
            if self._starts > POISON_TRIES and await self._is_suspect(connection, batch):
                continue
            await self._process(connection, stage, batch)
            # A limit lowered by a failure grows back once work goes on.
            self._row_limit = min(self._row_limit * 2, self._settings.max_batch_rows)

    async def _process(self, connection: asyncpg.Connection, stage: Stage[Any], batch: Batch) -> None:
        began = time.perf_counter()
        try:
            result = stage.step(batch.frame)
        except Exception as error:
            # Whatever a stage raises is bisected down to one event.
            await self._failed(connection, batch, error)
            raise _StepFailedError from error
        stepped = time.perf_counter()
        try:
            await self._commit(connection, stage, batch, result)
        except _REFUSED as error:
            await self._failed(connection, batch, error)
            raise _StepFailedError from error
        self._failures.clear()
        self._starts = 0
        committed = time.perf_counter()
        self._observer.batch(
            self.service,
            batch.rows,
            self._at.event_time_ms or 0,
            stepped - began,
            committed - stepped,
            _age_s(batch.frame),
        )
        self._observer.latency(committed - began)
        for rows in result.rows:
            self._observer.rows(rows.table, len(rows))
        for entry in result.logs:
            self._observer.log(entry)

    async def _commit(
        self, connection: asyncpg.Connection, stage: Stage[Any], batch: Batch, result: StepResult
    ) -> None:
        payload = None if result.out is None or self._out_topic is None else encode(result.out)
        sent = self._at.outbox_sequence + (payload is not None)
        event_time_ms = self._at.event_time_ms
        if result.event_time_ms != NULL_MS:
            event_time_ms = max(result.event_time_ms, event_time_ms or result.event_time_ms)
        new = replace(
            self._at, position=batch.after, event_time_ms=event_time_ms, outbox_sequence=sent, attempts=0
        )
        for rows in result.rows:
            await ensure_partitions(connection, rows)
        messages = self._messages(batch, result, payload, sent)
        due = self._snapshot_due(new)
        if due or not await self._commit_at_once(connection, stage, result.rows, messages, new):
            async with connection.transaction():
                for rows in result.rows:
                    await write(connection, rows)
                for topic, message in messages:
                    await outbox.add(connection, topic, self.partition, message)
                await checkpoints.advance(
                    connection, self.service, self.partition, old=self._at, new=new, summary=stage.summary()
                )
                if due:
                    await self._save(connection, stage, new)
        self._at = new
        await self._source.committed(batch, event_time_ms if event_time_ms is not None else NULL_MS)
        if payload is not None:
            await self._publish(sent, payload)
        await self.committed(result)
        if due:
            self._snapshot_ms = new.event_time_ms
            await self._trim(connection)

    async def committed(self, result: StepResult) -> None:
        """Do what else follows a commit; a place for those who extend the runner."""

    async def _commit_at_once(
        self,
        connection: asyncpg.Connection,
        stage: Stage[Any],
        batches: Sequence[Rows],
        messages: Sequence[tuple[str, Message]],
        new: Checkpoint,
    ) -> bool:
        """Commit a small batch, such as a live minute, in one round trip; False if it cannot."""
        try:
            statement = statement_of(batches, await known_days(connection, batches))
        except UnfitError:
            return False
        for topic, message in messages:
            outbox.add_in(statement, topic, self.partition, message)
        checkpoints.advance_in(
            statement, self.service, self.partition, old=self._at, new=new, summary=stage.summary()
        )
        try:
            await statement.run(connection)
        except GuardError as error:
            raise checkpoints.fenced(self.service, self.partition, self._at) from error
        except asyncpg.UndefinedTableError:
            # A day was dropped since this connection last looked.
            forget_days(connection)
            return False
        return True

    def _messages(
        self, batch: Batch, result: StepResult, payload: bytes | None, sent: int
    ) -> list[tuple[str, Message]]:
        """List what is kept with the rows, by topic: the journal of the input, and what goes out."""
        from_ms, to_ms = _span(result, self._at.event_time_ms)
        messages = []
        if batch.journal is not None:
            sequence = self._at.position.sequence
            kept = Message(sequence=sequence, payload=batch.journal, from_ms=from_ms, to_ms=to_ms)
            messages.append(("candles", kept))
        if payload is not None and self._out_topic is not None:
            kept = Message(sequence=sent, payload=payload, from_ms=from_ms, to_ms=to_ms)
            messages.append((self._out_topic, kept))
        return messages

    async def _publish(self, sequence: int, payload: bytes) -> None:
        """Put the message on the wire; if the wire is away, readers find it in the outbox."""
        assert self._out_key is not None
        try:
            await stream.publish(
                self._client, self._out_key, sequence, payload, cap=self._settings.stream_cap
            )
        except (RedisError, OSError) as error:
            self._note("warning", "publish", f"Redis did not take message {sequence}: {error}")

    def _snapshot_due(self, new: Checkpoint) -> bool:
        if new.event_time_ms is None:
            return False
        if self._snapshot_ms is None:
            return True
        return new.event_time_ms - self._snapshot_ms >= self._settings.snapshot_minutes * MINUTE_MS

    async def _save(self, connection: asyncpg.Connection, stage: Stage[Any], at: Checkpoint) -> None:
        await checkpoints.save_snapshot(
            connection,
            self.service,
            self.partition,
            at=at,
            version=stage.version,
            state=stage.snapshot(),
            summary=stage.summary(),
        )

    async def _snapshot(self, connection: asyncpg.Connection, stage: Stage[Any]) -> None:
        """Write the state on a clean stop, so that the next start has nothing to re-live."""
        async with connection.transaction():
            await self._save(connection, stage, self._at)

    async def _trim(self, connection: asyncpg.Connection) -> None:
        """Drop messages that every reader is past."""
        if self._out_topic is not None and self._out_key is not None:
            before = await checkpoints.needed_from(connection, CONSUMERS[self._out_topic], self.partition)
            await outbox.trim(connection, self._out_topic, self.partition, before=before)
            try:
                await stream.trim(self._client, self._out_key, before=before)
            except (RedisError, OSError) as error:
                self._note("warning", "publish", f"Redis stream not trimmed: {error}")
        before = await checkpoints.needed_from(connection, [self.service], self.partition)
        if self._source_keeps_journal():
            await outbox.trim(connection, "candles", self.partition, before=before)

    def _source_keeps_journal(self) -> bool:
        return getattr(self._source, "topic", None) == "candles"

    async def _failed(self, connection: asyncpg.Connection, batch: Batch, error: Exception) -> None:
        """Bisect a failing batch; park the event that raised three times on its own."""
        position = self._at.position
        self._note(
            "error",
            "step",
            f"A step over {batch.rows} events raised {type(error).__name__}: {error}",
            stack_trace=traceback.format_exc(),
            position=f"{position.sequence}.{position.row}",
        )
        if batch.rows > 1:
            self._row_limit = max(batch.rows // 2, 1)
            return
        self._row_limit = 1
        tries = self._failures[position] = self._failures.get(position, 0) + 1
        if tries >= POISON_TRIES:
            await self._park(connection, batch, f"{type(error).__name__}: {error}")

    async def _is_suspect(self, connection: asyncpg.Connection, batch: Batch) -> bool:
        """After too many deaths with work in flight take single events, then park the first of them."""
        if self._row_limit > 1:
            self._row_limit = 1
            return True
        assert self._starts is not None
        if self._starts > 2 * POISON_TRIES:
            await self._park(connection, batch, "the process died three times with this event in flight")
            self._starts = 0
            return True
        return False

    async def _park(self, connection: asyncpg.Connection, batch: Batch, error: str) -> None:
        """Step over an event for good: it is kept as a dead letter and never tried again."""
        # An event of the feed has no place in a stream: nothing has to step over it later.
        new = self._at if batch.journal is not None else replace(self._at, position=batch.after)
        raw = batch.journal if batch.journal is not None else encode(batch.frame)
        async with connection.transaction():
            if batch.journal is None:
                await checkpoints.park(connection, self.service, self.partition, self._at.position, error)
            await checkpoints.advance(
                connection, self.service, self.partition, old=self._at, new=new, summary={"parked": error}
            )
            await connection.execute(
                "INSERT INTO dead_letters (kind, exchange, raw, error) VALUES ($1, $2, $3, $4)",
                "poison",
                self.service,
                raw,
                error,
            )
        self._at = new
        self._source.skip(batch)
        self._failures.clear()
        self._note("error", "poison", f"An event was parked after repeated failures: {error}")

    def _tick(self, stage: Stage[Any]) -> None:
        """Let a stage that must notice silence look at the clock; it may alarm, but makes no rows."""
        tick = getattr(stage, "tick", None)
        if tick is not None and self._clock is not None:
            for entry in tick(self._clock()):
                self._observer.log(entry)

    def _note(
        self, level: Any, subcategory: str, message: str, stack_trace: str | None = None, **context: Any
    ) -> None:
        entry = LogEntry(
            level=level,
            category=self.service,
            subcategory=subcategory,
            message=message,
            context={"partition": self.partition, **context},
        )
        self._observer.log(entry, stack_trace)


class _StepFailedError(RuntimeError):
    """A step raised; the stage's state is not to be trusted any more."""


def _without(frame: Any, at: Position, stepped_over: frozenset[Position]) -> Sequence[Any]:
    """Cut parked rows out of a message that is re-lived."""
    rows = sorted(p.row - at.row for p in stepped_over if p.sequence == at.sequence and p.row >= at.row)
    if not rows:
        return [frame]
    pieces, first = [], 0
    for row in [*rows, len(frame)]:
        if row > first:
            pieces.append(frame.rows(slice(first, row)))
        first = row + 1
    return pieces


def _span(result: StepResult, event_time_ms: int | None) -> tuple[int, int]:
    """Tell the event time that a batch's messages cover."""
    out = result.out
    if out is not None and len(out):
        return int(out.open_time_ms.min()), int(out.open_time_ms.max())
    moment = result.event_time_ms if result.event_time_ms != NULL_MS else (event_time_ms or 0)
    return moment, moment


def _end_if_cancelled() -> None:
    """End a task whose cancellation was swallowed on the way: some libraries do where an answer comes too."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return


async def _close(connection: asyncpg.Connection) -> None:
    try:
        await connection.close(timeout=2)
    except _LOST_SERVER:
        connection.terminate()


def _age_s(frame: Any) -> float | None:
    """Tell how old the newest candle of a batch was when its features were computed."""
    ages = frame.age_ms() if isinstance(frame, FeatureFrame) else None
    return float(ages[-1]) / 1000 if ages is not None and len(ages) else None


__all__ = ["Free", "Guide", "Observer", "RunnerSettings", "StageRunner"]
