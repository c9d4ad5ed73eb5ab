"""Every frame of the stream, before ccxt sees it: candles to the sequencer, nonsense to the dead letters."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from domain.market.candle import Candle, fault_of, is_ahead
from exchanges.alarms import Alarms
from exchanges.connection import ExchangePlugin, FrameFault, Tick, Update, parse_frame
from exchanges.exchange_clock import ExchangeClock
from exchanges.listing import Listing


@dataclass(slots=True)
class Signs:
    """When signs of life were last seen on the stream, in seconds of the steady clock."""

    frame_s: float = field(default_factory=time.monotonic)
    pong_s: float = field(default_factory=time.monotonic)
    exchange_ms_at_frame: int = 0
    frames: int = 0


class FrameReader:
    """Hears a connection.

    Parameters
    ----------
    plugin
        Reads the exchange's frames.
    listing
        Tells which markets were asked for.
    clock
        Is brought forward by frames, and tells what lies ahead of time.
    virtual
        The exchange is a simulated one.
    grace_ms
        Tolerance of "ahead of time".
    alarms
        Take dead letters.
    closed
        Takes a closed candle of a symbol.
    heard
        Is called after each frame with data.
    """

    def __init__(
        self,
        *,
        plugin: ExchangePlugin,
        listing: Listing,
        clock: ExchangeClock,
        virtual: bool,
        grace_ms: int,
        alarms: Alarms,
        closed: Callable[[str, Candle], None],
        heard: Callable[[], object],
    ) -> None:
        self._plugin = plugin
        self._listing = listing
        self._clock = clock
        self._virtual = virtual
        self._grace_ms = grace_ms
        self._alarms = alarms
        self._closed = closed
        self._heard = heard
        self.signs = Signs()
        self.seen_ms: dict[str, int] = {}
        self.last_price: dict[str, float] = {}

    def on_data(self, data: str | bytes) -> bool:
        """Take a frame; True if ccxt need not see it."""
        self.signs.frames += 1
        try:
            heard = self._plugin.read(parse_frame(data))
        except FrameFault as fault:
            self._alarms.dead_letter(fault.kind, data, None, str(fault))
            return True
        if heard is None:
            # An answer to a subscription or a ping: the other side lives, but this is no data.
            self.signs.pong_s = time.monotonic()
            return False
        self.signs.frame_s = time.monotonic()
        for item in heard:
            if isinstance(item, Update):
                self._update(item, data)
            else:
                self._tick(item, data)
        self.signs.exchange_ms_at_frame = self._clock.now_ms
        self._heard()
        return True

    def on_pong(self) -> None:
        """Learn that a ping was answered."""
        self.signs.pong_s = time.monotonic()

    def see(self, symbol: str, candle: Candle) -> None:
        """Note a candle, closed or not, for staleness and the live price."""
        if candle.open_time_ms >= self.seen_ms.get(symbol, -1):
            self.seen_ms[symbol] = candle.open_time_ms
            self.last_price[symbol] = candle.close

    def _update(self, update: Update, data: str | bytes) -> None:
        candle = update.candle
        symbol = self._listing.by_market_id.get(update.market_id)
        if symbol is None:
            self._alarms.dead_letter("wrong_symbol", data, None, f"{update.market_id!r} was not asked for")
            return
        kind = fault_of(candle)
        if kind is not None:
            self._alarms.dead_letter(kind, data, symbol, f"{candle}")
            return
        if update.exchange_ms is not None:
            self._clock.hint(update.exchange_ms)
        now_ms = self._clock.now_ms
        if self._virtual and update.exchange_ms is None:
            now_ms = self._clock.latest_ms
        if is_ahead(candle, closed=update.closed, now_ms=now_ms, tolerance_ms=self._grace_ms):
            self._alarms.dead_letter("future", data, symbol, f"{candle}, but it is {now_ms}")
            return
        self.see(symbol, candle)
        if update.closed:
            self._closed(symbol, candle)

    def _tick(self, tick: Tick, data: str | bytes) -> None:
        symbol = self._listing.by_market_id.get(tick.market_id)
        if symbol is None:
            self._alarms.dead_letter("wrong_symbol", data, None, f"{tick.market_id!r} was not asked for")
        elif not 0.0 < tick.price < math.inf:
            self._alarms.dead_letter("price", data, symbol, f"price {tick.price}")
        else:
            self._clock.hint(tick.exchange_ms)
            self.last_price[symbol] = tick.price
