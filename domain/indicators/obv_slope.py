"""OBV slope: whether volume comes with rises or with falls, within a window."""

from __future__ import annotations

import math

from domain.indicators.base.compiled import compiled
from domain.indicators.base.spec import CLOSE, VOLUME, IndicatorSpec
from domain.indicators.base.window import push, total
from schemas.frames import Float64

SPEC = IndicatorSpec(
    title="Slope of the on-balance volume",
    outputs=("obv_slope",),
    parameters={"period": 20},
    state_size=lambda period: 2 + 2 * period,
    warm_up=lambda period: period,
    unit="mean volumes per candle",
    formula="least-squares slope over n candles of OBV (volume added where the close rose, taken off "
    "where it fell), divided by mean(volume, n); 0 where nothing was traded. Only the slope is taken, so "
    "where OBV starts does not matter",
    source="Joseph Granville, New Key to Stock Market Profits (1963), for OBV",
    differs="Equal to TA-Lib LINEARREG_SLOPE(OBV)/SMA(volume).",
)

# state: candles seen, previous close, the newest signed volumes, the newest volumes


@compiled
def update(state: Float64, candle: Float64, out: Float64, period: int) -> None:
    """Take in one candle; `out` is the slope."""
    change = candle[CLOSE] - state[1]
    state[0] += 1.0
    state[1] = candle[CLOSE]
    signed = state[2 : 2 + period]
    volumes = state[2 + period : 2 + 2 * period]
    volume = candle[VOLUME]
    push(signed, volume if change > 0.0 else -volume if change < 0.0 else 0.0)
    push(volumes, volume)
    if state[0] < period:
        out[0] = math.nan
        return
    middle = 0.5 * (period - 1)
    balance = 0.0  # at the oldest candle of the window
    product = 0.0
    for i in range(1, period):
        balance += signed[i]
        product += (i - middle) * balance
    traded = total(volumes)
    steep = product * 12.0 / (period * (period * period - 1.0))
    out[0] = steep * period / traded if traded > 0.0 else 0.0
