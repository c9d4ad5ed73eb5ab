"""How much the next minutes will move: a heterogeneous autoregression on the logarithm of volatility.

After Corsi (2009): the logarithm of the volatility to come is a weighted mean of the logarithms of what was
seen over 5, 15, 30, 60, 240 and 1,440 minutes, plus a constant that puts the stated value where most
outcomes lie within a quarter of it. The weights sum to 1, so that the rule has no unit. They were fitted
once, by least squares, on three months of recorded one-minute candles of four exchanges' markets, and hold
within a quarter in 37-43% (5 minutes) to 55-70% (60 minutes) of the minutes of other years.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from schemas.frames import Float64

#: The windows whose volatility goes in, in minutes.
COMPONENT_MINUTES = (5, 15, 30, 60, 240, 1440)
# horizon: constant, then one weight per component
_COEFFICIENTS: dict[int, tuple[float, tuple[float, ...]]] = {
    5: (-0.10, (0.09, 0.22, 0.19, 0.20, 0.14, 0.16)),
    15: (-0.11, (0.07, 0.17, 0.16, 0.22, 0.15, 0.23)),
    30: (-0.10, (0.05, 0.15, 0.15, 0.22, 0.16, 0.27)),
    60: (-0.08, (0.04, 0.12, 0.15, 0.17, 0.18, 0.34)),
    240: (-0.05, (0.02, 0.07, 0.08, 0.15, 0.17, 0.51)),
    1440: (0.02, (0.00, 0.03, 0.04, 0.06, 0.13, 0.74)),
}
#: Below this a market stands still: the logarithm needs a floor.
FLOOR_PCT = 1e-6


def nearest_horizon(horizon_minutes: int) -> int:
    """Pick the fitted horizon whose coefficients serve `horizon_minutes`: the nearest in ratio."""
    return min(COMPONENT_MINUTES, key=lambda fitted: abs(math.log(fitted / horizon_minutes)))


class VolatilityRule:
    """The rule for some horizons."""

    def __init__(self, horizons: tuple[int, ...]) -> None:
        chosen = [_COEFFICIENTS[nearest_horizon(h)] for h in horizons]
        self._constants = np.array([constant for constant, _ in chosen])
        self._weights = np.array([weights for _, weights in chosen])

    def predict(self, components_pct: Float64) -> Float64:
        """State the volatility over each horizon, in percent.

        Parameters
        ----------
        components_pct
            Shape (rows, components). An unknown one (NaN) is replaced by the next shorter known one, or
            where there is none by the next longer; a row with none gives NaN.
        """
        out = np.empty((len(components_pct), len(self._constants)))
        _predict(np.ascontiguousarray(components_pct), self._constants, self._weights, out)
        return out


def _predict_rule(components: Float64, constants: Float64, weights: Float64, out: Float64) -> None:
    n = components.shape[1]
    logs = np.empty(n)
    for i in range(components.shape[0]):
        last = np.nan
        for k in range(n):
            value = components[i, k]
            if not math.isnan(value):
                last = math.log(max(value, FLOOR_PCT))
            logs[k] = last
        for k in range(n - 2, -1, -1):
            if math.isnan(logs[k]):
                logs[k] = logs[k + 1]
        for j in range(len(constants)):
            total = constants[j]
            for k in range(n):
                total += weights[j, k] * logs[k]
            out[i, j] = math.exp(total)


_predict = njit(cache=True)(_predict_rule)
