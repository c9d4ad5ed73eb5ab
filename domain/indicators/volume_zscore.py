"""Volume z-score: how unusual the newest volume is."""

from __future__ import annotations

import math

from domain.indicators.base.compiled import compiled
from domain.indicators.base.spec import VOLUME, IndicatorSpec
from domain.indicators.base.window import moments, push
from schemas.frames import Float64

SPEC = IndicatorSpec(
    title="Z-score of the volume",
    outputs=("volume_zscore", "volume_mean"),
    parameters={"period": 20},
    state_size=lambda period: 1 + period,
    warm_up=lambda period: period,
    unit="standard deviations; base currency",
    formula="(volume - mean(volume, n))/σ(volume, n), with σ the sample's standard deviation (n - 1); 0 "
    "where all volumes are equal",
    source="definition",
    differs="pandas-ta zscore(volume) is the same (ddof=1).",
)

# state: candles seen, the newest volumes


@compiled
def update(state: Float64, candle: Float64, out: Float64, period: int) -> None:
    """Take in one candle; `out` is the z-score and the mean volume."""
    state[0] += 1.0
    window = state[1 : 1 + period]
    push(window, candle[VOLUME])
    if state[0] < period:
        out[0] = math.nan
        out[1] = math.nan
        return
    distance, squares = moments(window)
    spread = math.sqrt(squares / (period - 1))
    out[0] = -distance / spread if spread > 0.0 else 0.0
    # About the newest value a mean of nearly nothing may come out a rounding below zero.
    out[1] = max(0.0, candle[VOLUME] + distance)
