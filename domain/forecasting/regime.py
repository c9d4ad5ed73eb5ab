"""Which kind of market a minute is in: trending, ranging or volatile.

The rule looks only back:

1. volatile, if the last hour's volatility is more than `VOLATILE_RATIO` times the last day's (or, until
   there is a day, that of the last four hours; until there are those, nothing is called volatile);
2. else trending, if the last hour's efficiency is more than `TRENDING_EFFICIENCY`, which a random walk of
   60 steps exceeds in about one case of eight;
3. else ranging.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.frames import Int8

#: Float32 or float64.
Numbers = NDArray[np.floating[Any]]

REGIMES = ("trending", "ranging", "volatile")
TRENDING, RANGING, VOLATILE = 0, 1, 2
VOLATILE_RATIO = 1.5
TRENDING_EFFICIENCY = 0.2


def classify(
    *,
    hour_volatility_pct: Numbers,
    four_hour_volatility_pct: Numbers,
    day_volatility_pct: Numbers,
    efficiency: Numbers,
    allowed: tuple[str, ...] = REGIMES,
) -> Int8:
    """Name the regime of each minute, as positions in `REGIMES`.

    Parameters
    ----------
    hour_volatility_pct, four_hour_volatility_pct, day_volatility_pct
        Standard deviation of one-minute log returns over the window that ends with the minute; NaN: unknown.
    efficiency
        Over the last hour, in 0..1; NaN: unknown.
    allowed
        Regimes that may be named; `ranging` always may.
    """
    usual = np.where(np.isnan(day_volatility_pct), four_hour_volatility_pct, day_volatility_pct)
    regime = np.full(len(efficiency), RANGING, np.int8)
    if "trending" in allowed:
        regime[efficiency > TRENDING_EFFICIENCY] = TRENDING
    if "volatile" in allowed:
        regime[hour_volatility_pct > VOLATILE_RATIO * usual] = VOLATILE
    return regime
