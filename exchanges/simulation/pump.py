"""Drives the virtual clock: sends what happens up to each boundary, then lets the time pass it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from exchanges.simulation.clock import VirtualClock
from exchanges.simulation.faults import Faults
from exchanges.simulation.hub import Client, Frame, Hub
from exchanges.simulation.protocols.base import Kind, Topic
from exchanges.simulation.tape import Row, Tape, Trade
from schemas.frames import MINUTE_MS

#: At a finite speed a client that does not take its frames for so long is cut off, as the real ones do.
SLOW_CLIENT_S = 10.0
#: Candles in progress are sent at most this often, in virtual time.
PARTIAL_EVERY_MS = 2_000
#: Symbols between two breaths for the requests that wait.
BREATH_SYMBOLS = 20


class Pump:
    """Sends the market to all clients, in the order of time.

    Parameters
    ----------
    clock, tape, hub, faults
        The parts of one exchange.
    """

    def __init__(self, clock: VirtualClock, tape: Tape, hub: Hub, faults: Faults) -> None:
        self._clock = clock
        self._tape = tape
        self._hub = hub
        self._faults = faults
        self.candles_sent = 0
        self._beats = 0
        self._corrections: dict[str, Row] = {}

    async def run(self) -> None:
        """Go on until cancelled; after the end of the market, just wait."""
        while True:
            wait_s = self._clock.wait_s()
            idle = self._clock.is_max and not self._hub.has_listener()
            if wait_s == 0.0 and not idle:
                await self._step(self._clock.next_boundary_ms())
                await asyncio.sleep(0)
            else:
                await self._wait(None if idle else wait_s)

    async def _wait(self, wait_s: float | None) -> None:
        self._hub.changed.clear()
        try:
            async with asyncio.timeout(wait_s):
                await self._hub.changed.wait()
        except TimeoutError:
            return

    async def _step(self, boundary_ms: int) -> None:
        closes = boundary_ms % MINUTE_MS == 0
        minute = (boundary_ms - 1) // MINUTE_MS * MINUTE_MS
        corrected = self._correct() if closes else {}
        rows = await self._rows(minute, boundary_ms, closed=closes)
        step = _Step(self._clock, self._tape, boundary_ms, minute, rows, corrected, closes=closes)
        for client in list(self._hub.clients):
            if client.alive:
                await self._send(client, step.frames(client, self._beats))
        if closes:
            self.candles_sent += len(rows)
            if self._faults.strike("halt"):
                self._tape.halt(boundary_ms, boundary_ms + MINUTE_MS)
        self._beats += 1
        self._clock.cross(boundary_ms)

    async def _send(self, client: Client, frames: list[Frame]) -> None:
        if self._clock.is_max:
            await client.send(frames)
            return
        try:
            async with asyncio.timeout(SLOW_CLIENT_S):
                await client.send(frames)
        except TimeoutError:
            client.abort()

    # The candles that somebody subscribed to: final ones at the end of a minute, else those in progress.
    async def _rows(self, minute: int, boundary_ms: int, *, closed: bool) -> dict[str, Row]:
        wanted = dict.fromkeys(t.symbol for c in self._hub.clients for t in c.topics(Kind.KLINE))
        rows: dict[str, Row] = {}
        for place, symbol in enumerate(wanted):
            if place % BREATH_SYMBOLS == BREATH_SYMBOLS - 1:
                await asyncio.sleep(0)
            row = self._tape.row(symbol, minute) if closed else self._tape.partial(symbol, boundary_ms)
            if row is not None:
                rows[symbol] = self._revised(symbol, row) if closed else row
        return rows

    def _revised(self, symbol: str, row: Row) -> Row:
        if self._faults.quiet or not self._faults.strike("revisions"):
            return row
        minute, opened, high, low, close, volume = row
        other = (minute, opened, high, low, (high + low + close) / 3, volume * 0.9)
        self._tape.revise(symbol, other)
        self._corrections[symbol] = row
        return other

    # True values of what was revised a minute ago; from here on REST tells them too.
    def _correct(self) -> dict[str, Row]:
        corrected, self._corrections = self._corrections, {}
        for symbol, row in corrected.items():
            self._tape.restore(symbol, row[0])
        return corrected


class _Step:
    """What happens between two boundaries, written once per topic however many listen."""

    def __init__(
        self,
        clock: VirtualClock,
        tape: Tape,
        boundary_ms: int,
        minute: int,
        rows: dict[str, Row],
        corrected: dict[str, Row],
        *,
        closes: bool,
    ) -> None:
        self._tape = tape
        self._boundary_ms = boundary_ms
        self._from_ms = clock.crossed_ms
        self._minute = minute
        self._rows = rows
        self._corrected = corrected
        self._closes = closes
        self._written: dict[tuple[str, str], list[Frame]] = {}

    def frames(self, client: Client, beats: int) -> list[Frame]:
        """Write what one client has subscribed to: trades, tickers, candles, heartbeat."""
        frames: list[Frame] = []
        for kind, write in (
            (Kind.TRADE, self._trades),
            (Kind.TICKER, self._tickers),
            (Kind.BOOK, self._tickers),
            (Kind.KLINE, self._klines),
        ):
            topics = client.said.topics.by_kind[kind]
            if topics:
                frames += self._each(client, topics.values(), write)
        for topic in client.topics(Kind.BEAT):
            text = client.protocol.beat(self._boundary_ms, beats)
            if text is not None:
                frames.append(Frame(text, topic, None))
        return frames

    def _each(
        self, client: Client, topics: Iterable[Topic], write: Callable[[Client, Topic], list[Frame]]
    ) -> list[Frame]:
        frames: list[Frame] = []
        for topic in topics:
            key = (client.protocol.name, topic.name)
            written = self._written.get(key)
            if written is None:
                written = self._written[key] = write(client, topic)
            frames += written
        return frames

    def _klines(self, client: Client, topic: Topic) -> list[Frame]:
        frames: list[Frame] = []
        row, before = self._rows.get(topic.symbol), self._corrected.get(topic.symbol)
        kline = client.protocol.kline
        if before is not None:
            text = kline(topic, before, closed=True, event_ms=self._boundary_ms)
            frames.append(Frame(text, topic, before))
        if row is not None and (self._closes or self._boundary_ms % PARTIAL_EVERY_MS == 0):
            text = kline(topic, row, closed=self._closes, event_ms=self._boundary_ms)
            frames.append(Frame(text, topic, row))
        return frames

    def _trades(self, client: Client, topic: Topic) -> list[Frame]:
        fresh: list[Trade] = [
            trade
            for trade in self._tape.trades(topic.symbol, self._minute)
            if self._from_ms < trade.time_ms <= self._boundary_ms
        ]
        return [Frame(text, topic, None) for text in client.protocol.trades(topic, fresh)] if fresh else []

    def _tickers(self, client: Client, topic: Topic) -> list[Frame]:
        ticker = self._tape.ticker(topic.symbol, self._boundary_ms)
        return [Frame(client.protocol.ticker(topic, ticker), topic, None)] if ticker else []
