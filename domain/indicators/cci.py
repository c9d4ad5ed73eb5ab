"""CCI: how unusual the typical price is."""

from __future__ import annotations

import math

from domain.indicators.base.compiled import compiled
from domain.indicators.base.spec import CLOSE, HIGH, LOW, IndicatorSpec
from domain.indicators.base.window import moments, push
from schemas.frames import Float64

SPEC = IndicatorSpec(
    title="Commodity channel index",
    outputs=("cci",),
    parameters={"period": 20},
    state_size=lambda period: 1 + period,
    warm_up=lambda period: period,
    unit="points, mostly -200 to 200",
    formula="(p - mean(p, n))/(0.015·mean|p - mean(p, n)|), with p = (high + low + close)/3; 0 where p "
    "did not move",
    source="Donald R. Lambert, Commodity Channel Index, Commodities magazine (1980)",
    differs="TA-Lib CCI and pandas-ta cci are the same; in a flat market they may divide rounding by "
    "rounding.",
)

# state: candles seen, the newest typical prices


@compiled
def update(state: Float64, candle: Float64, out: Float64, period: int) -> None:
    """Take in one candle; `out` is the index."""
    state[0] += 1.0
    window = state[1 : 1 + period]
    price = (candle[HIGH] + candle[LOW] + candle[CLOSE]) / 3.0
    push(window, price)
    if state[0] < period:
        out[0] = math.nan
        return
    distance = moments(window)[0]
    scatter = 0.0
    for i in range(period):
        scatter += abs(window[i] - price - distance)
    out[0] = -distance * period / (0.015 * scatter) if scatter > 0.0 else 0.0
