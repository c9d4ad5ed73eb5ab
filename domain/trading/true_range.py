"""How far one-minute candles reach: the average true range, in percent of the previous close."""

from __future__ import annotations

from dataclasses import dataclass

#: Wilder's smoothing, and how many candles must be in before there is a value.
PERIOD = 14


@dataclass(slots=True)
class AverageTrueRange:
    """The running average of one symbol.

    Attributes
    ----------
    percent
        The average so far; the plain mean until `PERIOD` candles are in, Wilder's smoothing after.
    seen
        Candles in, at most `PERIOD`.
    previous_close
        Close of the last candle, 0 before the first.
    """

    percent: float = 0.0
    seen: int = 0
    previous_close: float = 0.0

    @property
    def is_warm(self) -> bool:
        """Whether enough candles are in."""
        return self.seen >= PERIOD

    def update(self, high: float, low: float, close: float) -> None:
        """Take in a closed candle."""
        before = self.previous_close
        self.previous_close = close
        if before <= 0.0:
            return
        reach = 100.0 * (max(high, before) - min(low, before)) / before
        self.seen = min(self.seen + 1, PERIOD)
        self.percent += (reach - self.percent) / self.seen
