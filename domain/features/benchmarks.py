"""Work to be timed: each function prepares candles and gives back a run, which tells how many candles it did.

There is no clock in here. The first run warms up; later runs go on with later minutes, so any may be timed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from domain.features import kernel
from domain.features.engine import FeatureEngine
from domain.features.layout import make_layout
from domain.features.periods import DEFAULT_PERIODS
from domain.features.readings import READING_COUNT
from schemas.frames import MINUTE_MS, NULL_MS, Float64

_FIRST_MINUTE = 27_000_000
_REFERENCES = 20


def random_walk(rng: np.random.Generator, minutes: int, symbol_count: int) -> Float64:
    """Make up candles: fat-tailed closes, opens at the previous close; shape (minutes, symbols, 5)."""
    steps = rng.standard_t(4, (minutes, symbol_count)) * 5e-4
    close = 100.0 * np.exp(np.cumsum(steps, axis=0))
    first = np.vstack([np.full((1, symbol_count), 100.0), close[:-1]])
    high = np.maximum(first, close) * (1.0 + rng.random(close.shape) * 2e-4)
    low = np.minimum(first, close) * (1.0 - rng.random(close.shape) * 2e-4)
    return np.stack([first, high, low, close, rng.gamma(2.0, 5.0, close.shape)], axis=-1)


def classic_live(*, symbol_count: int = 1_000, minutes: int = 200, seed: int = 0) -> Callable[[], int]:
    """Prepare RSI, MACD, Bollinger bands and stochastic, minute by minute across the symbols."""
    candles = random_walk(np.random.default_rng(seed), minutes, symbol_count)
    layout = make_layout(DEFAULT_PERIODS)
    # Only these four: their parts of the state come first.
    numbers = np.zeros((symbol_count, layout.volatility))
    index = np.arange(symbol_count, dtype=np.int32)
    readings = np.empty((symbol_count, READING_COUNT))

    def run() -> int:
        for minute in candles:
            kernel.advance_classic(numbers, layout, DEFAULT_PERIODS, index, minute, readings)
        return minutes * symbol_count

    return run


def features_live(*, symbol_count: int = 1_000, minutes: int = 50, seed: int = 0) -> Callable[[], int]:
    """Prepare all 72 features, minute by minute across the symbols."""
    candles = random_walk(np.random.default_rng(seed), minutes, symbol_count)
    engine = _engine(symbol_count)
    index = np.arange(symbol_count, dtype=np.int32)

    def run() -> int:
        start = _next_minute(engine)
        for offset, rows in enumerate(candles):
            time_ms = (start + offset) * MINUTE_MS
            times = np.full(symbol_count, time_ms, np.int64)
            engine.advance(symbol_index=index, open_time_ms=times, ohlcv=rows, closed_to_ms=time_ms)
        return minutes * symbol_count

    return run


def features_batch(*, minutes: int = 100_000, seed: int = 0) -> Callable[[], int]:
    """Prepare all 72 features of one symbol, its whole history in one call."""
    candles = np.ascontiguousarray(random_walk(np.random.default_rng(seed), minutes, 1)[:, 0])
    engine = _engine(1)
    index = np.zeros(minutes, np.int32)

    def run() -> int:
        start = _next_minute(engine)
        times = (start + np.arange(minutes, dtype=np.int64)) * MINUTE_MS
        engine.advance(symbol_index=index, open_time_ms=times, ohlcv=candles, closed_to_ms=int(times[-1]))
        return minutes

    return run


def _engine(symbol_count: int) -> FeatureEngine:
    symbols = tuple(f"S{number}" for number in range(symbol_count))
    return FeatureEngine(symbols=symbols, references=symbols[:_REFERENCES], leader=symbols[0])


def _next_minute(engine: FeatureEngine) -> int:
    closed = engine.closed_to_ms
    return _FIRST_MINUTE if closed == NULL_MS else closed // MINUTE_MS + 1
