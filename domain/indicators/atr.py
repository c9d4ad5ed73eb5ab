"""ATR: how far a candle usually reaches."""

from __future__ import annotations

import math

from domain.indicators.base.compiled import compiled
from domain.indicators.base.spec import CLOSE, HIGH, LOW, IndicatorSpec
from schemas.frames import Float64

SPEC = IndicatorSpec(
    title="Average true range",
    outputs=("atr",),
    parameters={"period": 14},
    state_size=lambda period: 3,
    warm_up=lambda period: period + 1,
    unit="quote currency",
    formula="Wilder's average, A ← (A·(n-1) + TR)/n, of TR = max(high, previous close) - min(low, "
    "previous close), seeded with the mean of the first n",
    source="J. Welles Wilder, New Concepts in Technical Trading Systems (1978)",
    differs="TA-Lib ATR is the same. pandas-ta seeds the average otherwise and agrees only after some "
    "300 candles.",
)

# state: candles seen, previous close, the average (its sum while seeding)


@compiled
def update(state: Float64, candle: Float64, out: Float64, period: int) -> None:
    """Take in one candle; `out` is the average true range."""
    previous = state[1]
    state[0] += 1.0
    state[1] = candle[CLOSE]
    seen = state[0]
    out[0] = math.nan
    if seen == 1.0:
        return
    reach = max(candle[HIGH], previous) - min(candle[LOW], previous)
    if seen <= period + 1:
        state[2] += reach
        if seen <= period:
            return
        state[2] /= period
    else:
        state[2] = (state[2] * (period - 1) + reach) / period
    out[0] = state[2]
