"""What a market is to the simulated exchange: symbols, how long each exists, and candles by minute."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from schemas.frames import MINUTE_MS, Float64

DAY_MS = 1_440 * MINUTE_MS
#: Columns of a candle array: open time in milliseconds, open, high, low, close, volume.
CANDLE_COLUMNS = 6


class Market(Protocol):
    """Candles that are a pure function of symbol and minute."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """Ids such as BTCUSDT, in a fixed order."""

    @property
    def description(self) -> str:
        """Say in one line which market this is; two equal lines mean equal candles."""

    def span(self, symbol: str) -> tuple[int, int | None]:
        """Give the first and last open minute of a symbol; None means that it never ends."""

    def candles(self, symbol: str, from_ms: int, to_ms: int) -> Float64:
        """Give the candles with `from_ms <= open time < to_ms`, shape (rows, 6), by open time."""


def no_candles() -> Float64:
    """Make an empty candle array."""
    return np.empty((0, CANDLE_COLUMNS))


def first_minute(market: Market) -> int:
    """Find the earliest open minute of any symbol."""
    return min(market.span(symbol)[0] for symbol in market.symbols)


def last_minute(market: Market) -> int | None:
    """Find the latest open minute of any symbol, None where one never ends."""
    lasts = [market.span(symbol)[1] for symbol in market.symbols]
    known = [last for last in lasts if last is not None]
    return max(known) if len(known) == len(lasts) else None
