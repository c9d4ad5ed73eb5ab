"""The feed inside the feature calculator: how it is built, whom it tells, and how back-fill reaches it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import aiohttp
import asyncpg
from redis.exceptions import RedisError

from db.connect import LOST_ANSWER
from db.repositories import backfill, dead_letters
from db.repositories.dead_letters import DeadLetter
from exchanges.feed import Feed, FeedSettings, UnknownSymbolError
from pipeline.stage import LogEntry
from runtime.alerts import AlertObserver
from runtime.process import StoppedError, wait_for
from schemas.frames import MINUTE_MS, FeedBatch

if TYPE_CHECKING:
    from runtime.worker import Worker

_DAY_MS = 1440 * MINUTE_MS
#: Dead letters that wait for the database; the oldest go first when it stays away.
_MOST_LETTERS = 10_000
_LETTERS_ON_THE_WIRE = 10_000
_LOOK_EVERY_S = 1.0
_REQUEST_TIMEOUT_S = 60.0
_ALARM_LEVELS = {"feed_alive": "info", "absent": "info", "quiet_market": "info", "buffer_full": "warning"}


class Report:
    """Takes what the feed tells: alarms to the log, refused input to the dead letters."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.alerts = AlertObserver(worker)
        self._letters: deque[DeadLetter] = deque(maxlen=_MOST_LETTERS)

    def dead_letter(self, kind: str, raw: str, symbol: str | None, error: str) -> None:
        """Keep a refused input."""
        self._worker.metrics.dead_letter(kind)
        self._letters.append(
            DeadLetter(
                kind=kind,
                exchange=self._worker.settings.market.exchange,
                symbol=symbol,
                raw=raw.encode("utf-8", "surrogateescape"),
                error=error,
            )
        )

    def alarm(self, kind: str, message: str, symbol: str | None) -> None:
        """Log what an operator should see."""
        if kind in ("history", "dead_feed") and symbol is None:
            self._worker.health.wait("feed", message)
        elif kind == "feed_alive":
            self._worker.health.wait("feed", None)
        level = _ALARM_LEVELS.get(kind, "warning")
        values = {"action": kind, "category": "market_data", "subcategory": kind}
        if symbol is not None:
            values["symbol"] = symbol
        getattr(self._worker.log, level)(message, **values)
        if level != "info" or kind == "feed_alive":
            entry = LogEntry(
                level="warning" if level != "info" else "info",
                category="market_data",
                subcategory=kind,
                message=message,
                symbol=symbol,
            )
            self.alerts.offer(entry)

    def count(self, name: str, n: int) -> None:
        """Count; a candle also says that the exchange is there."""
        if name == "candles":
            self._worker.health.wait("feed", None)
        self._worker.metrics.events(n, stream=f"feed_{name}")

    async def write(self) -> None:
        """Move dead letters into the database, and onto the wire for whoever watches, beside the work."""
        while True:
            await _pause(self._worker, _LOOK_EVERY_S)
            letters = [self._letters.popleft() for _ in range(min(len(self._letters), 500))]
            if letters and not await self._written(letters):
                self._letters.extendleft(reversed(letters))
                continue
            if self._worker.stop.is_set() and not self._letters:
                return

    async def _written(self, letters: list[DeadLetter]) -> bool:
        """Write letters down; False if the database has to be tried again."""
        try:
            connection = await self._worker.connect()
            try:
                await dead_letters.add(connection, letters)
            finally:
                await connection.close(timeout=2)
        except StoppedError:
            return True  # nothing more can be done: the log has the first of each kind
        except LOST_ANSWER:
            return False
        await self._tell(letters)
        return True

    async def _tell(self, letters: list[DeadLetter]) -> None:
        key = f"{self._worker.prefix}:dead-letters"
        try:
            for letter in letters:
                fields = {"kind": letter.kind, "symbol": letter.symbol or "", "error": letter.error}
                await self._worker.redis.xadd(
                    key, {**fields, "raw": letter.raw}, maxlen=_LETTERS_ON_THE_WIRE, approximate=True
                )
        except (RedisError, OSError):
            self._worker.metrics.error("dead_letter_stream")


class EventTimeFeed:
    """A feed in a replay: its clock is the event time of its candles, at whatever speed they come."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    async def next(self, *, max_rows: int, timeout_s: float) -> FeedBatch | None:
        """Give what is ready, without the exchange's clock."""
        batch = await self._feed.next(max_rows=max_rows, timeout_s=timeout_s)
        return None if batch is None else replace(batch, as_of_ms=None)

    async def acknowledge(self, committed_to_ms: int) -> None:
        """Pass it on."""
        await self._feed.acknowledge(committed_to_ms)


async def feed_for(
    worker: Worker,
    symbols: tuple[str, ...],
    resume: Mapping[str, int],
    report: Report,
    *,
    from_now: bool = False,
) -> Feed:
    """Build the feed of some symbols, from where each was left, or without any history."""
    settings, market = worker.settings, worker.settings.market
    paced = market.is_simulated and market.speed == "max"
    start_ms, last_ms = await _span_ms(worker)
    return Feed(
        exchange=market.wire_exchange,
        symbols=symbols,
        resume=resume,
        start_ms=None if from_now else start_ms,
        last_ms=last_ms,
        base_url=market.base_url,
        paced=paced,
        settings=FeedSettings(
            grace_s=market.grace_s,
            max_hole_minutes=settings.data.max_hole_minutes,
            stale_data_s=settings.monitoring.alert_thresholds.stale_data,
            page_rows=settings.data.backfill_batch_size,
            gather_s=0.0 if paced else 0.002,
        ),
        report=report,
    )


async def _span_ms(worker: Worker) -> tuple[int, int | None]:
    """Find the first minute that a new symbol is wanted from, and the last one of a recording."""
    market = worker.settings.market
    if not market.is_simulated or market.base_url is None:
        return int(time.time() * 1000 - worker.settings.data.history_days * _DAY_MS), None

    async def ask() -> tuple[int, int | None]:
        timeout = aiohttp.ClientTimeout(total=5)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{market.base_url}/sim/state") as answer,
        ):
            state = await answer.json()
            last_ms = state["last_ms"]
            return int(state["first_ms"]), None if last_ms is None else int(last_ms)

    worker.health.wait("feed", "the simulated exchange")
    span_ms = await wait_for(
        "the simulated exchange",
        ask,
        stop=worker.stop,
        log=worker.log,
        passing=(OSError, aiohttp.ClientError, ValueError, KeyError),
    )
    worker.health.wait("feed", None)
    return span_ms


async def serve_requests(worker: Worker, symbols: tuple[str, ...], feed: Feed) -> None:
    """Carry out what is asked of the feed: back-fill, and dead letters that are to be read again."""
    connection: asyncpg.Connection | None = None
    while not worker.stop.is_set():
        await _pause(worker, _LOOK_EVERY_S)
        if worker.stop.is_set():
            break
        try:
            if connection is None or connection.is_closed():
                connection = await worker.connect()
            await _backfill(worker, connection, symbols, feed)
            await _read_again(worker, connection, feed)
        except StoppedError:
            break
        except LOST_ANSWER as error:
            worker.log.warning("requests to the feed have to wait", action="requests", problem=str(error))
    if connection is not None:
        with contextlib.suppress(*LOST_ANSWER):
            await connection.close(timeout=1)


async def _backfill(
    worker: Worker, connection: asyncpg.Connection, symbols: tuple[str, ...], feed: Feed
) -> None:
    for request in await backfill.open_requests(connection):
        if request.symbol not in symbols:
            continue
        try:
            wanted = feed.backfill(request.symbol, request.from_ms, request.to_ms + MINUTE_MS)
            result = f"{len(await asyncio.wait_for(wanted, _REQUEST_TIMEOUT_S))} candles"
        except (UnknownSymbolError, ValueError, TimeoutError) as error:
            result = f"failed: {error or f'no answer within {_REQUEST_TIMEOUT_S:g} s'}"
        except RuntimeError:
            return  # the feed is still on its way to the exchange
        await backfill.finish(connection, request.id, result)
        worker.log.info("back-fill was carried out", action="backfill", symbol=request.symbol, result=result)


async def _read_again(worker: Worker, connection: asyncpg.Connection, feed: Feed) -> None:
    for letter in await dead_letters.asked_for(connection):
        try:
            became: object = feed.replay_dead_letter(letter.raw.decode("utf-8", "surrogateescape"))
        except ValueError as error:
            became = str(error)
        except RuntimeError:
            return
        assert letter.id is not None
        await dead_letters.replayed(connection, [letter.id])
        worker.log.info("a dead letter was read again", action="dead_letter", letter=letter.id, became=became)


async def _pause(worker: Worker, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(worker.stop.wait(), seconds)
