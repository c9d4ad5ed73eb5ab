"""Realised volatility: how far log returns scatter, over three windows at once."""

from __future__ import annotations

import math

from domain.indicators.base.compiled import compiled
from domain.indicators.base.spec import CLOSE, IndicatorSpec
from domain.indicators.base.window import push, sample_deviation
from schemas.frames import Float64

SPEC = IndicatorSpec(
    title="Realised volatility",
    outputs=("realized_volatility_short", "realized_volatility_middle", "realized_volatility_long"),
    parameters={"short": 5, "middle": 15, "long": 60},
    state_size=lambda short, middle, long: 2 + long,
    warm_up=lambda short, middle, long: long + 1,
    unit="percent of the price per minute",
    formula="100 · sample standard deviation (n - 1) of ln(close/previous close) over n returns",
    source="definition",
    differs="pandas `log(close).diff().rolling(n).std()` is the same.",
)

# state: candles seen, previous close, the newest returns in percent


@compiled
def update(state: Float64, candle: Float64, out: Float64, short: int, middle: int, long: int) -> None:
    """Take in one candle; `out` is the volatility over the three windows, the longest last."""
    previous = state[1]
    state[0] += 1.0
    state[1] = candle[CLOSE]
    out[0] = math.nan
    out[1] = math.nan
    out[2] = math.nan
    if state[0] == 1.0:
        return
    returns = state[2 : 2 + long]
    push(returns, 100.0 * math.log(candle[CLOSE] / previous))
    if state[0] > long:
        out[0] = sample_deviation(returns[long - short :])
        out[1] = sample_deviation(returns[long - middle :])
        out[2] = sample_deviation(returns)
