"""ADWIN: tells that the mean of a bounded sequence has changed, at whatever time scale."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from schemas.frames import Float64

#: Buckets of one size before the two oldest of them are merged.
MOST_OF_A_SIZE = 5
#: A window is split so that each part has at least this many values.
LEAST_PART = 5


@dataclass(slots=True)
class _Bucket:
    size: int
    total: float
    #: Sum of squared deviations from the bucket's mean.
    spread: float


class Adwin:
    """Keeps a window of values that shrinks when its older and newer part differ in their mean.

    The window is held as buckets of 1, 2, 4, ... values, so it costs the logarithm of its length. Two parts
    with n0 and n1 values differ if their means lie further apart than

        sqrt(2 v l / m) + 2 l / (3 m),  l = ln(2 ln(n) / error_rate),  1/m = 1/(n0 - 4) + 1/(n1 - 4)

    where v is the variance of the whole window of n values.

    Parameters
    ----------
    error_rate
        Bound on the chance of a false alarm at one look; a smaller one makes it slower.
    every
        Looks are made at every so many values.
    warm_up
        No look before the window has more than so many values.

    Attributes
    ----------
    rose
        Whether the newer part of the last change was the higher one.

    References
    ----------
    A. Bifet, R. Gavalda: Learning from time-changing data with adaptive windowing. SIAM International
    Conference on Data Mining (2007).
    """

    def __init__(self, *, error_rate: float = 0.002, every: int = 32, warm_up: int = 10) -> None:
        if not 0 < error_rate < 1 or every < 1:
            raise ValueError(f"error_rate={error_rate} must be in (0, 1) and every={every} at least 1")
        self._error_rate, self._every, self._warm_up = error_rate, every, warm_up
        #: By size; within one size from old to new.
        self._levels: list[list[_Bucket]] = [[]]
        self._width = 0
        self._total = 0.0
        self._spread = 0.0
        self._ticks = 0
        self.rose = False

    @property
    def width(self) -> int:
        """Count the values in the window."""
        return self._width

    @property
    def mean(self) -> float:
        """Give the mean of the window; 0 while it is empty."""
        return self._total / self._width if self._width else 0.0

    def update(self, value: float) -> bool:
        """Take in a value and tell whether the mean has changed."""
        if self._width:
            self._spread += self._width * (value - self.mean) ** 2 / (self._width + 1)
        self._width += 1
        self._total += value
        self._levels[0].append(_Bucket(1, value, 0.0))
        self._merge()
        self._ticks += 1
        changed = False
        if self._ticks % self._every == 0 and self._width > self._warm_up:
            while self._differs():
                self._drop_oldest()
                changed = True
        return changed

    def _merge(self) -> None:
        """Merge the two oldest buckets of each size that there are too many of."""
        for k, level in enumerate(self._levels):
            if len(level) <= MOST_OF_A_SIZE:
                return
            one, two = level[0], level[1]
            del level[:2]
            apart = one.total / one.size - two.total / two.size
            spread = one.spread + two.spread + one.size * two.size * apart**2 / (one.size + two.size)
            if k + 1 == len(self._levels):
                self._levels.append([])
            self._levels[k + 1].append(_Bucket(one.size + two.size, one.total + two.total, spread))

    def _oldest_first(self) -> Iterator[_Bucket]:
        for level in reversed(self._levels):
            yield from level

    def _differs(self) -> bool:
        """Look for a place where the window falls into two different parts."""
        old_size, old_total = 0, 0.0
        needed = math.log(2.0 * math.log(self._width) / self._error_rate)
        # Of equal values, rounding may leave less than nothing.
        variance = max(self._spread, 0.0) / self._width
        for bucket in self._oldest_first():
            old_size += bucket.size
            old_total += bucket.total
            new_size = self._width - old_size
            if new_size < LEAST_PART:
                return False
            if old_size < LEAST_PART:
                continue
            apart = old_total / old_size - (self._total - old_total) / new_size
            inverse = 1.0 / (old_size - LEAST_PART + 1) + 1.0 / (new_size - LEAST_PART + 1)
            if abs(apart) > math.sqrt(2.0 * inverse * variance * needed) + 2.0 / 3.0 * needed * inverse:
                self.rose = apart < 0.0
                return True
        return False

    def _drop_oldest(self) -> None:
        oldest = self._levels[-1].pop(0)
        self._width -= oldest.size
        self._total -= oldest.total
        apart = oldest.total / oldest.size - self._total / self._width
        self._spread -= oldest.spread + oldest.size * self._width * apart**2 / (oldest.size + self._width)
        while len(self._levels) > 1 and not self._levels[-1]:
            self._levels.pop()

    def state(self) -> Float64:
        """Hand out the state: some numbers, then three for each bucket."""
        head = [self._width, self._total, self._spread, self._ticks, self.rose]
        buckets = [[bucket.size, bucket.total, bucket.spread] for bucket in self._oldest_first()]
        return np.array([*head, *(number for bucket in buckets for number in bucket)], np.float64)

    def take(self, state: Float64) -> None:
        """Go on from a state of `state`."""
        self._width, self._ticks, self.rose = int(state[0]), int(state[3]), bool(state[4])
        self._total, self._spread = float(state[1]), float(state[2])
        buckets = [_Bucket(int(size), float(t), float(s)) for size, t, s in state[5:].reshape(-1, 3)]
        self._levels = [[] for _ in range(max((b.size.bit_length() for b in buckets), default=1))]
        for bucket in buckets:
            self._levels[bucket.size.bit_length() - 1].append(bucket)
