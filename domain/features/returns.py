"""Returns: how far the close has come, over spans from one candle to four hours."""

from __future__ import annotations

import math

from domain.features.feature import Feature
from domain.indicators.base.compiled import compiled
from domain.indicators.base.spec import CLOSE
from schemas.frames import Float64

SPANS = (1, 3, 5, 10, 15, 30, 60, 120, 240)
FEATURES = tuple(
    Feature(
        name=f"return_{span}",
        unit="percent",
        formula=f"100·ln(close/close {span} candle{'s' if span > 1 else ''} earlier)",
        source="log return",
        warm_up=span + 1,
    )
    for span in SPANS
)

RING = 256  # a power of two above the longest span
RETURNS_STATE = RING


@compiled
def update(state: Float64, candle: Float64, candles: int, out: Float64) -> None:
    """Take in one candle, the `candles`-th since the state was fresh."""
    position = candles & (RING - 1)
    now = math.log(candle[CLOSE])
    state[position] = now
    for i in range(len(SPANS)):
        if candles > SPANS[i]:
            out[i] = 100.0 * (now - state[(position - SPANS[i]) & (RING - 1)])
        else:
            out[i] = math.nan
