"""Has a symbol stopped? Seconds of event time since its last candle while others went on."""

from __future__ import annotations

from typing import Literal

import numpy as np

from domain.quality.check import Judgement, Limits
from domain.quality.grid import NEVER, QualityGrid


class Staleness:
    """Alarms when a symbol has had no candle for too long."""

    level: Literal["warning", "error"] = "error"
    message = "No candle for too long."

    def __init__(self, *, limit: float) -> None:
        self.limit = limit

    def judge(self, grid: QualityGrid) -> Judgement:
        """Measure the seconds since the last candle."""
        last = grid.last_present[grid.lookback :]
        silent_s = 60.0 * (grid.minute[grid.lookback :, None] - last)
        value = np.where(last == NEVER, np.nan, silent_s)
        return Judgement(value, value > self.limit)


def build(limits: Limits) -> Staleness:
    """Build the check."""
    return Staleness(limit=limits.stale_data_s)
