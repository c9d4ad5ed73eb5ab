"""The way of log records into `"systemLogs"`: bounded, in batches, and never in anybody's way.

Writing a record is an append to a queue. One task takes them out and hands them to the database; while that
is away they wait, and once the queue is full they are dropped and counted, because a pipeline must not stop
for its own diary. A record may arrive twice when the process is cut off between a commit and its answer.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import asyncpg

from runtime.plain import plain

BATCH = 500
EVERY_S = 1.0
_CAPACITY = 20_000
_LONGEST_PAUSE_S = 10.0
#: The documents know four levels.
_LEVELS = {"critical": "error", "exception": "error", "warn": "warning", "notset": "debug"}
#: The record is to blame, not the database: trying again does not help.
_BAD_DATA: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """One row of `"systemLogs"`, within the limits of its columns.

    Attributes
    ----------
    context
        JSON values only.
    timestamp_ms
        Milliseconds since 1970 UTC.
    """

    level: str
    category: str
    subcategory: str | None
    message: str
    context: Mapping[str, Any]
    symbol: str | None
    stack_trace: str | None
    timestamp_ms: int


Flush = Callable[[list[LogRecord]], Awaitable[None]]


class DatabaseLog:
    """A queue of log records that a task empties into the database.

    Parameters
    ----------
    capacity
        Records kept while the database is away.
    batch, every_s
        Records are written as soon as there are `batch` of them, or after `every_s` seconds.

    Attributes
    ----------
    dropped
        Records lost because the queue was full.
    refused
        Records that the database did not take.
    written
        Records that it took.
    """

    def __init__(self, *, capacity: int = _CAPACITY, batch: int = BATCH, every_s: float = EVERY_S) -> None:
        self._queue: deque[LogRecord] = deque()
        self._capacity, self._batch, self._every_s = capacity, batch, every_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._enough = asyncio.Event()
        self._in_flight: list[LogRecord] = []
        self._reported = 0
        self.dropped = self.refused = self.written = 0

    def __len__(self) -> int:
        return len(self._queue) + len(self._in_flight)

    def put(
        self,
        level: str,
        category: str,
        subcategory: str | None,
        message: str,
        context: Mapping[str, Any] | None = None,
        symbol: str | None = None,
        stack_trace: str | None = None,
        timestamp_ms: int | None = None,
    ) -> bool:
        """Queue a record and return whether there was room; from any thread, never waiting.

        Values too long for their column are cut, and what no JSON can hold becomes text. Without a time the
        record gets the wall clock's.
        """
        # Two threads at the limit may overshoot it by one, which a lock would not be worth.
        if len(self) >= self._capacity:
            self.dropped += 1
            return False
        self._queue.append(
            LogRecord(
                level=_level(level),
                category=_text(category, 50) or "system",
                subcategory=_text(subcategory, 50),
                message=_text(message) or "",
                context=_without_nul(plain(context or {})),
                symbol=_text(symbol, 20),
                stack_trace=_text(stack_trace),
                timestamp_ms=time.time_ns() // 1_000_000 if timestamp_ms is None else timestamp_ms,
            )
        )
        if len(self._queue) == self._batch and self._loop is not None:
            with suppress(RuntimeError):  # the loop has just ended
                self._loop.call_soon_threadsafe(self._enough.set)
        return True

    async def run(self, flush: Flush, stop: asyncio.Event | None = None) -> None:
        """Write records until `stop` is set (or for ever), then what is left, if the database takes it.

        A flush that fails because of its data is repeated record by record, and what still fails is left out
        and counted in `refused`; any other failure keeps the records and is tried again, with growing pauses.
        """
        self._loop = asyncio.get_running_loop()
        pause = self._every_s
        while stop is None or not stop.is_set():
            await self._wait(pause, stop)
            try:
                await self._write_all(flush)
                pause = self._every_s
            except Exception:  # noqa: BLE001  the database is away: the records wait, and the queue is bounded
                pause = min(_LONGEST_PAUSE_S, max(pause, 0.1) * 2)
        await self.drain(flush)

    async def drain(self, flush: Flush, timeout_s: float = 1.0) -> bool:
        """Write what is left, once, and return whether all of it went; never raises for a failed flush."""
        try:
            await asyncio.wait_for(self._write_all(flush), timeout_s)
        except Exception:  # noqa: BLE001  the process ends and the database is away: nothing more can be done
            return False
        return True

    async def _wait(self, pause: float, stop: asyncio.Event | None) -> None:
        waits = {asyncio.ensure_future(self._enough.wait())} if pause <= self._every_s else set()
        if stop is not None:
            waits.add(asyncio.ensure_future(stop.wait()))
        try:
            if waits:
                await asyncio.wait(waits, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(pause)
        finally:
            for wait in waits:
                wait.cancel()
        self._enough.clear()

    async def _write_all(self, flush: Flush) -> None:
        self._report_drops()
        # In pieces, until nothing is left: what a failure leaves in flight goes first the next time.
        while self._queue or self._in_flight:
            while self._queue and len(self._in_flight) < self._batch:
                self._in_flight.append(self._queue.popleft())
            try:
                await flush(list(self._in_flight))
                self.written += len(self._in_flight)
            except _BAD_DATA:
                await self._write_singly(flush)
            self._in_flight.clear()

    async def _write_singly(self, flush: Flush) -> None:
        while self._in_flight:
            try:
                await flush([self._in_flight[0]])
                self.written += 1
            except _BAD_DATA:
                self.refused += 1
            del self._in_flight[0]

    def _report_drops(self) -> None:
        if self.dropped > self._reported:
            count, self._reported = self.dropped - self._reported, self.dropped
            self._queue.append(
                LogRecord(
                    level="warning",
                    category="system",
                    subcategory="log_overflow",
                    message=f"{count} log records were dropped while the database was away",
                    context={"dropped": count},
                    symbol=None,
                    stack_trace=None,
                    timestamp_ms=time.time_ns() // 1_000_000,
                )
            )


def _level(level: str) -> str:
    level = level.lower()
    level = _LEVELS.get(level, level)
    return level if level in {"debug", "info", "warning", "error"} else "info"


def _text(value: Any, longest: int | None = None) -> str | None:
    if value is None:
        return None
    text = str(plain(str(value))).replace("\x00", "\\0")
    return text if longest is None else text[:longest]


def _without_nul(value: Any) -> Any:
    # PostgreSQL's jsonb and text cannot hold the character zero.
    if isinstance(value, str):
        return value.replace("\x00", "\\0")
    if isinstance(value, dict):
        return {_without_nul(name): _without_nul(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_nul(inner) for inner in value]
    return value
