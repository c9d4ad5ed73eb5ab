"""Momentum: RSI, MACD, Bollinger bands, stochastic, CCI and MFI free of scale, and how they change."""

from __future__ import annotations

import math

from domain.features.feature import Feature
from domain.features.lag import LAG_SIZE, SLOPE_CANDLES, change
from domain.features.periods import CCI_PERIOD, DEFAULT_PERIODS, MFI_PERIOD, Periods
from domain.indicators.base.compiled import compiled
from domain.indicators.base.spec import CLOSE
from schemas.frames import Float64

_D = DEFAULT_PERIODS
_WILDER = "J. Welles Wilder (1978)"
_APPEL = "Gerald Appel (1979)"
_BOLLINGER = "John Bollinger (2001)"
_LANE = "George C. Lane (1984)"
_STOCHASTIC = _D.stochastic_k + _D.stochastic_d - 1


def _slope(of: str, unit: str, warm_up: int, source: str) -> Feature:
    return Feature(
        name=f"{of}_slope",
        unit=unit,
        formula=f"{of} now less {of} {SLOPE_CANDLES} candles earlier",
        source=source,
        warm_up=warm_up + SLOPE_CANDLES,
    )


FEATURES = (
    Feature(
        name="rsi",
        unit="points, 0 to 100",
        formula="RSI(14), shown once its start is forgotten",
        source=_WILDER,
        warm_up=_D.rsi_settled,
    ),
    _slope("rsi", "points", _D.rsi_settled, _WILDER),
    Feature(
        name="macd",
        unit="percent of the close",
        formula="100·MACD(12, 26)/close, shown once its start is forgotten",
        source=_APPEL,
        warm_up=_D.macd_settled,
    ),
    Feature(
        name="macd_histogram",
        unit="percent of the close",
        formula="100·(MACD - signal(9))/close, shown once its start is forgotten",
        source=_APPEL,
        warm_up=_D.macd_settled,
    ),
    _slope("macd_histogram", "percent of the close", _D.macd_settled, _APPEL),
    Feature(
        name="bollinger_percent_b",
        unit="share of the channel; 0 at the lower, 1 at the upper band",
        formula="(close - lower)/(upper - lower) of the bands (20, 2); 0.5 where they are equal",
        source=_BOLLINGER,
        warm_up=_D.bollinger,
    ),
    Feature(
        name="bollinger_bandwidth",
        unit="percent of the mean close",
        formula="100·(upper - lower)/middle of the bands (20, 2)",
        source=_BOLLINGER,
        warm_up=_D.bollinger,
    ),
    Feature(
        name="stochastic_k",
        unit="points, 0 to 100",
        formula="%K(14) of the stochastic oscillator",
        source=_LANE,
        warm_up=_STOCHASTIC,
    ),
    Feature(
        name="stochastic_d",
        unit="points, 0 to 100",
        formula="mean of %K over 3 candles",
        source=_LANE,
        warm_up=_STOCHASTIC,
    ),
    _slope("stochastic_d", "points", _STOCHASTIC, _LANE),
    Feature(
        name="cci",
        unit="points, mostly -200 to 200",
        formula="CCI(20)",
        source="Donald R. Lambert (1980)",
        warm_up=CCI_PERIOD,
    ),
    _slope("cci", "points", CCI_PERIOD, "Donald R. Lambert (1980)"),
    Feature(
        name="mfi",
        unit="points, 0 to 100",
        formula="MFI(14)",
        source="Gene Quong and Avrum Soudack (1989)",
        warm_up=MFI_PERIOD + 1,
    ),
    _slope("mfi", "points", MFI_PERIOD + 1, "Gene Quong and Avrum Soudack (1989)"),
)

MOMENTUM_STATE = 5 * LAG_SIZE


@compiled
def update(
    state: Float64,
    periods: Periods,
    classic: Float64,
    cci: float,
    mfi: float,
    candle: Float64,
    candles: int,
    out: Float64,
) -> None:
    """Take in what the indicators say; `classic` is the first nine readings."""
    close = candle[CLOSE]
    rsi = classic[0] if candles >= periods.rsi_settled else math.nan
    settled = candles >= periods.macd_settled
    histogram = 100.0 * classic[3] / close if settled else math.nan
    upper = classic[4]
    lower = classic[6]
    width = upper - lower
    out[0] = rsi
    out[1] = change(state[0:LAG_SIZE], rsi, candles)
    out[2] = 100.0 * classic[1] / close if settled else math.nan
    out[3] = histogram
    out[4] = change(state[LAG_SIZE : 2 * LAG_SIZE], histogram, candles)
    # Not `width > 0`: a NaN must stay one.
    out[5] = 0.5 if width == 0.0 else (close - lower) / width
    out[6] = 100.0 * width / classic[5]
    out[7] = classic[7]
    out[8] = classic[8]
    out[9] = change(state[2 * LAG_SIZE : 3 * LAG_SIZE], classic[8], candles)
    out[10] = cci
    out[11] = change(state[3 * LAG_SIZE : 4 * LAG_SIZE], cci, candles)
    out[12] = mfi
    out[13] = change(state[4 * LAG_SIZE : 5 * LAG_SIZE], mfi, candles)
