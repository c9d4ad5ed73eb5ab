"""Asks the history for whatever is overdue: a start, a resume, a hole and a halt are the same to it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from domain.market.candle import Candle, last_final_ms
from domain.market.lane import Lane, Page, Span
from domain.market.sequencer import Sequencer
from exchanges.alarms import Alarms
from exchanges.connection import BadAnswerError
from exchanges.exchange_clock import ExchangeClock
from exchanges.feed_settings import FeedSettings
from exchanges.history import Answer, Backoff, History
from exchanges.listing import Listing
from exchanges.outflow import Outflow, raw_row
from schemas.frames import MINUTE_MS

#: How often overdue minutes are looked for: at a simulated exchange, at a real one.
_LOOK_S = {True: 0.02, False: 0.25}
#: A simulated exchange's clock may leap: a hole is not asked for sooner than this.
_ON_THE_WAY_S = 0.05
#: A page of the history with impossible rows is asked for so often before they count as absent.
_BAD_PAGE_TRIES = 3
#: How often a real exchange is asked whether it lists a missing symbol by now.
_LISTING_AGAIN_S = 3_600.0


@dataclass(slots=True, kw_only=True)
class _Asking:
    """How asking for one symbol goes."""

    backoff: Backoff
    underway: bool = False
    not_before_s: float = 0.0
    due_since_s: float | None = None
    due_after_ms: int = 0
    failing_since_s: float | None = None
    bad_pages: int = 0


class CatchUp:
    """Keeps every symbol's minutes known, as far as the history has them.

    Parameters
    ----------
    sequencer
        Says what is wanted, and takes the answers.
    history, clock, listing, outflow
        The parts of the feed.
    has_stream
        The exchange flags closed minutes on its stream, so a hole may still be on its way.
    virtual
        The exchange is a simulated one.
    settings
        How the feed behaves.
    alarms
        Take failures and refused rows.
    answered
        Is called after each page with its last row, or None.
    listed
        Is called when a symbol was not listed before.
    """

    def __init__(
        self,
        *,
        sequencer: Sequencer,
        history: History,
        clock: ExchangeClock,
        listing: Listing,
        outflow: Outflow,
        has_stream: bool,
        virtual: bool,
        settings: FeedSettings,
        alarms: Alarms,
        answered: Callable[[str, Candle | None], None],
        listed: Callable[[], None],
    ) -> None:
        self._sequencer = sequencer
        self._history = history
        self._clock = clock
        self._listing = listing
        self._outflow = outflow
        self._has_stream = has_stream
        self._virtual = virtual
        self._settings = settings
        self._grace_ms = round(settings.grace_s * 1000)
        self._alarms = alarms
        self._answered = answered
        self._listed = listed
        self._listing_asked_s = time.monotonic()
        self._turn = asyncio.Event()
        self._asking = {
            lane.symbol: _Asking(backoff=Backoff(settings.retry_first_s, settings.retry_most_s))
            for lane in sequencer
        }

    async def run(self) -> None:
        """Ask until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._turn.clear()
                began_s = time.monotonic()
                for lane in self._due():
                    self._asking[lane.symbol].underway = True
                    group.create_task(self._ask(lane), name=f"feed history {lane.symbol}")
                # With very many symbols a look takes long: most of the time has to stay for other things.
                pause_s = max(_LOOK_S[self._virtual], 15 * (time.monotonic() - began_s))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._turn.wait()

    def horizon_ms(self) -> int | None:
        """Tell up to where candles may go out in time order: where the slowest symbol is that still comes."""
        now_s = time.monotonic()
        edge = self._clock.now_ms - self._settings.merge_lag_minutes * MINUTE_MS
        slow = []
        for lane in self._sequencer:
            if lane.known_to_ms < edge:
                failing_s = self._asking[lane.symbol].failing_since_s
                if failing_s is None or now_s - failing_s < self._settings.merge_patience_s:
                    slow.append(lane.known_to_ms)
        return min(slow, default=None)

    def refuse(self, symbol: str, answer: Answer) -> None:
        """Hand what is no candle to the dead letters."""
        for row, kind, message in answer.bad:
            self._alarms.dead_letter(kind, raw_row(symbol, row), symbol, message)

    def _due(self) -> list[Lane]:
        """List the symbols to ask for now, the furthest behind first."""
        free = self._settings.requests_at_once - sum(each.underway for each in self._asking.values())
        if free <= 0:
            return []
        now_s, now_ms = time.monotonic(), self._decisive(self._clock.now_ms)
        due: list[tuple[int, Lane]] = []
        for lane in self._sequencer:
            asking = self._asking[lane.symbol]
            span = lane.wanted(now_ms)
            if span is None:
                asking.due_since_s = None
                continue
            if asking.due_since_s is None or (lane.is_streaming and asking.due_after_ms != lane.known_to_ms):
                asking.due_since_s, asking.due_after_ms = now_s, lane.known_to_ms
            if asking.underway or asking.not_before_s > now_s:
                continue
            if not self._may_come(lane, span) or now_s - asking.due_since_s >= _ON_THE_WAY_S:
                due.append((span.from_ms, lane))
        due.sort(key=lambda each: each[0])
        if len(self._outflow) >= self._settings.buffer_rows:
            # Full. Only the symbol that holds the others back may go on, and only to be handed out at once.
            return [lane for _, lane in due[:1] if self._outflow.head_ms(lane.symbol) is None]
        return [lane for _, lane in due[:free]]

    def _may_come(self, lane: Lane, span: Span) -> bool:
        """Tell whether waiting a moment may save a request: for frames, or for more minutes at once."""
        if not self._virtual or lane.halted:
            return False
        if self._has_stream:
            return lane.is_streaming or span.minutes <= 2
        return span.minutes <= 60

    async def _ask(self, lane: Lane) -> None:
        """Ask for what one symbol lacks, once."""
        asking = self._asking[lane.symbol]
        try:
            as_of_ms = await self._as_of(lane)
            span = lane.wanted(as_of_ms)
            if span is None:
                return
            answer = await self._answer(lane.symbol, span, as_of_ms)
            self._take(lane, span, answer, as_of_ms)
            asking.failing_since_s = None
            self._alarms.over("history", lane.symbol)
            if lane.wanted(as_of_ms) == span:
                # Nothing new: a hole at its edge, or a value that has to be said twice.
                asking.not_before_s = time.monotonic() + asking.backoff.failed()
            else:
                asking.backoff.worked()
        except BadAnswerError as error:
            now_s = time.monotonic()
            asking.failing_since_s = asking.failing_since_s or now_s
            asking.not_before_s = now_s + asking.backoff.failed()
            if asking.backoff.failures >= 3:
                self._alarms.raise_once("history", f"{error}; it is tried again for ever", lane.symbol)
        finally:
            asking.underway = False
            self._turn.set()

    async def _as_of(self, lane: Lane) -> int:
        """Tell the exchange's time, asked anew where what is wanted needs a newer one."""
        wanted = lane.wanted(self._decisive(self._clock.now_ms))
        newest = last_final_ms(self._clock.sure_ms, self._grace_ms)
        if self._virtual and wanted is not None and newest < wanted.to_ms - MINUTE_MS:
            await self._clock.refresh()
        return self._decisive(self._clock.sure_ms)

    async def _answer(self, symbol: str, span: Span, as_of_ms: int) -> Answer:
        pair = self._listing.pairs.get(symbol)
        if pair is None and await self._is_listed_by_now(symbol):
            pair = self._listing.pairs[symbol]
        if pair is None:
            # Not listed up to now: it has no minute before.
            return Answer(rows=[], covered_to_ms=as_of_ms, bad=[])
        return await self._history.candles(pair, span.from_ms, span.minutes)

    async def _is_listed_by_now(self, symbol: str) -> bool:
        now_s = time.monotonic()
        if not self._virtual and now_s - self._listing_asked_s < _LISTING_AGAIN_S:
            return False
        self._listing_asked_s = now_s
        if self._listing.update(await self._history.markets()):
            self._listed()
        return symbol in self._listing.pairs

    def _take(self, lane: Lane, span: Span, answer: Answer, as_of_ms: int) -> None:
        asking = self._asking[lane.symbol]
        rows, covered_to_ms = answer.rows, answer.covered_to_ms
        self.refuse(lane.symbol, answer)
        asking.bad_pages = asking.bad_pages + 1 if answer.bad else 0
        if 0 < asking.bad_pages < _BAD_PAGE_TRIES:
            # What was refused may be any minute: only an unbroken beginning is sure.
            rows = [row for place, row in enumerate(rows) if row[0] == span.from_ms + place * MINUTE_MS]
            covered_to_ms = span.from_ms + (len(rows) - 1) * MINUTE_MS
        page = Page(from_ms=span.from_ms, rows=rows, covered_to_ms=covered_to_ms, as_of_ms=as_of_ms)
        self._sequencer.history(lane.symbol, page)
        self._answered(lane.symbol, rows[-1] if rows else None)

    def _decisive(self, at_ms: int) -> int:
        """Leave the grace out where the exchange's clock stands: nothing is on its way any more."""
        return at_ms + self._grace_ms if self._clock.stands else at_ms
