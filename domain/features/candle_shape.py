"""Candle shape: body, wicks and reach of the newest candle, and where its close lies in the hour."""

from __future__ import annotations

import math

from domain.features.feature import Feature
from domain.features.periods import RANGE_PERIOD
from domain.indicators.base.compiled import compiled
from domain.indicators.base.spec import CLOSE, HIGH, LOW, OPEN
from schemas.frames import Float64

FEATURES = (
    Feature(
        name="candle_body",
        unit="share of the candle's range, -1 to 1",
        formula="(close - open)/(high - low); 0 for a flat candle",
        source="definition",
        warm_up=1,
    ),
    Feature(
        name="candle_upper_wick",
        unit="share of the candle's range, 0 to 1",
        formula="(high - max(open, close))/(high - low); 0 for a flat candle",
        source="definition",
        warm_up=1,
    ),
    Feature(
        name="candle_lower_wick",
        unit="share of the candle's range, 0 to 1",
        formula="(min(open, close) - low)/(high - low); 0 for a flat candle",
        source="definition",
        warm_up=1,
    ),
    Feature(
        name="candle_range",
        unit="percent of the close",
        formula="100·(high - low)/close",
        source="definition",
        warm_up=1,
    ),
    Feature(
        name="candle_gap",
        unit="percent of the previous close",
        formula="100·(open/previous close - 1)",
        source="definition",
        warm_up=2,
    ),
    Feature(
        name="range_position",
        unit="share, 0 to 1",
        formula="(close - low(60))/(high(60) - low(60)) over 60 candles; 0.5 where they are equal",
        source="Richard Donchian's channel",
        warm_up=RANGE_PERIOD,
    ),
)


@compiled
def update(candle: Float64, previous_close: float, range_position: float, out: Float64) -> None:
    """Describe a candle; `previous_close` is NaN at the first."""
    first, high, low, close = candle[OPEN], candle[HIGH], candle[LOW], candle[CLOSE]
    reach = high - low
    if reach > 0.0:
        out[0] = (close - first) / reach
        out[1] = (high - max(first, close)) / reach
        out[2] = (min(first, close) - low) / reach
    else:
        out[0] = 0.0
        out[1] = 0.0
        out[2] = 0.0
    out[3] = 100.0 * reach / close
    out[4] = 100.0 * (first / previous_close - 1.0) if previous_close > 0.0 else math.nan
    out[5] = range_position
