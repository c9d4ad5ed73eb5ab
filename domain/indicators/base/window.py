"""Windows of the newest values, oldest first, recomputed at every candle.

Nothing is added to and subtracted from a running sum: such a sum carries the rounding of all that ever passed
through it. Sums run in an order fixed by age, so a window gives the same bits wherever history starts. They
are taken about the newest value, so a flat window has a spread of exactly zero.
"""

from __future__ import annotations

import math

from domain.indicators.base.compiled import compiled
from schemas.frames import Float64


@compiled
def push(window: Float64, value: float) -> None:
    """Drop the oldest value and take in the newest."""
    last = len(window) - 1
    for i in range(last):
        window[i] = window[i + 1]
    window[last] = value


@compiled
def total(window: Float64) -> float:
    """Add up; four sums side by side keep the processor busy."""
    n = len(window)
    even = n - n % 4
    a = b = c = d = 0.0
    for i in range(0, even, 4):
        a += window[i]
        b += window[i + 1]
        c += window[i + 2]
        d += window[i + 3]
    for i in range(even, n):
        a += window[i]
    return (a + b) + (c + d)


@compiled
def moments(window: Float64) -> tuple[float, float]:
    """Compute the mean distance from the newest value, and the sum of squares about the mean."""
    n = len(window)
    newest = window[n - 1]
    even = n - n % 2
    s0 = s1 = q0 = q1 = 0.0
    for i in range(0, even, 2):
        d0 = window[i] - newest
        d1 = window[i + 1] - newest
        s0 += d0
        s1 += d1
        q0 += d0 * d0
        q1 += d1 * d1
    for i in range(even, n):
        d0 = window[i] - newest
        s0 += d0
        q0 += d0 * d0
    distance = s0 + s1
    return distance / n, max(0.0, (q0 + q1) - distance * distance / n)


@compiled
def sample_deviation(window: Float64) -> float:
    """Compute the standard deviation, with n - 1."""
    return math.sqrt(moments(window)[1] / (len(window) - 1))
