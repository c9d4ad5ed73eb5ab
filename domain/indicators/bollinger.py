"""Bollinger bands: the mean close and a channel as wide as the closes scatter."""

from __future__ import annotations

import math

from domain.indicators.base.compiled import compiled
from domain.indicators.base.spec import CLOSE, IndicatorSpec
from domain.indicators.base.window import moments, push
from schemas.frames import Float64

SPEC = IndicatorSpec(
    title="Bollinger bands",
    outputs=("bollinger_upper", "bollinger_middle", "bollinger_lower"),
    parameters={"period": 20, "deviations": 2.0},
    state_size=lambda period, deviations: 1 + period,
    warm_up=lambda period, deviations: period,
    unit="quote currency",
    formula="mean(close, n) ± k·σ(close, n), with σ the population's standard deviation (divided by n)",
    source="John Bollinger, Bollinger on Bollinger Bands (2001)",
    differs="TA-Lib BBANDS and pandas-ta bbands (ddof=0) are the same.",
)

# state: candles seen, the newest closes


@compiled
def update(state: Float64, candle: Float64, out: Float64, period: int, deviations: float) -> None:
    """Take in one candle; `out` is the upper band, the mean and the lower band."""
    state[0] += 1.0
    window = state[1 : 1 + period]
    push(window, candle[CLOSE])
    if state[0] < period:
        out[0] = math.nan
        out[1] = math.nan
        out[2] = math.nan
        return
    distance, squares = moments(window)
    middle = candle[CLOSE] + distance
    width = deviations * math.sqrt(squares / period)
    out[0] = middle + width
    out[1] = middle
    out[2] = middle - width
