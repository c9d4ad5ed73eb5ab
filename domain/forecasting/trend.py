"""Which way the next minutes lean: by the regime's share of the slope that was.

On one-minute crypto candles of 2021 to 2023 moves of an hour gave a little back, more after quick ones and
straight ones than in a range; continuation held in none of the regimes. So each regime's rule returns a
small negative share of the slope over the last max(60, horizon) minutes.
"""

from __future__ import annotations

import numpy as np

from domain.forecasting.regime import REGIMES
from schemas.frames import Float64, Int8

#: Share of the past slope that is expected to go on; negative: is given back. By regime.
SHARE = {"trending": -0.04, "ranging": -0.02, "volatile": -0.05}
SHORTEST_LOOKBACK_MINUTES = 60


def lookback_minutes(horizon_minutes: int) -> int:
    """Say over how many past minutes the slope is taken for a horizon."""
    return max(SHORTEST_LOOKBACK_MINUTES, horizon_minutes)


class TrendRule:
    """The rule for some horizons.

    Parameters
    ----------
    horizons
        Minutes ahead.
    windows
        Minutes of the windows whose slopes will be given, ascending; each horizon's lookback is among them.
    """

    def __init__(self, *, horizons: tuple[int, ...], windows: tuple[int, ...]) -> None:
        self._columns = [windows.index(lookback_minutes(h)) for h in horizons]
        self._share = np.array([SHARE[name] for name in REGIMES])

    def predict(self, slopes_pct_per_hour: Float64, regime: Int8) -> Float64:
        """State the slope over each horizon, in percent per hour.

        Parameters
        ----------
        slopes_pct_per_hour
            Shape (rows, windows). An unknown one (NaN) is replaced by that of the next shorter window; where
            there is none, no slope (0) is stated.
        regime
            Positions in `REGIMES`, one a row.
        """
        known = slopes_pct_per_hour.copy()
        for j in range(1, known.shape[1]):
            unknown = np.isnan(known[:, j])
            known[unknown, j] = known[unknown, j - 1]
        past = np.nan_to_num(known[:, self._columns])
        stated: Float64 = past * self._share[regime][:, None]
        return stated + 0.0  # no negative zero
