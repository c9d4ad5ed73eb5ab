"""The two-sample Kolmogorov-Smirnov test for samples whose values hang together.

Its p-value holds for independent values. Minutes are not: a day of a slow feature says little more than one
value does. So the samples count with their effective size, found from how much days differ (see
`effective_size`), the design effect of a sample that is drawn in clusters (L. Kish, Survey Sampling, 1965).
"""

from __future__ import annotations

from math import sqrt

import numpy as np
from scipy.special import kolmogi, kolmogorov

from schemas.frames import Float64

#: Variance of a rank that is evenly spread over 0..1.
_EVEN = 1.0 / 12.0


def distance(reference: Float64, current: Float64) -> Float64:
    """Give the greatest distance of two distribution functions, along the last axis."""
    found: Float64 = np.abs(reference - current).max(axis=-1)
    return found


def effective_size(mean_ranks: Float64, most: float) -> float:
    """Tell for how many independent values one block counts.

    Parameters
    ----------
    mean_ranks
        Mean rank of each block's values among those of all blocks, 0..1. If values were independent, these
        means would vary by 1/12 over their number; the number for which that fits is the effective one.
    most
        No more than this.
    """
    between = float(np.var(mean_ranks, ddof=1)) if len(mean_ranks) > 1 else 0.0
    return float(np.clip(_EVEN / between, 1.0, most)) if between > 0.0 else most


def p_value(d: float, size: float) -> float:
    """Give the chance of a distance of at least `d` by Kolmogorov's limit law.

    Parameters
    ----------
    d
        The distance.
    size
        n m / (n + m) of the two effective sizes. The law is on the safe side where it is small.
    """
    return float(kolmogorov(d * sqrt(size)))


def critical_distance(error_rate: float, size: float) -> float:
    """Give the distance that is exceeded by chance with this probability; see `p_value`."""
    return float(kolmogi(error_rate)) / sqrt(size)
