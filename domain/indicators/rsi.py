"""RSI: how much of the recent movement went up."""

from __future__ import annotations

import math

from domain.indicators.base.compiled import compiled
from domain.indicators.base.spec import CLOSE, IndicatorSpec
from schemas.frames import Float64

SPEC = IndicatorSpec(
    title="Relative strength index",
    outputs=("rsi",),
    parameters={"period": 14},
    state_size=lambda period: 4,
    warm_up=lambda period: period + 1,
    unit="points, 0 to 100",
    formula="100·G/(G + L), with G and L Wilder's averages of the rises and falls of the close, "
    "A ← (A·(n-1) + x)/n, seeded with the mean of the first n; 50 where nothing moved",
    source="J. Welles Wilder, New Concepts in Technical Trading Systems (1978)",
    differs="TA-Lib RSI is the same, but 0 where nothing moved. pandas-ta seeds its average with the first "
    "change instead of a mean, so it agrees only after some 300 candles.",
)

# state: candles seen, previous close, G, L
_NOISE = 1e-14  # of the close: less than the rounding of a price is no movement


@compiled
def update(state: Float64, candle: Float64, out: Float64, period: int) -> None:
    """Take in one candle; `out` is the RSI."""
    close = candle[CLOSE]
    change = close - state[1]
    state[0] += 1.0
    state[1] = close
    seen = state[0]
    out[0] = math.nan
    if seen == 1.0:
        return
    rise = max(change, 0.0)
    fall = max(-change, 0.0)
    if seen <= period + 1:
        state[2] += rise
        state[3] += fall
        if seen <= period:
            return
        state[2] /= period
        state[3] /= period
    else:
        state[2] = (state[2] * (period - 1) + rise) / period
        state[3] = (state[3] * (period - 1) + fall) / period
    moved = state[2] + state[3]
    out[0] = 100.0 * state[2] / moved if moved > _NOISE * close else 50.0
