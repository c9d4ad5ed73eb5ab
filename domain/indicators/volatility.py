"""Volatility: how far the one-candle returns scatter."""

from __future__ import annotations

import math

from domain.indicators.base.compiled import compiled
from domain.indicators.base.spec import CLOSE, IndicatorSpec
from domain.indicators.base.window import push, sample_deviation
from schemas.frames import Float64

SPEC = IndicatorSpec(
    title="Volatility",
    outputs=("volatility",),
    parameters={"window": 5},
    state_size=lambda window: 2 + window,
    warm_up=lambda window: window + 1,
    unit="share of the price per minute, 0 to 1",
    formula="sample standard deviation (divided by n - 1) of close/previous close - 1 over n returns",
    source="definition; pandas `pct_change().rolling(n).std()`",
)

# state: candles seen, previous close, the newest returns


@compiled
def update(state: Float64, candle: Float64, out: Float64, window: int) -> None:
    """Take in one candle; `out` is the standard deviation of simple returns."""
    previous = state[1]
    state[0] += 1.0
    state[1] = candle[CLOSE]
    out[0] = math.nan
    if state[0] == 1.0:
        return
    returns = state[2 : 2 + window]
    push(returns, candle[CLOSE] / previous - 1.0)
    if state[0] > window:
        out[0] = sample_deviation(returns)
