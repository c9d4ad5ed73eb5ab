"""The same indicators by other libraries, candle by candle; a library that is not installed gives None."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cli.benches.base.timing import best_us
from schemas.frames import Float64

#: How many candles those see that compute their newest value anew from a window. MACD needs 34 to begin with.
WINDOW = 100
NOT_INSTALLED = "not installed: pip install 'tidecast[oracles]'"


def talib_stream_us(candles: Float64) -> float | None:
    """Measure TA-Lib's stream functions for RSI, MACD, Bollinger bands and stochastic."""
    try:
        from talib import stream
    except ImportError:
        return None

    def one(opened: Any, high: Any, low: Any, close: Any, volume: Any) -> None:
        stream.RSI(close, 14)
        stream.MACD(close, 12, 26, 9)
        stream.BBANDS(close, 20, 2.0, 2.0)
        stream.STOCH(high, low, close, 14, 1, 0, 3, 0)

    return best_us(_over_windows(candles, one))


def talib_more_us(candles: Float64) -> float | None:
    """Measure TA-Lib's stream functions for those families of the 72 features that it has."""
    try:
        from talib import stream
    except ImportError:
        return None

    def one(opened: Any, high: Any, low: Any, close: Any, volume: Any) -> None:
        for minutes in (1, 2, 3, 5, 10, 15, 30, 60):
            stream.ROC(close, minutes)
        stream.RSI(close, 14)
        stream.MACD(close, 12, 26, 9)
        stream.BBANDS(close, 20, 2.0, 2.0)
        stream.STOCH(high, low, close, 14, 1, 0, 3, 0)
        stream.ATR(high, low, close, 14)
        stream.ADX(high, low, close, 14)
        stream.CCI(high, low, close, 20)
        stream.MFI(high, low, close, volume, 14)
        stream.OBV(close, volume)
        for minutes in (5, 15, 30, 60):
            stream.STDDEV(close, minutes, 1.0)

    return best_us(_over_windows(candles, one))


def talib_batch_per_s(candles: Float64) -> float | None:
    """Count the candles a second of TA-Lib's array functions, for those families of the 72 that it has."""
    try:
        import talib
    except ImportError:
        return None
    high, low, close, volume = (candles[:, column].copy() for column in (1, 2, 3, 4))

    def work() -> int:
        for minutes in (1, 2, 3, 5, 10, 15, 30, 60):
            talib.ROC(close, minutes)
        talib.RSI(close, 14)
        talib.MACD(close, 12, 26, 9)
        talib.BBANDS(close, 20, 2.0, 2.0)
        talib.STOCH(high, low, close, 14, 1, 0, 3, 0)
        talib.ATR(high, low, close, 14)
        talib.ADX(high, low, close, 14)
        talib.CCI(high, low, close, 20)
        talib.MFI(high, low, close, volume, 14)
        talib.OBV(close, volume)
        for minutes in (5, 15, 30, 60):
            talib.STDDEV(close, minutes, 1.0)
        return len(close)

    return 1e6 / best_us(work)


def talipp_us(candles: Float64) -> float | None:
    """Measure talipp's incremental RSI, MACD, Bollinger bands and stochastic."""
    try:
        from talipp.indicators import BB, MACD, RSI, Stoch
        from talipp.ohlcv import OHLCV
    except ImportError:
        return None
    rows = [OHLCV(*row) for row in candles.tolist()]

    def work() -> int:
        closes = [RSI(14), MACD(12, 26, 9), BB(20, 2.0)]
        stochastic = Stoch(14, 3)
        for row in rows:
            for indicator in closes:
                indicator.add(row.close)
            stochastic.add(row)
        return len(rows)

    return best_us(work)


def pandas_ta_us(candles: Float64) -> float | None:
    """Measure pandas-ta, which computes a whole frame anew for every candle."""
    try:
        import pandas
        import pandas_ta_classic as ta
    except ImportError:
        return None
    frame = pandas.DataFrame(candles[:WINDOW], columns=["open", "high", "low", "close", "volume"])
    high, low, close = frame["high"], frame["low"], frame["close"]

    def work() -> int:
        ta.rsi(close, length=14, talib=False)
        ta.macd(close, fast=12, slow=26, signal=9, talib=False)
        ta.bbands(close, length=20, std=2.0, talib=False)
        ta.stoch(high, low, close, k=14, d=3, smooth_k=1, talib=False)
        return 1

    return best_us(work)


def _over_windows(candles: Float64, one: Callable[..., None]) -> Callable[[], int]:
    columns = [candles[:, column].copy() for column in range(5)]
    starts = range(len(candles) - WINDOW)

    def work() -> int:
        for start in starts:
            one(*(column[start : start + WINDOW] for column in columns))
        return len(starts)

    return work
