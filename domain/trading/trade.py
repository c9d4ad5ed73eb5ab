"""The life of one simulated trade.

A signal made at the close of a candle is filled at the open of the symbol's next candle. From then on every
candle moves the trade, in this order:

1. at the open (not in the entry's own candle): beyond the stop, it leaves at the open; beyond the
   take-profit, it leaves at the take-profit (never better than asked); past its expiry, because candles were
   missing, or with an opposite signal made at the previous close, it leaves at the open;
2. inside the candle: at the stop if the candle touches it, else at the take-profit if it touches that; a
   candle that holds both counts as the stop;
3. at the close, if the horizon is reached.

Every fill but the take-profit, which is a resting limit order, is worse than its price by the slippage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from domain.trading.costs import Costs
from domain.trading.signals import Direction, Signal
from schemas.frames import MINUTE_MS

ExitReason = Literal["stop_loss", "take_profit", "expiry", "opposite"]

#: The multiples of the range are meant for a trade of this length; others scale with the root of theirs.
REFERENCE_HORIZON_MINUTES = 15
#: A stop is at least this many round trips away from the entry, and a take-profit that many.
STOP_ROUND_TRIPS = 1.0
PROFIT_ROUND_TRIPS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Candle:
    """One closed minute."""

    open_time_ms: int
    open: float
    high: float
    low: float
    close: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Exits:
    """Where stop and take-profit are put, in multiples of the average true range of one-minute candles."""

    take_profit_atr: float = 2.0
    stop_loss_atr: float = 1.5

    def distances_pct(self, atr_pct: float, horizon_minutes: int, costs: Costs) -> tuple[float, float]:
        """Give the distances of take-profit and stop from the entry, in percent."""
        reach = atr_pct * math.sqrt(horizon_minutes / REFERENCE_HORIZON_MINUTES)
        return (
            max(self.take_profit_atr * reach, PROFIT_ROUND_TRIPS * costs.round_trip_pct),
            max(self.stop_loss_atr * reach, STOP_ROUND_TRIPS * costs.round_trip_pct),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """A trade as of its last candle.

    Attributes
    ----------
    signal
        What opened it.
    entry_price, tp_price, sl_price
        Fill of the entry, and the levels that end the trade.
    entered_at_ms, last_candle_ms
        Open times of the candle of the entry and of the last one.
    current_price
        Close of the last candle.
    profit_pct
        After both fees: at the last close, or of the exit.
    highest_profit_pct, lowest_loss_pct
        After both fees, from highs and lows while it was open; of a candle that ended it, only the exit.
    profitable_minutes
        Closes (or the exit inside a candle) in profit.
    exit_price, exit_reason, completed_at_ms
        None while it is active.
    """

    signal: Signal
    entry_price: float
    tp_price: float
    sl_price: float
    entered_at_ms: int
    last_candle_ms: int
    current_price: float
    profit_pct: float
    highest_profit_pct: float
    lowest_loss_pct: float
    profitable_minutes: int = 0
    exit_price: float | None = None
    exit_reason: ExitReason | None = None
    completed_at_ms: int | None = None

    @property
    def is_active(self) -> bool:
        """Whether it goes on."""
        return self.completed_at_ms is None

    @property
    def total_minutes(self) -> int:
        """Minutes of event time in the market."""
        end = self.completed_at_ms if self.completed_at_ms is not None else self.last_candle_ms + MINUTE_MS
        return (end - self.entered_at_ms) // MINUTE_MS


def enter(signal: Signal, candle: Candle, costs: Costs, exits: Exits) -> Trade:
    """Fill a signal at the open of a candle; `advance` then moves the trade by that same candle."""
    entry = costs.entry_fill(signal.direction, candle.open)
    profit_distance, stop_distance = exits.distances_pct(signal.atr_pct, signal.horizon_minutes, costs)
    up, down = (
        (profit_distance, stop_distance) if signal.direction == "LONG" else (stop_distance, profit_distance)
    )
    above, below = entry * (1.0 + up / 100.0), entry * max(1.0 - down / 100.0, 0.0)
    long = signal.direction == "LONG"
    now = costs.profit_pct(signal.direction, entry, entry)
    return Trade(
        signal=signal,
        entry_price=entry,
        tp_price=above if long else below,
        sl_price=below if long else above,
        entered_at_ms=candle.open_time_ms,
        last_candle_ms=candle.open_time_ms,
        current_price=candle.open,
        profit_pct=now,
        highest_profit_pct=now,
        lowest_loss_pct=now,
    )


def advance(trade: Trade, candle: Candle, costs: Costs, *, opposite: bool) -> Trade:
    """Move an active trade by a candle.

    Parameters
    ----------
    trade
        As `enter` or the last `advance` left it.
    candle
        The entry's own, or the symbol's next.
    costs
        Of the exit's fill.
    opposite
        Whether a signal the other way was made at the previous close.
    """
    direction = trade.signal.direction
    if candle.open_time_ms > trade.entered_at_ms:
        if _reaches(direction, trade.sl_price, candle.open, stop=True):
            return _leave(trade, candle, costs, candle.open, "stop_loss", candle.open_time_ms)
        if _reaches(direction, trade.tp_price, candle.open, stop=False):
            return _leave(trade, candle, costs, trade.tp_price, "take_profit", candle.open_time_ms)
        if candle.open_time_ms >= trade.signal.expires_at_ms:
            return _leave(trade, candle, costs, candle.open, "expiry", candle.open_time_ms)
        if opposite:
            return _leave(trade, candle, costs, candle.open, "opposite", candle.open_time_ms)
    best, worst = (candle.high, candle.low) if direction == "LONG" else (candle.low, candle.high)
    closed_at = candle.open_time_ms + MINUTE_MS
    if _reaches(direction, trade.sl_price, worst, stop=True):
        return _leave(trade, candle, costs, trade.sl_price, "stop_loss", closed_at)
    if _reaches(direction, trade.tp_price, best, stop=False):
        return _leave(trade, candle, costs, trade.tp_price, "take_profit", closed_at)
    profit = costs.profit_pct(direction, trade.entry_price, candle.close)
    held = replace(
        trade,
        last_candle_ms=candle.open_time_ms,
        current_price=candle.close,
        profit_pct=profit,
        highest_profit_pct=max(
            trade.highest_profit_pct, costs.profit_pct(direction, trade.entry_price, best)
        ),
        lowest_loss_pct=min(trade.lowest_loss_pct, costs.profit_pct(direction, trade.entry_price, worst)),
        profitable_minutes=trade.profitable_minutes + (profit > 0.0),
    )
    if closed_at >= trade.signal.expires_at_ms:
        # The close itself is counted with what the exit really earns.
        before = replace(held, profitable_minutes=trade.profitable_minutes)
        return _leave(before, candle, costs, candle.close, "expiry", closed_at)
    return held


def _reaches(direction: Direction, level: float, price: float, *, stop: bool) -> bool:
    falls = (direction == "LONG") == stop
    return price <= level if falls else price >= level


def _leave(
    trade: Trade, candle: Candle, costs: Costs, price: float, reason: ExitReason, completed_at_ms: int
) -> Trade:
    direction = trade.signal.direction
    fill = price if reason == "take_profit" else costs.exit_fill(direction, price)
    profit = costs.profit_pct(direction, trade.entry_price, fill)
    at_open = completed_at_ms == candle.open_time_ms
    return replace(
        trade,
        last_candle_ms=candle.open_time_ms,
        current_price=candle.open if at_open else candle.close,
        profit_pct=profit,
        highest_profit_pct=max(trade.highest_profit_pct, profit),
        lowest_loss_pct=min(trade.lowest_loss_pct, profit),
        # A minute that ended at its open has had no close.
        profitable_minutes=trade.profitable_minutes + (profit > 0.0 and not at_open),
        exit_price=fill,
        exit_reason=reason,
        completed_at_ms=completed_at_ms,
    )
