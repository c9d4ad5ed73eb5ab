"""The feed: every closed minute of an exchange exactly once and in order, from its stream and its history.

The stream's frames are the fast path. Whatever is overdue by the exchange's own clock is asked of its
history, which is all that a start, a resume after a crash, a lost frame or a lost connection ever needs.
Nothing is over until the exchange's clock says so, and nothing absent until its history, answering well, does
not have it: `domain/market` decides, the parts in this folder ask, listen and hand out.

Bounds: at most `buffer_rows` decided candles wait to be taken, and as many frames behind holes. Past that the
history waits and frames are dropped, to be asked for later; a paced exchange is never further ahead than its
window, so nothing is dropped there. A restart remembers no values: that a minute handed out before it has
changed is noticed only by `backfill`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Literal

from domain.market.candle import Candle, candle_of, fault_of, last_final_ms
from domain.market.lane import LaneRules
from domain.market.release import frame_of
from domain.market.sequencer import Sequencer
from exchanges.alarms import Alarms
from exchanges.catch_up import CatchUp
from exchanges.connection import FrameFault, Update, load_plugin, make_exchange, parse_frame
from exchanges.exchange_clock import ExchangeClock
from exchanges.feed_settings import FeedReport, FeedSettings
from exchanges.frame_reader import FrameReader
from exchanges.history import Backoff, History
from exchanges.listing import Listing, UnknownSymbolError
from exchanges.live_stream import LiveStream
from exchanges.outflow import Outflow, iso_time
from exchanges.watch import Acknowledger, LifeWatch, watch_clock
from schemas.frames import MINUTE_MS, CandleFrame, FeedBatch, Origin

__all__ = ["Feed", "FeedReport", "FeedSettings", "Replayed", "UnknownSymbolError"]

Replayed = Literal["known", "revised", "waits for the history"]


class Feed:
    """Hands out the closed candles of some symbols of one exchange.

    Parameters
    ----------
    exchange
        A name of `exchanges.connection.EXCHANGES`.
    symbols
        Ids such as BTCUSDT; they give the order within a minute.
    resume
        By symbol, the last open minute that was handed out and committed. A symbol without is new.
    start_ms
        First wanted open minute of new symbols; None: from the exchange's now.
    base_url
        Address of a simulated exchange, `http://127.0.0.1:port`; None: the real one.
    paced
        The simulated exchange goes on only as far as `acknowledge` allows.
    settings
        How it behaves.
    report
        Is told what it met.
    last_ms
        The last open minute of a recording: minutes after it are unknown, not absent. None: there is none.
    """

    def __init__(
        self,
        *,
        exchange: str,
        symbols: tuple[str, ...],
        resume: Mapping[str, int],
        start_ms: int | None,
        base_url: str | None,
        paced: bool,
        settings: FeedSettings,
        report: FeedReport,
        last_ms: int | None = None,
    ) -> None:
        if paced and base_url is None:
            raise ValueError("only a simulated exchange can be paced: give its base_url")
        if base_url is not None:
            # Wall seconds mean little to a market that runs at any speed.
            settings = replace(
                settings,
                retry_first_s=min(settings.retry_first_s, 0.05),
                retry_most_s=min(settings.retry_most_s, 1.0),
            )
        self._plugin = load_plugin(exchange)
        self._symbols = symbols
        self._resume = {symbol: at for symbol, at in resume.items() if symbol in symbols}
        self._start_ms = start_ms
        self._last_ms = last_ms
        self._base_url = base_url
        self._paced = paced
        self._settings = settings
        self._report = report
        self._alarms = Alarms(report, settings.alarm_again_s)
        self._listing = Listing(exchange, symbols, self._alarms)
        self._clock = ExchangeClock(self._ask_time, virtual=base_url is not None)
        self._reader = FrameReader(
            plugin=self._plugin,
            listing=self._listing,
            clock=self._clock,
            virtual=base_url is not None,
            grace_ms=self._grace_ms,
            alarms=self._alarms,
            closed=self._closed,
            heard=self._settle_soon,
        )
        self._history: History | None = None
        self._sequencer: Sequencer | None = None
        self._outflow: Outflow | None = None
        self._catch_up: CatchUp | None = None
        self._will_settle = False
        self._ready = asyncio.Event()
        self._acknowledger = (
            Acknowledger(base_url=base_url, report=report, timeout_s=settings.request_timeout_s)
            if paced and base_url is not None
            else None
        )

    @property
    def exchange_now_ms(self) -> int:
        """The exchange's clock; 0 before it was first asked."""
        return self._clock.now_ms

    @property
    def seen_ms(self) -> Mapping[str, int]:
        """By symbol, the open minute of the newest candle seen, closed or not."""
        return self._reader.seen_ms

    @property
    def last_price(self) -> Mapping[str, float]:
        """By symbol, the newest price seen."""
        return self._reader.last_price

    async def run(self) -> None:
        """Feed until cancelled.

        Raises
        ------
        UnknownSymbolError
            If the exchange lists none of the symbols.
        """
        settings = self._settings
        exchange = make_exchange(
            self._plugin,
            listener=self._reader,
            base_url=self._base_url,
            request_timeout_s=settings.request_timeout_s,
            keep_alive_s=settings.keep_alive_s,
        )
        history = self._history = History(
            exchange=exchange,
            plugin=self._plugin,
            settings=settings,
            newest_ms=lambda: self._clock.latest_ms,
            on_failure=self._on_failure,
            count=self._report.count,
        )
        life = LifeWatch(
            name=self._plugin.name,
            reader=self._reader,
            clock=self._clock,
            settings=settings,
            alarms=self._alarms,
            report=self._report,
        )
        life.history = history
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(life.run(), name="feed life")
                self._listing.update(await history.markets())
                await history.insist(self._clock.refresh)
                stream = LiveStream(
                    exchange=exchange,
                    subscriptions=lambda: self._plugin.subscriptions(
                        exchange, list(self._listing.pairs.values()), fast=self._paced
                    ),
                    backoff=Backoff(settings.retry_first_s, settings.retry_most_s),
                    on_loss=self._on_loss,
                )
                catch_up = self._begin(history, partial(stream.reconnect, "a symbol was listed"))
                life.stream, life.outflow = stream, self._outflow
                group.create_task(catch_up.run(), name="feed history")
                group.create_task(stream.run(), name="feed stream")
                group.create_task(self._watch_clock(), name="feed clock")
                if self._acknowledger is not None:
                    group.create_task(self._acknowledger.run(), name="feed acknowledge")
        except BaseExceptionGroup as group:
            # One cause is easier to act on bare.
            raise (group.exceptions[0] if len(group.exceptions) == 1 else group) from None
        finally:
            await exchange.close()

    async def next(self, *, max_rows: int, timeout_s: float) -> FeedBatch | None:
        """Give what is ready, in time order across symbols as far as known; None if nothing comes in time.

        A batch may hold no candle: then minutes became known to be absent, or values were revised.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            self._ready.clear()
            batch = await self._batch(max_rows)
            if batch is not None:
                return batch
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._ready.wait()

    async def acknowledge(self, committed_to_ms: int) -> None:
        """Learn that everything up to this open minute is committed, and let a paced exchange go on."""
        if self._acknowledger is not None and committed_to_ms > 0:
            self._acknowledger.tell(committed_to_ms)

    async def backfill(self, symbol: str, from_ms: int, to_ms: int) -> CandleFrame:
        """Ask the history for `from_ms` up to, not including, `to_ms`, and give what it has.

        Minutes that were handed out with other values, or are not remembered to have been handed out, also
        come out of `next` as revisions. Minutes not handed out yet come by themselves.
        """
        sequencer, history, catch_up = self._begun()
        if symbol not in self._listing.pairs:
            raise UnknownSymbolError(f"{symbol} is not fed; {', '.join(self._listing.pairs)} are")
        pair = self._listing.pairs[symbol]
        await history.insist(self._clock.refresh)
        to_ms = min(to_ms, last_final_ms(self._clock.sure_ms, self._grace_ms) + MINUTE_MS)
        at = from_ms - from_ms % MINUTE_MS
        rows: list[Candle] = []
        while at < to_ms:
            answer = await history.insist(partial(history.candles, pair, at, (to_ms - at) // MINUTE_MS))
            catch_up.refuse(symbol, answer)
            rows += [row for row in answer.rows if row.open_time_ms < to_ms]
            at = answer.covered_to_ms + MINUTE_MS
        sequencer.revise(symbol, rows)
        self._settle()
        index = self._symbols.index(symbol)
        return frame_of(self._symbols, [(row.open_time_ms, index, row, Origin.BACKFILLED) for row in rows])

    def replay_dead_letter(self, raw: str) -> list[Replayed]:
        """Take a dead letter once more, now vouched for by an operator: a jump is no reason to refuse it.

        Gives what became of each candle in it: `known` (handed out with these values), `revised`, or `waits
        for the history`, which has to say it once before it is handed out.

        Raises
        ------
        ValueError
            If it still cannot be a candle of a symbol that is fed.
        """
        sequencer, _, _ = self._begun()
        became: list[Replayed] = []
        for symbol, candle in self._candles_of(raw):
            kind = fault_of(candle)
            if kind is not None:
                raise ValueError(f"still refused as {kind}: {candle}")
            lane = sequencer[symbol]
            if candle.open_time_ms > lane.known_to_ms:
                lane.vouch(candle)
                became.append("waits for the history")
            else:
                sequencer.revise(symbol, [candle])
                became.append("revised" if self._settle() else "known")
        return became

    # --- the parts, put together ---

    @property
    def _grace_ms(self) -> int:
        return round(self._settings.grace_s * 1000)

    def _begin(self, history: History, listed: partial[None]) -> CatchUp:
        """Decide where to begin, now that the exchange's clock is known."""
        settings, now_ms = self._settings, self._clock.sure_ms
        first_ms = now_ms if self._start_ms is None else self._start_ms
        first_ms -= first_ms % MINUTE_MS
        known_to = {symbol: self._resume.get(symbol, first_ms - MINUTE_MS) for symbol in self._symbols}
        newest = max(known_to.values())
        if newest > now_ms:
            handed, now = iso_time(newest), iso_time(now_ms)
            message = f"minutes up to {handed} were handed out, but the exchange says it is {now}"
            self._alarms.raise_once("clock_skew", message, about="behind")
        rows_each = settings.buffer_rows // (1 if self._paced else len(self._symbols))
        history.page_rows = max(100, min(history.page_rows, settings.buffer_rows // len(self._symbols)))
        self._sequencer = Sequencer(
            known_to_ms=known_to,
            rules=LaneRules(
                grace_ms=self._grace_ms,
                max_hole_ms=settings.max_hole_minutes * MINUTE_MS,
                jump_limit_pct=settings.jump_limit_pct,
                memory_minutes=settings.memory_minutes,
                park_limit=max(120, rows_each),
            ),
            omits_quiet=self._plugin.omits_quiet,
        )
        for lane in self._sequencer:
            # Not listed yet: an answer without rows is enough to know that there is none.
            lane.halted = lane.symbol not in self._listing.pairs
        self._outflow = Outflow(
            symbols=self._symbols,
            sequencer=self._sequencer,
            first_ms={symbol: first_ms for symbol in self._symbols if symbol not in self._resume},
            last_ms=self._last_ms,
            alarms=self._alarms,
            report=self._report,
        )
        self._catch_up = CatchUp(
            sequencer=self._sequencer,
            history=history,
            clock=self._clock,
            listing=self._listing,
            outflow=self._outflow,
            has_stream=self._plugin.has_candle_stream,
            virtual=self._base_url is not None,
            settings=settings,
            alarms=self._alarms,
            answered=self._answered,
            listed=listed,
        )
        return self._catch_up

    def _begun(self) -> tuple[Sequencer, History, CatchUp]:
        if self._sequencer is None or self._history is None or self._catch_up is None:
            raise RuntimeError("the feed has not reached the exchange yet: try again later")
        return self._sequencer, self._history, self._catch_up

    async def _batch(self, max_rows: int) -> FeedBatch | None:
        outflow, catch_up = self._outflow, self._catch_up
        if outflow is None or catch_up is None or not outflow.has_news():
            return None
        if len(outflow) < len(self._symbols) and self._settings.gather_s > 0:
            # The other symbols' minute is usually in the next frames.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.gather_s):
                    while len(outflow) < len(self._symbols):
                        self._ready.clear()
                        await self._ready.wait()
        as_of_ms = None if self._paced else self._clock.now_ms
        return outflow.batch(max_rows, catch_up.horizon_ms(), as_of_ms)

    def _closed(self, symbol: str, candle: Candle) -> None:
        if self._sequencer is None or self._outflow is None:
            return
        if len(self._outflow) >= self._settings.buffer_rows and not self._paced:
            self._report.count("dropped_frames", 1)
            self._alarms.raise_once("buffer_full", "candles are not taken as fast as they come")
        else:
            self._sequencer.stream(symbol, candle)

    def _settle_soon(self) -> None:
        # Frames come in bursts that are read in one go; what they decide is looked at once.
        if not self._will_settle:
            self._will_settle = True
            asyncio.get_running_loop().call_soon(self._settle)

    def _settle(self) -> int:
        self._will_settle = False
        if self._outflow is None:
            return 0
        has_news, revisions = self._outflow.settle()
        if has_news:
            self._ready.set()
        return revisions

    def _answered(self, symbol: str, last: Candle | None) -> None:
        if last is not None:
            self._reader.see(symbol, last)
        self._settle()
        # An answer may also have let go of what was held back for it.
        self._ready.set()

    async def _ask_time(self) -> int:
        assert self._history is not None
        return await self._history.time_ms()

    async def _watch_clock(self) -> None:
        assert self._sequencer is not None
        await watch_clock(
            clock=self._clock,
            sequencer=self._sequencer,
            settings=self._settings,
            virtual=self._base_url is not None,
            alarms=self._alarms,
        )

    def _on_loss(self, reason: str) -> None:
        self._report.count("reconnects", 1)
        self._alarms.raise_once("silent_socket", f"the stream was lost: {reason}", about="lost")

    def _on_failure(self, what: str, error: Exception) -> None:
        if getattr(error, "retry_after_s", None) is not None:
            self._alarms.raise_once("rate_limit", f"refused while asking for {what}: {error}")
        elif self._sequencer is None:
            message = f"{self._plugin.name} cannot be reached: {what}: {error!r}; it is tried again for ever"
            self._alarms.raise_once("history", message, about="start")

    def _candles_of(self, raw: str) -> list[tuple[str, Candle]]:
        """Read a dead letter: a row of the history with its symbol, or a frame."""
        try:
            message = parse_frame(raw)
            if "history" in message:
                row = message["history"]
                found = [(str(message["symbol"]), candle_of(row[0], *row[1:6]))]
            else:
                updates = [each for each in self._plugin.read(message) or () if isinstance(each, Update)]
                by_id = self._listing.by_market_id
                found = [(by_id[each.market_id], each.candle) for each in updates if each.closed]
        except (FrameFault, KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"still no candle of a symbol that is fed: {error!r}") from error
        if not found or any(symbol not in self._listing.pairs for symbol, _ in found):
            raise ValueError(f"still no closed candle of a symbol that is fed: {raw[:200]}")
        return found
