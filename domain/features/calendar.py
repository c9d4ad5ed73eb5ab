"""Calendar: time of day and of week as points on a circle, so that midnight is next to midnight."""

from __future__ import annotations

import math

from domain.features.feature import Feature
from domain.indicators.base.compiled import compiled
from schemas.frames import Float64

DAY_MINUTES = 1_440
WEEK_MINUTES = 10_080
_THURSDAY = 3 * DAY_MINUTES  # 1970 began on one; weeks begin on Monday

FEATURES = tuple(
    Feature(
        name=f"{name}_{function}",
        unit="coordinate, -1 to 1",
        formula=f"{function[:3]}(2π·minutes since {since} UTC/{minutes}) of the candle's open time",
        source="definition",
        warm_up=1,
    )
    for name, since, minutes in (("day", "midnight", DAY_MINUTES), ("week", "Monday", WEEK_MINUTES))
    for function in ("sine", "cosine")
)


@compiled
def update(minute: int, out: Float64) -> None:
    """Place a minute, counted since 1970."""
    day = 2.0 * math.pi * (minute % DAY_MINUTES) / DAY_MINUTES
    week = 2.0 * math.pi * ((minute + _THURSDAY) % WEEK_MINUTES) / WEEK_MINUTES
    out[0] = math.sin(day)
    out[1] = math.cos(day)
    out[2] = math.sin(week)
    out[3] = math.cos(week)
