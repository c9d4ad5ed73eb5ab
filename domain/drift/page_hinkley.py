"""Page-Hinkley: tells that the mean of a sequence has risen."""

from __future__ import annotations

import numpy as np

from schemas.frames import Float64

_FIELDS = 5


class PageHinkley:
    """Sums up how far values lie above their mean so far, and tells when the sum has risen by a threshold.

    With m_t the mean of the first t values: S_t = decay * S_(t-1) + (x_t - m_t - tolerance), and the alarm is
    S_t - min(S_1..S_t) > threshold, from `warm_up` values on. With `against`, that number stands in the place
    of the mean: the question then is not "worse than before" but "worse than this".

    Parameters
    ----------
    tolerance
        Rise of the mean that is of no interest, in units of the values.
    threshold
        Height of the sum that is an alarm, in the same units.
    warm_up
        Values before which there is no alarm.
    decay
        Share of the sum that is left after each value; 1 forgets nothing.
    against
        A fixed level to compare with; None for the mean of the values so far.

    References
    ----------
    E. S. Page: Continuous inspection schemes. Biometrika 41 (1954). D. Hinkley: Inference about the
    change-point from cumulative sum tests. Biometrika 58 (1971).
    """

    def __init__(
        self,
        *,
        tolerance: float,
        threshold: float,
        warm_up: int = 0,
        decay: float = 1.0,
        against: float | None = None,
    ) -> None:
        if threshold <= 0 or tolerance < 0 or not 0 < decay <= 1:
            raise ValueError(
                f"threshold={threshold} must be positive, tolerance={tolerance} not negative and"
                f" decay={decay} in (0, 1]"
            )
        self._tolerance, self.threshold = tolerance, threshold
        self._warm_up, self._decay, self._against = warm_up, decay, against
        self._count = 0
        self._mean = 0.0
        self._sum = 0.0
        self._least = np.inf
        self.statistic = 0.0

    def update(self, value: float) -> bool:
        """Take in a value and tell whether the mean has risen."""
        self._count += 1
        self._mean += (value - self._mean) / self._count
        level = self._mean if self._against is None else self._against
        self._sum = self._decay * self._sum + (value - level - self._tolerance)
        # Against a fixed level the first value counts as a rise too: there is a level before it.
        floor = 0.0 if self._against is not None else np.inf
        self._least = min(self._least, self._sum, floor)
        self.statistic = self._sum - self._least
        return self._count >= self._warm_up and self.statistic > self.threshold

    def state(self) -> Float64:
        """Hand out the state, a few numbers."""
        return np.array([self._count, self._mean, self._sum, self._least, self.statistic])

    def take(self, state: Float64) -> None:
        """Go on from a state of `state`."""
        if state.shape != (_FIELDS,):
            raise ValueError(f"a state of Page-Hinkley has {_FIELDS} numbers, this one {state.shape}")
        self._count = int(state[0])
        self._mean, self._sum, self._least, self.statistic = (float(value) for value in state[1:])
