"""Time a piece of work, and say what a list of times holds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

#: The work is repeated so often, and for at least so long; the best counts, as it was disturbed least.
TIMES = 5
AT_LEAST_S = 0.5
_NEVER_MORE_THAN = 1_000


def best_us(work: Callable[[], int], *, times: int = TIMES, at_least_s: float = AT_LEAST_S) -> float:
    """Give the microseconds for each item that `work` says it has done; its first call only warms up.

    It is processor time of this thread, so that whatever else the machine does is not counted in.
    """
    work()
    best = math.inf
    began = time.perf_counter()
    for turn in range(_NEVER_MORE_THAN):
        started = time.thread_time()
        done = work()
        best = min(best, (time.thread_time() - started) / done)
        if turn + 1 >= times and time.perf_counter() - began >= at_least_s:
            break
    return best * 1e6


def quantile(values: Sequence[float], share: float) -> float | None:
    """Give the value below which a share of the others lie, between neighbours on a straight line."""
    if not values:
        return None
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def slope(times: Sequence[float], values: Sequence[float]) -> float | None:
    """Fit a straight line by least squares and give its rise for one unit of time."""
    if len(times) < 2:
        return None
    middle, mean = sum(times) / len(times), sum(values) / len(values)
    spread = sum((t - middle) ** 2 for t in times)
    if spread == 0:
        return None
    return sum((t - middle) * (v - mean) for t, v in zip(times, values, strict=True)) / spread
