"""ADX: how strongly the price trends, and which way."""

from __future__ import annotations

import math

from domain.indicators.base.compiled import compiled
from domain.indicators.base.spec import CLOSE, HIGH, LOW, IndicatorSpec
from schemas.frames import Float64

SPEC = IndicatorSpec(
    title="Average directional index",
    outputs=("adx", "plus_di", "minus_di"),
    parameters={"period": 14},
    state_size=lambda period: 8,
    warm_up=lambda period: 2 * period,
    unit="points, 0 to 100",
    formula="±DI = 100·S(±DM)/S(TR), DX = 100·|+DI - -DI|/(+DI + -DI), ADX = Wilder's average of DX. +DM "
    "is the rise of the high where it is positive and larger than the fall of the low, -DM the reverse; "
    "S ← S - S/n + x starts as the sum of n - 1; 0, and DX left out, where nothing moved",
    source="J. Welles Wilder, New Concepts in Technical Trading Systems (1978)",
    differs="TA-Lib ADX, PLUS_DI and MINUS_DI are the same. pandas-ta seeds otherwise and agrees only "
    "after some 400 candles.",
)

# state: candles seen, previous high, low and close, S(+DM), S(-DM), S(TR), ADX (the sum of DX while seeding)
_NOISE = 1e-14  # of the close: less than the rounding of a price is no movement


@compiled
def update(state: Float64, candle: Float64, out: Float64, period: int) -> None:
    """Take in one candle; `out` is ADX, +DI and -DI."""
    rise = candle[HIGH] - state[1]
    fall = state[2] - candle[LOW]
    reach = max(candle[HIGH], state[3]) - min(candle[LOW], state[3])
    state[0] += 1.0
    state[1] = candle[HIGH]
    state[2] = candle[LOW]
    state[3] = candle[CLOSE]
    seen = state[0]
    out[0] = math.nan
    out[1] = math.nan
    out[2] = math.nan
    if seen == 1.0:
        return
    plus = rise if rise > 0.0 and rise > fall else 0.0
    minus = fall if fall > 0.0 and fall > rise else 0.0
    if seen > period:
        state[4] -= state[4] / period
        state[5] -= state[5] / period
        state[6] -= state[6] / period
    state[4] += plus
    state[5] += minus
    state[6] += reach
    if seen <= period:
        return
    noise = _NOISE * candle[CLOSE]
    plus_di = 0.0
    minus_di = 0.0
    if state[6] > noise:
        plus_di = 100.0 * state[4] / state[6]
        minus_di = 100.0 * state[5] / state[6]
    both = plus_di + minus_di
    moved = state[4] + state[5] > noise
    dx = 100.0 * abs(plus_di - minus_di) / both if moved and both > 0.0 else 0.0
    if seen <= 2 * period:
        state[7] += dx
        if seen < 2 * period:
            return
        state[7] /= period
    elif moved:
        state[7] = (state[7] * (period - 1) + dx) / period
    out[0] = state[7]
    out[1] = plus_di
    out[2] = minus_di
