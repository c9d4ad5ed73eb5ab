"""Does the price stand still although trades are reported? Then a feed repeats itself."""

from __future__ import annotations

from typing import Literal

import numpy as np

from domain.quality.check import Judgement, Limits
from domain.quality.grid import NEVER, QualityGrid


class FrozenPrice:
    """Warns when a traded close has not moved for too many minutes; a known quiet minute does not count."""

    level: Literal["warning", "error"] = "warning"
    message = "The traded price has not moved for too long."

    def __init__(self, *, limit: float) -> None:
        self.limit = limit

    def judge(self, grid: QualityGrid) -> Judgement:
        """Measure the minutes from the last change to the last candle."""
        changed, present = grid.last_change[grid.lookback :], grid.last_present[grid.lookback :]
        value = np.where(changed == NEVER, np.nan, present - changed)
        return Judgement(value, value >= self.limit)


def build(limits: Limits) -> FrozenPrice:
    """Build the check."""
    return FrozenPrice(limit=limits.frozen_minutes)
