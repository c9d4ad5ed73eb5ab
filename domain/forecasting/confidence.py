"""How sure a forecast may be: the share of its like that came true, drawn towards what is usual.

`confidence = 100 * (hits + prior * weight) / (scored + weight)`, over the forecasts of the same symbol,
horizon and regime whose outcome was known when this one was made. Outcomes of neighbouring minutes overlap,
so `horizon` of them carry about as much news as one; weight and memory therefore count in horizons. When
`MEMORY_HORIZONS` of them are reached both counts are halved, and older outcomes fade.

What counts as a hit: for volatility, an outcome within a quarter of the stated value; for trend, one of the
stated sign; for the no-change price forecast, a close that is the same to the last digit.
"""

from __future__ import annotations

import numpy as np

from domain.forecasting.volatility import nearest_horizon
from schemas.frames import Float64, Int64

#: An outcome within this share of the stated volatility is a hit.
VOLATILITY_TOLERANCE = 0.25
PRIOR_HORIZONS = 20
MEMORY_HORIZONS = 1000
#: Usual shares of hits, by fitted horizon where they differ.
VOLATILITY_PRIOR = {5: 0.40, 15: 0.56, 30: 0.61, 60: 0.63, 240: 0.62, 1440: 0.60}
TREND_PRIOR = 0.52
NO_CHANGE_PRIOR = 0.002


class HitRates:
    """Turns counts into confidences, one column a horizon."""

    def __init__(self, horizons: tuple[int, ...]) -> None:
        minutes = np.array(horizons, np.float64)
        self._weight = PRIOR_HORIZONS * minutes
        self.cap: Int64 = (MEMORY_HORIZONS * minutes).astype(np.int64)
        self._priors = {
            "volatility": np.array([VOLATILITY_PRIOR[nearest_horizon(h)] for h in horizons]),
            "trend": np.full(len(horizons), TREND_PRIOR),
            "price_direction": np.full(len(horizons), NO_CHANGE_PRIOR),
        }

    def confidence(self, forecast_type: str, hits: Int64, scored: Int64) -> Float64:
        """Give the confidence, 0 to 100, for counts of shape (rows, horizons)."""
        prior = self._priors[forecast_type] * self._weight
        share: Float64 = (hits + prior) / (scored + self._weight)
        return 100.0 * share
