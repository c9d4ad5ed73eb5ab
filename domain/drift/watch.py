"""Watches one score of one model, a value a block of time, and tells once when it has become worse.

The values must be independent of one another: forecasts of neighbouring minutes share most of what they
forecast, so a detector that is fed minute by minute takes one bad hour for sixty bad outcomes. See
`block_minutes` for how the minutes are thinned.
"""

from __future__ import annotations

from math import sqrt
from typing import Literal

import numpy as np

from domain.drift.adwin import Adwin
from domain.drift.page_hinkley import PageHinkley
from schemas.frames import Float64, Int64

Detector = Literal["page_hinkley", "adwin"]
#: Blocks from which the usual spread of the score is learned before anything is judged.
LEARNING_BLOCKS = 12
#: A rise of the mean by less than twice this many standard deviations is not waited for.
TOLERANCE = 0.25
#: One block counts for no more than so many standard deviations.
MOST = 3.0
#: A block is at least this long, and at least so many horizons.
LEAST_BLOCK_MINUTES, BLOCK_HORIZONS = 60, 4
_OWN_FIELDS = 7


def block_minutes(horizon_minutes: int) -> int:
    """Give the length of the blocks for a horizon: four of it, at least an hour.

    A forecast counts if it is made and due inside one block. So no minute of the market is in two blocks, and
    what two blocks say is as independent as the returns of different hours.
    """
    return max(LEAST_BLOCK_MINUTES, BLOCK_HORIZONS * horizon_minutes)


def inside_one_block(minute: Int64, horizon_minutes: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Mark the minutes whose forecast is made and due inside one block."""
    length = block_minutes(horizon_minutes)
    same: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = (
        minute // length == (minute + horizon_minutes) // length
    )
    return same


class Watch:
    """A detector for a score in which higher is worse and 0 is the no-change forecast.

    The values are put into units of their own spread so far. Page-Hinkley is asked two things: whether they
    are higher than the model's own mean before, and whether they are above 0. ADWIN is asked the first only.

    Parameters
    ----------
    detector
        Which one.
    threshold
        Page-Hinkley's, in standard deviations of a block.
    error_rate
        ADWIN's.
    against_no_change
        Whether 0 means something in this score.

    Attributes
    ----------
    drifted
        Stays once it is true.
    """

    def __init__(
        self,
        *,
        detector: Detector = "page_hinkley",
        threshold: float = 16.0,
        error_rate: float = 0.002,
        against_no_change: bool = True,
    ) -> None:
        self._detector = detector
        self._threshold = threshold
        self._against = against_no_change
        self._count = 0
        self._mean = 0.0
        self._squares = 0.0
        self._start = np.array([np.nan, np.nan])
        self.drifted = False
        self.last_block = -1
        self._own = PageHinkley(tolerance=TOLERANCE, threshold=threshold, against=0.0)
        self._level = PageHinkley(tolerance=TOLERANCE, threshold=threshold, against=0.0)
        self._adwin = Adwin(error_rate=error_rate, every=1)

    @property
    def threshold(self) -> float:
        """Give what `statistic` is compared with."""
        return self._threshold if self._detector == "page_hinkley" else MOST

    @property
    def statistic(self) -> float:
        """Tell how much speaks for a change.

        Page-Hinkley's higher sum; of ADWIN, how far the mean of its window lies above that of the first
        blocks, in standard deviations.
        """
        if self._detector == "page_hinkley":
            return max(self._own.statistic, self._level.statistic)
        return 2.0 * MOST * (self._adwin.mean - 0.5) if self._adwin.width else 0.0

    def update(self, value: float) -> bool:
        """Take in the value of a block; True when it is this one that shows the drift."""
        found = False
        if self._count >= LEARNING_BLOCKS and self._squares > 0.0:
            found = self._look(value)
        self._count += 1
        before = self._mean
        self._mean += (value - before) / self._count
        self._squares += (value - before) * (value - self._mean)
        news = found and not self.drifted
        self.drifted = self.drifted or found
        return news

    def _look(self, value: float) -> bool:
        spread = sqrt(self._squares / (self._count - 1))
        if self._detector == "adwin":
            if np.isnan(self._start[0]):
                self._start = np.array([self._mean, spread])
            unit = _limited((value - self._start[0]) / self._start[1])
            return self._adwin.update(0.5 + unit / (2.0 * MOST)) and self._adwin.rose
        apart = (value - self._mean) / spread * sqrt(self._count / (self._count + 1))
        risen = self._own.update(_limited(apart))
        above = self._against and self._level.update(_limited(value / spread))
        return risen or above

    def state(self) -> Float64:
        """Hand out the state."""
        head = [self._count, self._mean, self._squares, *self._start, self.drifted, self.last_block]
        return np.concatenate([head, self._own.state(), self._level.state(), self._adwin.state()])

    def take(self, state: Float64) -> None:
        """Go on from a state of `state`."""
        self._count, self._mean, self._squares = int(state[0]), float(state[1]), float(state[2])
        self._start = state[3:5].copy()
        self.drifted, self.last_block = bool(state[5]), int(state[6])
        size = len(self._own.state())
        rest = state[_OWN_FIELDS:]
        self._own.take(rest[:size])
        self._level.take(rest[size : 2 * size])
        self._adwin.take(rest[2 * size :])


def _limited(value: float) -> float:
    return min(max(value, -MOST), MOST)
