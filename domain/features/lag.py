"""Change of a value over some candles."""

from __future__ import annotations

import math

from domain.indicators.base.compiled import compiled
from domain.indicators.base.window import push
from schemas.frames import Float64

#: Candles between the two values of every `..._slope` feature.
SLOPE_CANDLES = 5
#: State of one change: the value now and the five before.
LAG_SIZE = SLOPE_CANDLES + 1


@compiled
def change(window: Float64, value: float, candles: int) -> float:
    """Take in a value and tell by how much it differs from the one `SLOPE_CANDLES` earlier."""
    push(window, value)
    if candles <= SLOPE_CANDLES:
        return math.nan
    return float(value - window[0])
