"""Are the rows complete? The share of expected minutes that have a row with warm indicators."""

from __future__ import annotations

from typing import Literal

from domain.quality.check import Judgement, Limits
from domain.quality.grid import QualityGrid


class Completeness:
    """Warns when too few rows are complete; counts from a symbol's first complete row on."""

    level: Literal["warning", "error"] = "warning"
    message = "Too few rows are complete."

    def __init__(self, *, limit: float, window_minutes: int) -> None:
        self.limit = limit
        self._window = window_minutes

    def judge(self, grid: QualityGrid) -> Judgement:
        """Measure complete rows / expected minutes over the window, once half a window is expected."""
        value = grid.share(
            grid.complete, grid.expected_complete, window_minutes=self._window, at_least=self._window // 2
        )
        return Judgement(value, value < self.limit)


def build(limits: Limits) -> Completeness:
    """Build the check."""
    return Completeness(limit=limits.completeness_threshold, window_minutes=limits.window_minutes)
