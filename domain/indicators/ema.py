"""EMA: the exponential average of the close."""

from __future__ import annotations

import math

from domain.indicators.base.compiled import compiled
from domain.indicators.base.spec import CLOSE, IndicatorSpec
from schemas.frames import Float64

SPEC = IndicatorSpec(
    title="Exponential moving average",
    outputs=("ema",),
    parameters={"period": 21},
    state_size=lambda period: 2,
    warm_up=lambda period: period,
    unit="quote currency",
    formula="EMA ← EMA + 2/(n+1)·(close - EMA), seeded with the mean of the first n closes",
    source="definition; seeding as in TA-Lib",
    differs="TA-Lib EMA and pandas-ta ema are the same.",
)

# state: candles seen, the average (its sum while seeding)


@compiled
def update(state: Float64, candle: Float64, out: Float64, period: int) -> None:
    """Take in one candle; `out` is the average."""
    state[0] += 1.0
    out[0] = math.nan
    if state[0] <= period:
        state[1] += candle[CLOSE]
        if state[0] < period:
            return
        state[1] /= period
    else:
        state[1] += (candle[CLOSE] - state[1]) * (2.0 / (period + 1.0))
    out[0] = state[1]
