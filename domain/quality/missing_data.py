"""Are minutes missing? The share of expected minutes without a candle."""

from __future__ import annotations

from typing import Literal

from domain.quality.check import Judgement, Limits
from domain.quality.grid import QualityGrid


class MissingData:
    """Alarms when too many minutes are absent for good."""

    level: Literal["warning", "error"] = "error"
    message = "Too many minutes are missing."

    def __init__(self, *, limit: float, window_minutes: int) -> None:
        self.limit = limit
        self._window = window_minutes

    def judge(self, grid: QualityGrid) -> Judgement:
        """Measure absent / expected minutes over the window, once half a window is expected."""
        value = grid.share(
            ~grid.present, grid.expected, window_minutes=self._window, at_least=self._window // 2
        )
        return Judgement(value, value > self.limit)


def build(limits: Limits) -> MissingData:
    """Build the check."""
    return MissingData(limit=limits.missing_data, window_minutes=limits.window_minutes)
