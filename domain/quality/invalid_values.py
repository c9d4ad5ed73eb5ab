"""Are there values that cannot be? The share of rows with such values."""

from __future__ import annotations

from typing import Literal

import numpy as np

from domain.quality.check import Judgement, Limits
from domain.quality.grid import QualityGrid
from schemas.frames import Bool, FeatureFrame


class InvalidValues:
    """Alarms when too many rows hold values that cannot be."""

    level: Literal["warning", "error"] = "error"
    message = "Too many rows hold values that cannot be."

    def __init__(self, *, limit: float, window_minutes: int) -> None:
        self.limit = limit
        self._window = window_minutes

    def judge(self, grid: QualityGrid) -> Judgement:
        """Measure invalid rows / rows over the window."""
        value = grid.share(grid.invalid, grid.present, window_minutes=self._window, at_least=1)
        return Judgement(value, value > self.limit)


def build(limits: Limits) -> InvalidValues:
    """Build the check."""
    return InvalidValues(limit=limits.invalid_values, window_minutes=limits.window_minutes)


def invalid_rows(frame: FeatureFrame) -> Bool:
    """Mark the rows whose candle contradicts itself or whose vector is infinite somewhere.

    NaN in a vector is no fault: it means "not warm".
    """
    open_, high, low, close, volume = frame.ohlcv.T
    sane = np.isfinite(frame.ohlcv).all(axis=1) & (low > 0.0) & (volume >= 0.0)
    sane &= (high >= np.maximum(open_, close)) & (low <= np.minimum(open_, close))
    invalid: Bool = ~sane | np.isinf(frame.vector).any(axis=1)
    return invalid
