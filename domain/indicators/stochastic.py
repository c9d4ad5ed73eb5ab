"""Stochastic oscillator: where the close lies in the recent range."""

from __future__ import annotations

import math

from domain.indicators.base.compiled import compiled
from domain.indicators.base.spec import CLOSE, HIGH, LOW, IndicatorSpec
from domain.indicators.base.window import push, total
from schemas.frames import Float64

SPEC = IndicatorSpec(
    title="Stochastic oscillator",
    outputs=("stochastic_k", "stochastic_d"),
    parameters={"k": 14, "d": 3},
    state_size=lambda k, d: 1 + 2 * k + d,
    warm_up=lambda k, d: k + d - 1,
    unit="points, 0 to 100",
    formula="%K = 100·(close - low(k))/(high(k) - low(k)) over the lowest low and highest high of k "
    "candles, 50 where they are equal; %D = mean(%K, d)",
    source="George C. Lane, Lane's Stochastics (1984)",
    differs="TA-Lib STOCHF is the same, but 0 for a flat range. TA-Lib STOCH and pandas-ta stoch smooth "
    "%K first; pandas-ta with smooth_k=1 is the same.",
)

# state: candles seen, the newest highs, lows and %K


@compiled
def update(state: Float64, candle: Float64, out: Float64, k: int, d: int) -> None:
    """Take in one candle; `out` is %K and %D."""
    state[0] += 1.0
    highs = state[1 : 1 + k]
    lows = state[1 + k : 1 + 2 * k]
    newest_k = state[1 + 2 * k : 1 + 2 * k + d]
    push(highs, candle[HIGH])
    push(lows, candle[LOW])
    out[0] = math.nan
    out[1] = math.nan
    if state[0] < k:
        return
    highest = highs[0]
    lowest = lows[0]
    for i in range(1, k):
        highest = max(highest, highs[i])
        lowest = min(lowest, lows[i])
    span = highest - lowest
    value = 100.0 * (candle[CLOSE] - lowest) / span if span > 0.0 else 50.0
    push(newest_k, value)
    if state[0] >= k + d - 1:
        out[0] = value
        out[1] = total(newest_k) / d
