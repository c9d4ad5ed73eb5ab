"""MFI: how much of the traded money came with a rising price."""

from __future__ import annotations

import math

from domain.indicators.base.compiled import compiled
from domain.indicators.base.spec import CLOSE, HIGH, LOW, VOLUME, IndicatorSpec
from domain.indicators.base.window import push, total
from schemas.frames import Float64

SPEC = IndicatorSpec(
    title="Money flow index",
    outputs=("mfi",),
    parameters={"period": 14},
    state_size=lambda period: 2 + 2 * period,
    warm_up=lambda period: period + 1,
    unit="points, 0 to 100",
    formula="100·U/(U + D), with U and D the sums over n candles of p·volume where p = (high + low + "
    "close)/3 rose or fell; 50 where no money moved",
    source="Gene Quong and Avrum Soudack, Technical Analysis of Stocks & Commodities (1989)",
    differs="TA-Lib MFI is the same, but 0 where U + D is below 1. pandas-ta mfi has the same formula.",
)

# state: candles seen, previous typical price, the newest inflows and outflows


@compiled
def update(state: Float64, candle: Float64, out: Float64, period: int) -> None:
    """Take in one candle; `out` is the index."""
    previous = state[1]
    price = (candle[HIGH] + candle[LOW] + candle[CLOSE]) / 3.0
    state[0] += 1.0
    state[1] = price
    out[0] = math.nan
    if state[0] == 1.0:
        return
    money = price * candle[VOLUME]
    inflows = state[2 : 2 + period]
    outflows = state[2 + period : 2 + 2 * period]
    push(inflows, money if price > previous else 0.0)
    push(outflows, money if price < previous else 0.0)
    if state[0] <= period:
        return
    inflow = total(inflows)
    moved = inflow + total(outflows)
    out[0] = 100.0 * inflow / moved if moved > 0.0 else 50.0
