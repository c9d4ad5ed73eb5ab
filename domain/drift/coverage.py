"""Watches how often outcomes fall outside an interval, a value a block of time, until it holds again.

An interval of level 1 - alpha may be missed by a share of alpha. The value of a block is the share that
missed it less alpha; what is asked is whether that has come to lie above 0 for good. Unlike a model, which
stays what it is until another one serves, an interval adapts: so a drift of coverage may be over. It is once
`OVER_BLOCKS` blocks together have missed no more than they may; where they have not, it is told again.
"""

from __future__ import annotations

from enum import IntEnum
from math import sqrt

import numpy as np

from domain.drift.adwin import Adwin
from domain.drift.page_hinkley import PageHinkley
from domain.drift.watch import LEARNING_BLOCKS, MOST, TOLERANCE, Detector
from schemas.frames import Float64

#: After a drift, blocks that are looked at together to see whether it is over.
OVER_BLOCKS = 12
_OWN_FIELDS = 6


class News(IntEnum):
    """What a block has brought."""

    NONE = 0
    #: The interval has begun to miss too often, or still does.
    DRIFTED = 1
    #: It holds again.
    OVER = 2


class CoverageWatch:
    """A detector for the misses of one interval.

    Values are put into units of their spread so far, which is never taken for less than that of independent
    outcomes: where nothing has been missed for long, the first misses are no alarm.

    Parameters
    ----------
    detector, threshold, error_rate
        As of `domain.drift.watch.Watch`.

    Attributes
    ----------
    drifted
        From the block that shows it until it is over.
    """

    def __init__(
        self, *, detector: Detector = "page_hinkley", threshold: float = 16.0, error_rate: float = 0.002
    ) -> None:
        self._detector, self._threshold, self._error_rate = detector, threshold, error_rate
        self._count = 0
        self._mean = 0.0
        self._squares = 0.0
        self.drifted = False
        #: Since the drift was last told: blocks, and their sum in units.
        self._since, self._sum = 0, 0.0
        self._begin()

    def _begin(self) -> None:
        self._level = PageHinkley(tolerance=TOLERANCE, threshold=self._threshold, against=0.0)
        self._adwin = Adwin(error_rate=self._error_rate, every=1)

    @property
    def threshold(self) -> float:
        """Give what `statistic` is compared with."""
        return self._threshold if self._detector == "page_hinkley" else MOST

    @property
    def statistic(self) -> float:
        """Tell how much speaks for a drift.

        Page-Hinkley's sum; of ADWIN, how far the mean of its window lies above the share that may miss, in
        standard deviations.
        """
        if self._detector == "page_hinkley":
            return self._level.statistic
        return 2.0 * MOST * (self._adwin.mean - 0.5) if self._adwin.width else 0.0

    def update(self, missed: float, *, alpha: float, outcomes: float) -> News:
        """Take in a block and tell whether it is news.

        Parameters
        ----------
        missed
            Share of the outcomes that missed the interval.
        alpha
            Share that may.
        outcomes
            How many independent ones there are at most.
        """
        value = missed - alpha
        news = News.NONE
        if self._count >= LEARNING_BLOCKS:
            spread = sqrt(max(self._squares / (self._count - 1), alpha * (1.0 - alpha) / outcomes))
            news = self._look(min(max(value / spread, -MOST), MOST))
        self._count += 1
        before = self._mean
        self._mean += (value - before) / self._count
        self._squares += (value - before) * (value - self._mean)
        return news

    def _look(self, unit: float) -> News:
        if self.drifted:
            return self._is_over(unit)
        if self._detector == "adwin":
            rose = self._adwin.update(0.5 + unit / (2.0 * MOST)) and self._adwin.rose
            found = rose and self._adwin.mean > 0.5
        else:
            found = self._level.update(unit)
        if not found:
            return News.NONE
        self.drifted = True
        return News.DRIFTED

    def _is_over(self, unit: float) -> News:
        self._since += 1
        self._sum += unit
        if self._since < OVER_BLOCKS:
            return News.NONE
        held = self._sum <= TOLERANCE * self._since
        self._since, self._sum = 0, 0.0
        if not held:
            return News.DRIFTED
        self.drifted = False
        self._begin()
        return News.OVER

    def state(self) -> Float64:
        """Hand out the state."""
        head = [self._count, self._mean, self._squares, self.drifted, self._since, self._sum]
        return np.concatenate([head, self._level.state(), self._adwin.state()])

    def take(self, state: Float64) -> None:
        """Go on from a state of `state`."""
        self._count, self._mean, self._squares = int(state[0]), float(state[1]), float(state[2])
        self.drifted, self._since, self._sum = bool(state[3]), int(state[4]), float(state[5])
        size = len(self._level.state())
        self._level.take(state[_OWN_FIELDS : _OWN_FIELDS + size])
        self._adwin.take(state[_OWN_FIELDS + size :])
