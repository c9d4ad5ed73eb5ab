"""The lengths of all windows and averages, in the form in which the compiled rules take them."""

from __future__ import annotations

import math
from typing import NamedTuple

from domain.features.errors import FeatureSettingsError

#: What is left of the influence of an exponential average's start when a feature made from it is first shown.
SETTLED = 1e-6

ATR_PERIOD = 14
ADX_PERIOD = 14
CCI_PERIOD = 20
MFI_PERIOD = 14
OBV_PERIOD = 20
EMA_PERIOD = 21
VWAP_SHORT, VWAP_LONG = 15, 60
VOLUME_SHORT, VOLUME_LONG = 20, 60
IMBALANCE_PERIOD = 20
RANGE_PERIOD = 60
VOLATILITY_SHORT, VOLATILITY_MIDDLE, VOLATILITY_LONG = 5, 15, 60


class Periods(NamedTuple):
    """Settings of the indicators, and the candles after which each exponential average has settled."""

    rsi: int = 14
    macd_fast: int = 12
    macd_slow: int = 26
    macd_signal: int = 9
    bollinger: int = 20
    bollinger_deviations: float = 2.0
    stochastic_k: int = 14
    stochastic_d: int = 3
    volatility: int = 5
    rsi_settled: int = 0
    macd_settled: int = 0
    atr_settled: int = 0
    adx_settled: int = 0
    ema_settled: int = 0


def settling_candles(decay: float, stages: int = 1) -> int:
    """Count the candles after which no more than `SETTLED` of the start is left in an exponential average.

    Parameters
    ----------
    decay
        What one candle leaves of the past: `1 - 1/n` for Wilder's averages, `1 - 2/(n + 1)` for EMAs.
    stages
        How many averages stand behind one another.
    """
    candles = 1
    while (1 + candles * (1 - decay)) ** (stages - 1) * decay**candles > SETTLED:
        candles += 1
    return candles


def make_periods(
    *,
    rsi_period: int = 14,
    macd_fast: int = 12,
    macd_slow: int = 26,
    macd_signal: int = 9,
    bollinger_period: int = 20,
    bollinger_std_dev: float = 2.0,
    stochastic_k: int = 14,
    stochastic_d: int = 3,
    volatility_window: int = 5,
) -> Periods:
    """Check the settings and add what follows from them.

    Raises
    ------
    FeatureSettingsError
        Naming every setting that cannot be.
    """
    at_least = {
        "rsi_period": (rsi_period, 2),
        "macd_fast": (macd_fast, 2),
        "macd_slow": (macd_slow, 3),
        "macd_signal": (macd_signal, 1),
        "bollinger_period": (bollinger_period, 2),
        "stochastic_k": (stochastic_k, 1),
        "stochastic_d": (stochastic_d, 1),
        "volatility_window": (volatility_window, 2),
    }
    mistakes = [
        f"{name} is {value}, but must be a whole number from {low} to 1000"
        for name, (value, low) in at_least.items()
        if int(value) != value or not low <= value <= 1000
    ]
    if not (math.isfinite(bollinger_std_dev) and bollinger_std_dev > 0):
        mistakes.append(f"bollinger_std_dev is {bollinger_std_dev}, but must be above 0")
    if macd_fast >= macd_slow:
        mistakes.append(f"macd_fast ({macd_fast}) must be below macd_slow ({macd_slow})")
    if mistakes:
        raise FeatureSettingsError("; ".join(mistakes))
    slow_decay = 1 - 2 / (macd_slow + 1)
    signal_decay = 1 - 2 / (macd_signal + 1)
    return Periods(
        rsi=int(rsi_period),
        macd_fast=int(macd_fast),
        macd_slow=int(macd_slow),
        macd_signal=int(macd_signal),
        bollinger=int(bollinger_period),
        bollinger_deviations=float(bollinger_std_dev),
        stochastic_k=int(stochastic_k),
        stochastic_d=int(stochastic_d),
        volatility=int(volatility_window),
        rsi_settled=rsi_period + 1 + settling_candles(1 - 1 / rsi_period),
        macd_settled=macd_slow + macd_signal - 1 + settling_candles(max(slow_decay, signal_decay), 2),
        atr_settled=ATR_PERIOD + 1 + settling_candles(1 - 1 / ATR_PERIOD),
        adx_settled=2 * ADX_PERIOD + settling_candles(1 - 1 / ADX_PERIOD, 2),
        ema_settled=EMA_PERIOD + settling_candles(1 - 2 / (EMA_PERIOD + 1)),
    )


#: As the settings stand if nobody changes them.
DEFAULT_PERIODS = make_periods()
