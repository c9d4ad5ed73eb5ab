"""The one loop over candles: across symbols when live, along time in history, with the same instructions."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from domain.features.layout import Layout
from domain.features.market import Market, close_through, record_close
from domain.features.periods import Periods
from domain.features.readings import READING_COUNT, read_classic
from domain.features.schema import FEATURE_COUNT
from domain.features.symbol_rule import update_symbol, write_chart
from domain.indicators.base.compiled import compiled
from domain.indicators.base.spec import CLOSE, HIGH, LOW, OPEN, VOLUME
from schemas.frames import Bool, Float32, Float64, Int32, Int64

#: What `find_mistake` may say of a row; 0 is nothing.
UNKNOWN_SYMBOL, NOT_A_PRICE, NOT_NEWER, AFTER_CLOSING, NO_MINUTE = 1, 2, 3, 4, 5
_MINUTE_MS = 60_000


class Symbols(NamedTuple):
    """State of all symbols, a row each.

    Attributes
    ----------
    numbers
        The rules' numbers, as `Layout` divides them; zeros mean fresh.
    candles
        Candles since the state was fresh.
    minute
        Open time of the newest candle in minutes since 1970.
    close
        Its close.
    reference
        Column in the market, or -1.
    """

    numbers: Float64
    candles: Int64
    minute: Int64
    close: Float64
    reference: Int64


@compiled
def find_mistake(
    symbols: Symbols, market: Market, symbol_index: Int32, open_time_ms: Int64, ohlcv: Float64
) -> tuple[int, int]:
    """Find the first row that cannot be processed; what is wrong with it, and which it is."""
    newest = symbols.minute.copy()
    closed = market.closed[0]
    for row in range(len(symbol_index)):
        s = symbol_index[row]
        if s < 0 or s >= len(newest):
            return UNKNOWN_SYMBOL, row
        if open_time_ms[row] % _MINUTE_MS != 0:
            return NO_MINUTE, row
        candle = ohlcv[row]
        low = candle[LOW]
        together = candle[OPEN] + candle[HIGH] + low + candle[CLOSE] + candle[VOLUME]
        if not (low > 0.0 and together < math.inf and candle[HIGH] >= low and candle[VOLUME] >= 0.0):
            return NOT_A_PRICE, row
        if not (low <= candle[OPEN] <= candle[HIGH] and low <= candle[CLOSE] <= candle[HIGH]):
            return NOT_A_PRICE, row
        minute = open_time_ms[row] // _MINUTE_MS
        if minute <= newest[s]:
            return NOT_NEWER, row
        if symbols.reference[s] >= 0 and minute <= closed:
            return AFTER_CLOSING, row
        newest[s] = minute
        closed = max(closed, minute - 1)
    return 0, 0


@compiled
def advance_rows(
    symbols: Symbols,
    market: Market,
    layout: Layout,
    periods: Periods,
    leader: int,
    max_gap_minutes: int,
    symbol_index: Int32,
    open_time_ms: Int64,
    ohlcv: Float64,
    vector: Float32,
    chart: Float64,
    is_complete: Bool,
) -> None:
    """Process rows in their order; write one row of each output."""
    readings = np.empty(READING_COUNT)
    features = np.empty(FEATURE_COUNT)
    for row in range(len(symbol_index)):
        s = symbol_index[row]
        minute = open_time_ms[row] // _MINUTE_MS
        candle = ohlcv[row]
        if market.closed[0] < minute - 1:
            close_through(market, minute - 1, leader)
        previous_minute = symbols.minute[s]
        state = symbols.numbers[s]
        if symbols.candles[s] > 0 and minute - previous_minute - 1 > max_gap_minutes:
            state[:] = 0.0
            symbols.candles[s] = 0
        symbols.candles[s] += 1
        candles = symbols.candles[s]
        update_symbol(
            state,
            layout,
            periods,
            market,
            candle,
            candles,
            minute,
            previous_minute,
            symbols.close[s] if candles > 1 else math.nan,
            readings,
            features,
        )
        symbols.minute[s] = minute
        symbols.close[s] = candle[CLOSE]
        for i in range(FEATURE_COUNT):
            vector[row, i] = features[i]
        is_complete[row] = write_chart(readings, chart[row])
        if symbols.reference[s] >= 0:
            record_close(market, minute, symbols.reference[s], candle[CLOSE])


@compiled
def advance_classic(
    numbers: Float64,
    layout: Layout,
    periods: Periods,
    symbol_index: Int32,
    ohlcv: Float64,
    readings: Float64,
) -> None:
    """Move only RSI, MACD, Bollinger bands and stochastic; for comparing speed with other libraries."""
    for row in range(len(symbol_index)):
        read_classic(numbers[symbol_index[row]], layout, periods, ohlcv[row], readings[row])
