"""What one candle does to one symbol: its indicators, its chart columns and its 72 features."""

from __future__ import annotations

import math

from domain.features import (
    calendar,
    candle_shape,
    cone,
    cross_market,
    momentum,
    returns,
    timeframe,
    trend,
    volume,
)
from domain.features.layout import Layout
from domain.features.market import Market
from domain.features.periods import Periods
from domain.features.readings import (
    ADX,
    ATR,
    BOLLINGER_LOWER,
    BOLLINGER_UPPER,
    CCI,
    EMA,
    MACD,
    MFI,
    OBV_SLOPE,
    RANGE_POSITION,
    RSI,
    SIGMA_SHORT,
    STOCHASTIC_D,
    STOCHASTIC_K,
    VOLATILITY,
    VOLUME_IMBALANCE,
    VOLUME_ZSCORE_SHORT,
    VWAP_DISTANCE_SHORT,
    read_classic,
    read_others,
)
from domain.features.schema import GROUPS
from domain.indicators.base.compiled import compiled
from schemas.frames import Float64

# The modules' functions under names of their own: what numba freezes must be a plain global.
_returns = returns.update
_momentum = momentum.update
_trend = trend.update
_volume = volume.update
_candle_shape = candle_shape.update
_cone = cone.update
_timeframes = timeframe.update
_cross_market = cross_market.update
_calendar = calendar.update

# Where each group begins in the vector.
_STARTS = [0]
for _group in GROUPS.values():
    _STARTS.append(_STARTS[-1] + len(_group))
(
    _RETURNS,
    _MOMENTUM,
    _TREND,
    _VOLUME,
    _SHAPE,
    _CONE,
    _FRAMES,
    _CROSS,
    _CALENDAR,
    _END,
) = _STARTS
_RETURN_60 = returns.SPANS.index(60)


@compiled
def write_chart(readings: Float64, chart: Float64) -> bool:
    """Pick the chart's columns; tell whether all are there."""
    chart[0] = readings[RSI]
    chart[1] = readings[MACD]
    chart[2] = readings[BOLLINGER_UPPER]
    chart[3] = readings[BOLLINGER_LOWER]
    chart[4] = readings[STOCHASTIC_K]
    chart[5] = readings[STOCHASTIC_D]
    chart[6] = readings[VOLATILITY]
    # One NaN among them makes the sum one; the compiler knows no all().
    together = 0.0
    for i in range(len(chart)):
        together += chart[i]
    return not math.isnan(together)


@compiled
def update_symbol(
    state: Float64,
    layout: Layout,
    periods: Periods,
    market: Market,
    candle: Float64,
    candles: int,
    minute: int,
    previous_minute: int,
    previous_close: float,
    readings: Float64,
    features: Float64,
) -> None:
    """Move a symbol by one candle, the `candles`-th since its state was fresh; minutes count since 1970."""
    read_classic(state, layout, periods, candle, readings)
    read_others(state, layout, periods, candle, readings)
    _returns(state[layout.returns : layout.momentum], candle, candles, features[_RETURNS:_MOMENTUM])
    _momentum(
        state[layout.momentum : layout.trend],
        periods,
        readings[0:9],
        readings[CCI],
        readings[MFI],
        candle,
        candles,
        features[_MOMENTUM:_TREND],
    )
    _trend(
        state[layout.trend : layout.cone],
        periods,
        readings[ATR],
        readings[ADX : ADX + 3],
        readings[EMA],
        candle,
        candles,
        features[_TREND:_VOLUME],
    )
    _volume(
        readings[OBV_SLOPE],
        readings[VWAP_DISTANCE_SHORT : VWAP_DISTANCE_SHORT + 2],
        readings[VOLUME_ZSCORE_SHORT : VOLUME_ZSCORE_SHORT + 4],
        readings[VOLUME_IMBALANCE],
        features[_VOLUME:_SHAPE],
    )
    _candle_shape(candle, previous_close, readings[RANGE_POSITION], features[_SHAPE:_CONE])
    _cone(
        state[layout.cone : layout.timeframes],
        readings[VOLATILITY],
        readings[SIGMA_SHORT : SIGMA_SHORT + 3],
        candles,
        minute,
        features[_CONE:_FRAMES],
    )
    _timeframes(state[layout.timeframes : layout.cross], candle, candles, minute, features[_FRAMES:_CROSS])
    _cross_market(
        state[layout.cross : layout.size],
        market,
        candles,
        minute,
        previous_minute,
        features[_RETURNS],
        features[_RETURNS + _RETURN_60],
        features[_CROSS:_CALENDAR],
    )
    _calendar(minute, features[_CALENDAR:_END])
