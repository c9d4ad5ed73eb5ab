"""What the checks look at: some minutes of all symbols, as tables of minute by symbol."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.frames import Bool, Float64, Int64

NEVER = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityGrid:
    """Consecutive minutes; the first `lookback` of them were judged before.

    All tables have the shape (minutes, symbols).

    Attributes
    ----------
    minute
        One entry a minute, ascending by 1.
    lookback
        How many minutes at the beginning only serve as context.
    expected
        The symbol has had its first candle.
    expected_complete
        The symbol has had its first candle with all indicators warm.
    present, complete, invalid
        There is a candle; its indicators are warm; it holds values that cannot be.
    last_present, last_change
        The last minute up to this one with a candle, and with one that shows the feed to be alive (another
        close than before, or synthetic: known to be quiet); `NEVER` before the first.
    """

    minute: Int64
    lookback: int
    expected: Bool
    expected_complete: Bool
    present: Bool
    complete: Bool
    invalid: Bool
    last_present: Int64
    last_change: Int64

    def share(self, part: Bool, whole: Bool, *, window_minutes: int, at_least: int) -> Float64:
        """Give part / whole over the window that ends with each judged minute.

        NaN where the whole has fewer than `at_least` minutes.
        """
        parts = self._count(part & whole, window_minutes)
        wholes = self._count(whole, window_minutes)
        enough = wholes >= max(at_least, 1)
        return np.where(enough, parts / np.maximum(wholes, 1), np.nan)

    def _count(self, flags: Bool, window_minutes: int) -> Int64:
        total = np.concatenate([np.zeros((1, flags.shape[1]), np.int64), np.cumsum(flags, axis=0)])
        ends = np.arange(self.lookback, len(self.minute)) + 1
        counted: Int64 = total[ends] - total[np.maximum(ends - window_minutes, 0)]
        return counted
