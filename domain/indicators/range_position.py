"""Range position: where the close lies between the lowest low and the highest high of an hour."""

from __future__ import annotations

import math

from domain.indicators.base.compiled import compiled
from domain.indicators.base.spec import CLOSE, HIGH, LOW, IndicatorSpec
from domain.indicators.base.window import push
from schemas.frames import Float64

SPEC = IndicatorSpec(
    title="Position in the Donchian channel",
    outputs=("range_position",),
    parameters={"period": 60},
    state_size=lambda period: 1 + 2 * period,
    warm_up=lambda period: period,
    unit="share, 0 to 1",
    formula="(close - low(n))/(high(n) - low(n)) over the lowest low and highest high of n candles; 0.5 "
    "where they are equal",
    source="Richard Donchian's channel",
    differs="Equal to (close - TA-Lib MIN(low))/(MAX(high) - MIN(low)).",
)

# state: candles seen, the newest highs and lows


@compiled
def update(state: Float64, candle: Float64, out: Float64, period: int) -> None:
    """Take in one candle; `out` is the position."""
    state[0] += 1.0
    highs = state[1 : 1 + period]
    lows = state[1 + period : 1 + 2 * period]
    push(highs, candle[HIGH])
    push(lows, candle[LOW])
    if state[0] < period:
        out[0] = math.nan
        return
    highest = highs[0]
    lowest = lows[0]
    for i in range(1, period):
        highest = max(highest, highs[i])
        lowest = min(lowest, lows[i])
    span = highest - lowest
    out[0] = (candle[CLOSE] - lowest) / span if span > 0.0 else 0.5
