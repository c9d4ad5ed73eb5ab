"""MACD: a fast average of the close against a slow one, and the average of that."""

from __future__ import annotations

import math

from domain.indicators.base.compiled import compiled
from domain.indicators.base.spec import CLOSE, IndicatorSpec
from schemas.frames import Float64

SPEC = IndicatorSpec(
    title="Moving average convergence/divergence",
    outputs=("macd", "macd_signal", "macd_histogram"),
    parameters={"fast": 12, "slow": 26, "signal": 9},
    state_size=lambda fast, slow, signal: 4,
    warm_up=lambda fast, slow, signal: slow + signal - 1,
    unit="quote currency",
    formula="EMA(close, fast) - EMA(close, slow); signal: EMA of that; histogram: their difference. "
    "EMA ← EMA + 2/(n+1)·(x - EMA). Both EMAs start at candle `slow`, each as the mean of its newest n "
    "closes, and the signal as the mean of its first n",
    source="Gerald Appel, The Moving Average Convergence-Divergence Trading Method (1979); seeding as in "
    "TA-Lib",
    differs="TA-Lib MACD is the same. pandas-ta starts the fast EMA at candle `fast`, so it agrees only "
    "after some 300 candles.",
)

# state: candles seen, fast EMA (its sum while seeding), slow EMA, signal EMA


@compiled
def update(state: Float64, candle: Float64, out: Float64, fast: int, slow: int, signal: int) -> None:
    """Take in one candle; `out` is the line, the signal and the histogram."""
    close = candle[CLOSE]
    state[0] += 1.0
    seen = state[0]
    out[0] = math.nan
    out[1] = math.nan
    out[2] = math.nan
    if seen <= slow:
        if seen > slow - fast:
            state[1] += close
        state[2] += close
        if seen < slow:
            return
        state[1] /= fast
        state[2] /= slow
    else:
        state[1] += (close - state[1]) * (2.0 / (fast + 1.0))
        state[2] += (close - state[2]) * (2.0 / (slow + 1.0))
    line = state[1] - state[2]
    warm = slow + signal - 1
    if seen <= warm:
        state[3] += line
        if seen < warm:
            return
        state[3] /= signal
    else:
        state[3] += (line - state[3]) * (2.0 / (signal + 1.0))
    out[0] = line
    out[1] = state[3]
    out[2] = line - state[3]
