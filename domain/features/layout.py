"""Where each rule's part of a symbol's state lies."""

from __future__ import annotations

from typing import NamedTuple

from domain.features.cone import CONE_STATE
from domain.features.cross_market import CROSS_STATE
from domain.features.momentum import MOMENTUM_STATE
from domain.features.periods import (
    ADX_PERIOD,
    ATR_PERIOD,
    CCI_PERIOD,
    EMA_PERIOD,
    IMBALANCE_PERIOD,
    MFI_PERIOD,
    OBV_PERIOD,
    RANGE_PERIOD,
    VOLATILITY_LONG,
    VOLATILITY_MIDDLE,
    VOLATILITY_SHORT,
    VOLUME_LONG,
    VOLUME_SHORT,
    VWAP_LONG,
    VWAP_SHORT,
    Periods,
)
from domain.features.returns import RETURNS_STATE
from domain.features.timeframe import TIMEFRAMES_STATE
from domain.features.trend import TREND_STATE
from domain.indicators import load


class Layout(NamedTuple):
    """First number of each part of the state; a part ends where the next begins."""

    rsi: int
    macd: int
    bollinger: int
    stochastic: int
    volatility: int
    atr: int
    adx: int
    cci: int
    mfi: int
    obv_slope: int
    vwap_short: int
    vwap_long: int
    ema: int
    volume_short: int
    volume_long: int
    imbalance: int
    sigma: int
    range_position: int
    returns: int
    momentum: int
    trend: int
    cone: int
    timeframes: int
    cross: int
    size: int


def make_layout(periods: Periods) -> Layout:
    """Put the parts of a symbol's state behind one another."""

    def size(indicator: str, *parameters: float) -> int:
        return load(indicator).SPEC.state_size(*parameters)

    sizes = (
        size("rsi", periods.rsi),
        size("macd", periods.macd_fast, periods.macd_slow, periods.macd_signal),
        size("bollinger", periods.bollinger, periods.bollinger_deviations),
        size("stochastic", periods.stochastic_k, periods.stochastic_d),
        size("volatility", periods.volatility),
        size("atr", ATR_PERIOD),
        size("adx", ADX_PERIOD),
        size("cci", CCI_PERIOD),
        size("mfi", MFI_PERIOD),
        size("obv_slope", OBV_PERIOD),
        size("vwap_distance", VWAP_SHORT),
        size("vwap_distance", VWAP_LONG),
        size("ema", EMA_PERIOD),
        size("volume_zscore", VOLUME_SHORT),
        size("volume_zscore", VOLUME_LONG),
        size("volume_imbalance", IMBALANCE_PERIOD),
        size("realized_volatility", VOLATILITY_SHORT, VOLATILITY_MIDDLE, VOLATILITY_LONG),
        size("range_position", RANGE_PERIOD),
        RETURNS_STATE,
        MOMENTUM_STATE,
        TREND_STATE,
        CONE_STATE,
        TIMEFRAMES_STATE,
        CROSS_STATE,
    )
    starts = [0]
    for part in sizes:
        starts.append(starts[-1] + part)
    return Layout(*starts)
