"""Trend: average true range, directional movement and the exponential average, free of scale."""

from __future__ import annotations

import math

from domain.features.feature import Feature
from domain.features.lag import LAG_SIZE, SLOPE_CANDLES, change
from domain.features.periods import DEFAULT_PERIODS, Periods
from domain.indicators.base.compiled import compiled
from domain.indicators.base.spec import CLOSE
from schemas.frames import Float64

_D = DEFAULT_PERIODS
_WILDER = "J. Welles Wilder (1978)"

FEATURES = (
    Feature(
        name="atr",
        unit="percent of the close",
        formula="100·ATR(14)/close, shown once its start is forgotten",
        source=_WILDER,
        warm_up=_D.atr_settled,
    ),
    Feature(
        name="atr_slope",
        unit="percent of the close",
        formula="atr now less atr 5 candles earlier",
        source=_WILDER,
        warm_up=_D.atr_settled + SLOPE_CANDLES,
    ),
    Feature(
        name="adx",
        unit="points, 0 to 100",
        formula="ADX(14), shown once its start is forgotten",
        source=_WILDER,
        warm_up=_D.adx_settled,
    ),
    Feature(
        name="adx_slope",
        unit="points",
        formula="adx now less adx 5 candles earlier",
        source=_WILDER,
        warm_up=_D.adx_settled + SLOPE_CANDLES,
    ),
    Feature(
        name="di_spread",
        unit="points, -100 to 100",
        formula="+DI(14) - -DI(14), shown once their start is forgotten",
        source=_WILDER,
        warm_up=_D.adx_settled,
    ),
    Feature(
        name="ema_distance",
        unit="percent of the average",
        formula="100·(close/EMA(21) - 1), shown once its start is forgotten",
        source="definition",
        warm_up=_D.ema_settled,
    ),
    Feature(
        name="ema_slope",
        unit="percent of the close",
        formula="100·(EMA(21) now less EMA(21) 5 candles earlier)/close",
        source="definition",
        warm_up=_D.ema_settled + SLOPE_CANDLES,
    ),
)

TREND_STATE = 3 * LAG_SIZE


@compiled
def update(
    state: Float64,
    periods: Periods,
    atr: float,
    directional: Float64,
    ema: float,
    candle: Float64,
    candles: int,
    out: Float64,
) -> None:
    """Take in what the indicators say; `directional` is ADX, +DI and -DI."""
    close = candle[CLOSE]
    reach = 100.0 * atr / close if candles >= periods.atr_settled else math.nan
    settled = candles >= periods.adx_settled
    adx = directional[0] if settled else math.nan
    average = ema if candles >= periods.ema_settled else math.nan
    out[0] = reach
    out[1] = change(state[0:LAG_SIZE], reach, candles)
    out[2] = adx
    out[3] = change(state[LAG_SIZE : 2 * LAG_SIZE], adx, candles)
    out[4] = directional[1] - directional[2] if settled else math.nan
    out[5] = 100.0 * (close / average - 1.0)
    out[6] = 100.0 * change(state[2 * LAG_SIZE : 3 * LAG_SIZE], average, candles) / close
