"""What all indicators say at one candle: the numbers that the features are made of."""

from __future__ import annotations

from domain.features.layout import Layout
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
from domain.indicators import (
    adx,
    atr,
    bollinger,
    cci,
    ema,
    macd,
    mfi,
    obv_slope,
    range_position,
    realized_volatility,
    rsi,
    stochastic,
    volatility,
    volume_imbalance,
    volume_zscore,
    vwap_distance,
)
from domain.indicators.base.compiled import compiled
from schemas.frames import Float64

# The modules' functions under names of their own: what numba freezes must be a plain global.
_rsi = rsi.update
_macd = macd.update
_bollinger = bollinger.update
_stochastic = stochastic.update
_volatility = volatility.update
_atr = atr.update
_adx = adx.update
_cci = cci.update
_mfi = mfi.update
_obv_slope = obv_slope.update
_vwap_distance = vwap_distance.update
_ema = ema.update
_volume_zscore = volume_zscore.update
_volume_imbalance = volume_imbalance.update
_realized_volatility = realized_volatility.update
_range_position = range_position.update

#: Positions in the row of readings; an indicator with several outputs fills the following ones too.
RSI = 0
MACD, MACD_SIGNAL, MACD_HISTOGRAM = 1, 2, 3
BOLLINGER_UPPER, BOLLINGER_MIDDLE, BOLLINGER_LOWER = 4, 5, 6
STOCHASTIC_K, STOCHASTIC_D = 7, 8
VOLATILITY = 9
ATR = 10
ADX, PLUS_DI, MINUS_DI = 11, 12, 13
CCI = 14
MFI = 15
OBV_SLOPE = 16
VWAP_DISTANCE_SHORT, VWAP_DISTANCE_LONG = 17, 18
EMA = 19
VOLUME_ZSCORE_SHORT, VOLUME_MEAN_SHORT = 20, 21
VOLUME_ZSCORE_LONG, VOLUME_MEAN_LONG = 22, 23
VOLUME_IMBALANCE = 24
SIGMA_SHORT, SIGMA_MIDDLE, SIGMA_LONG = 25, 26, 27
RANGE_POSITION = 28
READING_COUNT = 29


@compiled
def read_classic(
    state: Float64, layout: Layout, periods: Periods, candle: Float64, readings: Float64
) -> None:
    """Move RSI, MACD, Bollinger bands and stochastic by one candle."""
    _rsi(state[layout.rsi : layout.macd], candle, readings[RSI:], periods.rsi)
    _macd(
        state[layout.macd : layout.bollinger],
        candle,
        readings[MACD:],
        periods.macd_fast,
        periods.macd_slow,
        periods.macd_signal,
    )
    _bollinger(
        state[layout.bollinger : layout.stochastic],
        candle,
        readings[BOLLINGER_UPPER:],
        periods.bollinger,
        periods.bollinger_deviations,
    )
    _stochastic(
        state[layout.stochastic : layout.volatility],
        candle,
        readings[STOCHASTIC_K:],
        periods.stochastic_k,
        periods.stochastic_d,
    )


@compiled
def read_others(state: Float64, layout: Layout, periods: Periods, candle: Float64, readings: Float64) -> None:
    """Move all further indicators by one candle."""
    _volatility(state[layout.volatility : layout.atr], candle, readings[VOLATILITY:], periods.volatility)
    _atr(state[layout.atr : layout.adx], candle, readings[ATR:], ATR_PERIOD)
    _adx(state[layout.adx : layout.cci], candle, readings[ADX:], ADX_PERIOD)
    _cci(state[layout.cci : layout.mfi], candle, readings[CCI:], CCI_PERIOD)
    _mfi(state[layout.mfi : layout.obv_slope], candle, readings[MFI:], MFI_PERIOD)
    _obv_slope(state[layout.obv_slope : layout.vwap_short], candle, readings[OBV_SLOPE:], OBV_PERIOD)
    _vwap_distance(
        state[layout.vwap_short : layout.vwap_long], candle, readings[VWAP_DISTANCE_SHORT:], VWAP_SHORT
    )
    _vwap_distance(state[layout.vwap_long : layout.ema], candle, readings[VWAP_DISTANCE_LONG:], VWAP_LONG)
    _ema(state[layout.ema : layout.volume_short], candle, readings[EMA:], EMA_PERIOD)
    _volume_zscore(
        state[layout.volume_short : layout.volume_long], candle, readings[VOLUME_ZSCORE_SHORT:], VOLUME_SHORT
    )
    _volume_zscore(
        state[layout.volume_long : layout.imbalance], candle, readings[VOLUME_ZSCORE_LONG:], VOLUME_LONG
    )
    _volume_imbalance(
        state[layout.imbalance : layout.sigma], candle, readings[VOLUME_IMBALANCE:], IMBALANCE_PERIOD
    )
    _realized_volatility(
        state[layout.sigma : layout.range_position],
        candle,
        readings[SIGMA_SHORT:],
        VOLATILITY_SHORT,
        VOLATILITY_MIDDLE,
        VOLATILITY_LONG,
    )
    _range_position(
        state[layout.range_position : layout.returns], candle, readings[RANGE_POSITION:], RANGE_PERIOD
    )
