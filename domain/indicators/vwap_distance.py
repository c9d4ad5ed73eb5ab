"""VWAP distance: how far the close is from the mean price paid in a window."""

from __future__ import annotations

import math

from domain.indicators.base.compiled import compiled
from domain.indicators.base.spec import CLOSE, HIGH, LOW, VOLUME, IndicatorSpec
from domain.indicators.base.window import push, total
from schemas.frames import Float64

SPEC = IndicatorSpec(
    title="Distance from the volume-weighted average price",
    outputs=("vwap_distance",),
    parameters={"period": 60},
    state_size=lambda period: 1 + 2 * period,
    warm_up=lambda period: period,
    unit="percent of the VWAP",
    formula="100·(close/V - 1), with V = Σ p·volume / Σ volume over n candles and p = (high + low + "
    "close)/3; 0 where nothing was traded",
    source="definition over a moving window",
    differs="pandas-ta vwap starts anew every day; over a window it is sum(p·v, n)/sum(v, n).",
)

# state: candles seen, the newest p·volume, the newest volumes


@compiled
def update(state: Float64, candle: Float64, out: Float64, period: int) -> None:
    """Take in one candle; `out` is the distance."""
    state[0] += 1.0
    paid = state[1 : 1 + period]
    volumes = state[1 + period : 1 + 2 * period]
    price = (candle[HIGH] + candle[LOW] + candle[CLOSE]) / 3.0
    push(paid, price * candle[VOLUME])
    push(volumes, candle[VOLUME])
    if state[0] < period:
        out[0] = math.nan
        return
    money = total(paid)
    out[0] = 100.0 * (candle[CLOSE] * total(volumes) / money - 1.0) if money > 0.0 else 0.0
