"""The one loop that runs every stage.

    read a batch  ->  stage.step  ->  one transaction: rows + outbox + position  ->  publish  ->  next

Starting, restarting and recovering are the same path: take the partition, read the committed position,
restore the newest snapshot, re-live what was processed since without writing it again, go on.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
from redis.exceptions import RedisError

from db.copy import write
from db.one_statement import SESSION, GuardError, OneStatement, UnfitError, statement_of
from db.partitions import ensure_partitions, forget_days, known_days
from db.repositories import checkpoints, outbox
from db.repositories.checkpoints import Checkpoint, FencedError
from db.repositories.outbox import Message
from pipeline.stage import LogEntry, Rows, Stage, StepResult
from runtime.guide import Free, Guide
from runtime.observer import Observer
from runtime.poison import Suspicion, Verdict, park
from runtime.recovery import Recovery, save
from runtime.sources import Batch, Source
from schemas.events import encode
from schemas.frames import MINUTE_MS, NULL_MS, FeatureFrame
from streams import stream
from streams.topics import CONSUMERS

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
        self._source = source
        self._out_topic = out_topic
        self._out_key = out_key
        self._connect = connect
        self._client = client
        self._settings = settings
        self._observer = observer
        self._guide: Guide = guide or Free()
        self._clock = clock
        self._recovery = Recovery(
            service=service,
            partition=partition,
            make_stage=make_stage,
            source=source,
            guide=self._guide,
            note=self._note,
            give_up=give_up,
        )
        self._must_begin_anew = not settings.recover
        self._at = Checkpoint()
        self._snapshot_ms: int | None = None
        self._suspicion = Suspicion(settings.max_batch_rows)

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
        self._at = await checkpoints.load(connection, self.service, self.partition)
        if self._must_begin_anew:
            self._at = await self._recovery.begin_anew(connection, self._at)
            self._must_begin_anew = False
        stage, self._snapshot_ms, relived = await self._recovery.relive(connection, self._at)
        if self._at.event_time_ms is not None:
            self._observer.recovered(self.service, time.monotonic() - started, relived)
            self._note("info", "recovery", "Recovered from the checkpoint.", relived_messages=relived)
        return stage

    async def _work(self, connection: asyncpg.Connection, stage: Stage[Any], stop: asyncio.Event) -> None:
        while not stop.is_set():
            _end_if_cancelled()
            if not await self._guide.before_read(connection, self._at):
                continue
            asked_s = time.monotonic()
            batch = await self._source.read(
                connection, max_rows=self._suspicion.row_limit, timeout_s=READ_TIMEOUT_S
            )
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
            verdict = await self._suspicion.of_deaths(connection, self.service, self.partition)
            if verdict is Verdict.PARK:
                await self._park(connection, batch, "the process died three times with this event in flight")
            if verdict is not Verdict.GO_ON:
                continue
            await self._process(connection, stage, batch)
            self._suspicion.got_on()

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
            self._at,
            position=batch.after,
            event_time_ms=event_time_ms,
            outbox_sequence=sent,
            attempts=0,
            written=_added(self._at.written, result.rows),
        )
        for rows in result.rows:
            await ensure_partitions(connection, rows)
        messages = self._messages(batch, result, payload, sent)
        due = self._snapshot_due(new)
        statement = None if due else await self._statement(connection, stage, result.rows, messages, new)
        if statement is None or not await self._ran(connection, statement):
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

    async def _statement(
        self,
        connection: asyncpg.Connection,
        stage: Stage[Any],
        batches: Sequence[Rows],
        messages: Sequence[tuple[str, Message]],
        new: Checkpoint,
    ) -> OneStatement | None:
        """Make the statement that commits a small batch, such as a live minute; None if there is none."""
        try:
            statement = statement_of(batches, await known_days(connection, batches))
        except UnfitError:
            return None
        for topic, message in messages:
            outbox.add_in(statement, topic, self.partition, message)
        checkpoints.advance_in(
            statement, self.service, self.partition, old=self._at, new=new, summary=stage.summary()
        )
        return statement

    async def _ran(self, connection: asyncpg.Connection, statement: OneStatement) -> bool:
        """Commit in one round trip; False if it has to go the long way after all."""
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
        await save(connection, self.service, self.partition, stage, at)

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
        """Take less the next time; step over an event that raised often enough on its own."""
        position = self._at.position
        self._note(
            "error",
            "step",
            f"A step over {batch.rows} events raised {type(error).__name__}: {error}",
            stack_trace=traceback.format_exc(),
            position=f"{position.sequence}.{position.row}",
        )
        if self._suspicion.raised(batch.rows, position):
            await self._park(connection, batch, f"{type(error).__name__}: {error}")

    async def _park(self, connection: asyncpg.Connection, batch: Batch, error: str) -> None:
        self._at = await park(connection, self.service, self.partition, self._at, batch, error)
        self._source.skip(batch)
        self._suspicion.lifted()
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


def _added(before: Mapping[str, int], batches: Sequence[Rows]) -> dict[str, int]:
    """Count the new rows of each table."""
    written = dict(before)
    for rows in batches:
        if rows.op == "insert":
            written[rows.table] = written.get(rows.table, 0) + len(rows)
    return written


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
